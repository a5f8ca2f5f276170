"""Heads of requests, read by the core of appd, for what answers them."""

from __future__ import annotations

from appd.http.core.connection import Connection
from appd.http.core.date import Origin
from appd.http.core.limits import Limits
from appd.http.core.request import Request

__all__ = ["head"]


def head(target: str = "/", method: str = "GET", **fields: str) -> Request:
    """A request; `If_None_Match` is the field If-None-Match."""
    lines = [f"{method} {target} HTTP/1.1", "Host: example.com"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    connection = Connection(Limits(), Origin())
    connection.receive("".join(f"{one}\r\n" for one in (*lines, "")).encode("latin-1"))
    request = connection.next()
    assert isinstance(request, Request)
    return request
