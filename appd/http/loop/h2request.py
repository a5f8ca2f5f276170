"""The head of a request of HTTP/2 → a `Request`: RFC 9113, 8.3.

It is written down as HTTP/1.1 has it, and read by the core. So both versions are as
strict, and an application cannot tell them apart. No sockets here.
"""

from __future__ import annotations

from collections.abc import Iterable

from appd.http.errors import Refused
from appd.http.head import read_head
from appd.http.limits import Limits
from appd.http.request import Request

__all__ = ["read_fields"]

_PSEUDO = frozenset({":method", ":scheme", ":authority", ":path"})


def read_fields(fields: Iterable[tuple[bytes | str, bytes | str]], limits: Limits, *, ended: bool) -> Request:
    """Reads a head.

    Args:
        fields: Names and values as h2 gives them.
        limits: What a request may take.
        ended: Whether no body follows.

    Raises:
        Refused: It is no request, or more than it may be.
    """
    pseudo: dict[str, str] = {}
    lines: list[str] = []
    cookies: list[str] = []
    host = None
    size = 0
    for raw_name, raw_value in fields:
        name, value = _text(raw_name), _text(raw_value)
        if any(one in value or one in name for one in "\r\n\0"):
            raise Refused(400, "a line break or a NUL in a field")
        if name.startswith(":"):
            if name not in _PSEUDO or name in pseudo or lines:
                raise Refused(400, f"the pseudo field {name} is unknown, double or too late")
            pseudo[name] = value
            continue
        if name == "host":
            if host is not None:
                raise Refused(400, "a second Host")
            host = value
            continue
        if name == "cookie":
            # RFC 9113, 8.2.3: they may come in crumbs.
            cookies.append(value)
            continue
        lines.append(f"{name}: {value.strip()}")
        size += len(lines[-1]) + 2
    if cookies:
        lines.append(f"cookie: {'; '.join(cookies)}")
        size += len(lines[-1]) + 2
    method, path = pseudo.get(":method", ""), pseudo.get(":path", "")
    if not method or not pseudo.get(":scheme") or " " in path or " " in method:
        raise Refused(400, "a pseudo field is missing or has a space")
    authority = pseudo.get(":authority", host)
    if host is not None and host != authority:
        raise Refused(400, "Host and :authority differ")
    if authority is not None:
        lines.insert(0, f"host: {authority}")
        size += len(lines[0]) + 2
    first = f"{method} {path} HTTP/1.1"
    request = read_head([first, *lines], size + len(first) + 2, limits)
    request.expects_continue = False
    if ended:
        request.length = 0
    elif "content-length" not in request.named:
        request.length = None
    return request


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
