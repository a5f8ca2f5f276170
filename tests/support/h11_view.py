"""Requests as h11 understands them, beside our own view."""

from __future__ import annotations

from typing import NamedTuple

import h11

from appd.http.core.connection import END, NEED_DATA, PAUSED
from appd.http.core.errors import Refused
from appd.http.core.request import Request
from support.http1 import LIMITS, connection

__all__ = ["TAKEN", "Seen", "by_h11", "by_us", "differ"]


class Seen(NamedTuple):
    """A request as somebody understood it; trailers with it."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]]


def by_us(data: bytes) -> Seen | str:
    """What the core makes of the first request: a request, `wait`, or the status and the reason."""
    one, body = connection(LIMITS), b""
    one.receive(data)
    try:
        request = one.next()
        if request is NEED_DATA:
            return "wait"
        assert isinstance(request, Request)
        fields = list(request.fields)
        if request.length != 0:
            while (event := one.next()) is not END:
                if event is NEED_DATA:
                    return "wait"
                body += event
        assert one.next() is PAUSED
    except Refused as refused:
        return f"{refused.status} {refused.reason}"
    return Seen(request.method, request.target, fields, body, list(request.trailers))


def by_h11(data: bytes) -> Seen | str:
    """What h11 makes of it: a request, `wait`, or `refused` and why."""
    one, body, request = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000), b"", None
    one.receive_data(data)
    try:
        while True:
            event = one.next_event()
            if event is h11.NEED_DATA:
                return "wait"
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return "wait"
    except h11.RemoteProtocolError as error:
        return f"refused {error}"
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
    trailers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
    return Seen(request.method.decode(), request.target.decode(), pairs, body, trailers)


# What h11 refuses and we take, with the reason: part of h11's words → (whether a request is of that kind, why).
TAKEN = {
    "no request line received": (
        lambda data: data.startswith(b"\r\n"),
        "one empty line before a request line is to be forgiven (RFC 9112, 2.2)",
    ),
}


def as_we_have_it(theirs: Seen, ours: Seen) -> Seen:
    """h11's view with the two things that are written down otherwise here."""
    fields = list(theirs.fields)
    for place, (name, value) in enumerate(fields):
        if name == "transfer-encoding":
            # h11 hands it on in lower case; here it is as it was sent.
            fields[place] = (name, dict(ours.fields)[name] if dict(ours.fields)[name].lower() == value else value)
        if name == "host" and ours.target.lower().startswith("http"):
            # RFC 9112, 3.2.2: an absolute target's host replaces Host, which h11 leaves to its user.
            fields[place] = (name, ours.target.partition("://")[2].partition("/")[0].partition("?")[0])
    return theirs._replace(fields=fields)


def differ(data: bytes) -> tuple[Seen, Seen | str] | None:
    """Our view and h11's of a request that we take, where they differ and no table says why."""
    ours, theirs = by_us(data), by_h11(data)
    if isinstance(ours, str):
        # We may be stricter; the corpora say where.
        return None
    if isinstance(theirs, Seen):
        return None if ours == as_we_have_it(theirs, ours) else (ours, theirs)
    listed = any(words in theirs and of_that_kind(data) for words, (of_that_kind, _why) in TAKEN.items())
    return None if listed else (ours, theirs)
