"""The head of a request of HTTP/2 → a `Request`: RFC 9113, 8.3.

It is written down as HTTP/1.1 has it, and read by the core. So both versions are as strict, and an application cannot
tell them apart.
"""

from __future__ import annotations

from appd.http.core.errors import Refused
from appd.http.core.head import read_head
from appd.http.core.limits import Limits
from appd.http.core.request import Request
from appd.http.h2.blocks import Head

__all__ = ["read_request"]


def read_request(head: Head, limits: Limits, *, ended: bool) -> Request:
    """Reads a head.

    Args:
        head: What has come; well-formed, see `fields.check_request`.
        limits: What a request may take.
        ended: Whether no body follows. Then the request is shared with those that come with the same head: nobody
            changes it.

    Raises:
        Refused: It is no request, or more than it may be.
    """
    made = head.made
    if made is None:
        made = head.made = _read(head, limits)
        # RFC 9110, 10.1.1; the core looks at it only where it sees that there is a body.
        made.expects_continue = False
        if ended:
            made.length = 0
    assert isinstance(made, Request)
    if ended and made.length == 0:
        return made
    request = _copy(made)
    request.expects_continue = not ended and request.named.get("expect", "").lower() == "100-continue"
    if ended:
        request.length = 0
    elif "content-length" in request.named:
        # It was checked with the head.
        request.length = head.length
    else:
        request.length = None
    return request


def _copy(one: Request) -> Request:
    """The same request for whoever may change it: one with a body gets trailers."""
    aim = one.authority, one.host, one.path, one.query
    made = Request(one.method, one.target, one.minor, one.fields, one.named, aim)
    made.keep_alive = one.keep_alive
    return made


def _read(head: Head, limits: Limits) -> Request:
    pseudo: dict[str, str] = {}
    lines: list[str] = []
    cookies: list[str] = []
    host = None
    size = 0
    for raw_name, raw_value in head.fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name[0] == ":":
            pseudo[name] = value
        elif name == "host":
            if host is not None:
                raise Refused(400, "a second Host")
            host = value
        elif name == "cookie":
            # RFC 9113, 8.2.3: they may come in crumbs.
            cookies.append(value)
        else:
            line = f"{name}: {value}"
            lines.append(line)
            size += len(line) + 2
    if cookies:
        lines.append(f"cookie: {'; '.join(cookies)}")
        size += len(lines[-1]) + 2
    method = pseudo[":method"]
    if ":protocol" in pseudo:
        # RFC 8441, 5: what WebSocket's GET with Upgrade is in HTTP/1.1.
        method = "GET"
    path = pseudo[":authority"] if method == "CONNECT" else pseudo[":path"]
    if " " in path or " " in method:
        raise Refused(400, "a space in a pseudo-field")
    authority = pseudo.get(":authority", host)
    if host is not None and host != authority:
        raise Refused(400, "Host and :authority differ")
    if authority is not None:
        lines.insert(0, f"host: {authority}")
        size += len(lines[0]) + 2
    first = f"{method} {path} HTTP/1.1"
    return read_head([first, *lines], size + len(first) + 2, limits)
