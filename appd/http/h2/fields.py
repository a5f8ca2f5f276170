"""The rules for fields: RFC 9113, 8.2 and 8.3. What is against one is malformed, and its stream is reset (8.1.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from appd.http.h2.codes import Code
from appd.http.h2.faults import StreamFault

__all__ = ["check_request", "check_trailers", "content_length"]

Fields = Iterable[tuple[bytes, bytes]]

# 8.2.1 forbids less than RFC 9110, 5.6.2, whose token is what a name has to be.
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++\Z").match
# No NUL, CR, LF, and no space or tab at either end.
_VALUE = re.compile(rb"(?![\t ])[^\0\r\n]*+(?<![\t ])\Z").match
# 8.2.2.
_OF_THE_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
# 8.3.1; 8.5.
_REQUEST = frozenset({b":method", b":scheme", b":authority", b":path"})
_NEEDED = frozenset({b":method", b":scheme", b":path"})
_CONNECT = frozenset({b":method", b":authority"})
# RFC 8441, 4.
_EXTENDED = _NEEDED | {b":protocol"}
# Names that are well-formed and not of the connection. Whoever finds it full empties it.
_GOOD: set[bytes] = set()
_MOST, _LONGEST = 512, 64


def _malformed(reason: str) -> StreamFault:
    return StreamFault(Code.PROTOCOL_ERROR, reason)


def check_request(fields: Fields, *, tunnels: bool = False) -> bytes:
    """Looks at the fields of a request.

    Args:
        fields: The fields.
        tunnels: Whether we have said that CONNECT may name a protocol.

    Returns:
        The protocol that CONNECT names (RFC 8441); b"" for none.

    Raises:
        StreamFault: They are malformed.
    """
    pseudo: dict[bytes, bytes] = {}
    regular = False
    for name, value in fields:
        if name[:1] == b":":
            if name not in _REQUEST and not (tunnels and name == b":protocol"):
                raise _malformed(f"the pseudo-field {name!r} is none of a request")
            if name in pseudo or regular:
                raise _malformed(f"the pseudo-field {name!r} is there twice, or too late")
            pseudo[name] = value
            if _VALUE(value) is None:
                raise _malformed(f"the value of {name!r} has what it must not have")
        else:
            regular = True
            _check(name, value)
    protocol = pseudo.get(b":protocol", b"")
    if b":protocol" in pseudo:
        if pseudo.get(b":method") != b"CONNECT" or not pseudo.keys() >= _EXTENDED or not all(pseudo.values()):
            raise _malformed("a protocol without CONNECT, or without :scheme and :path")
    elif pseudo.get(b":method") == b"CONNECT":
        if pseudo.keys() != _CONNECT:
            raise _malformed("CONNECT with other pseudo-fields than :authority")
    elif not pseudo.keys() >= _NEEDED or not all(pseudo[one] for one in _NEEDED):
        raise _malformed("a pseudo-field is missing or empty")
    return protocol


def check_trailers(fields: Fields) -> None:
    """Looks at the fields that follow a body: 8.1.

    Raises:
        StreamFault: They are malformed.
    """
    for name, value in fields:
        _check(name, value)


def _check(name: bytes, value: bytes) -> None:
    if name not in _GOOD:
        if _NAME(name) is None:
            raise _malformed(f"{name!r} is no name of a field")
        if name in _OF_THE_CONNECTION:
            raise _malformed(f"{name!r} is of the connection, which HTTP/2 has frames for")
        if len(name) <= _LONGEST and name != b"te":
            if len(_GOOD) >= _MOST:
                _GOOD.clear()
            _GOOD.add(name)
    if _VALUE(value) is None:
        raise _malformed(f"the value of {name!r} has what it must not have")
    if name == b"te" and value.lower() != b"trailers":
        raise _malformed("te is other than trailers")


def content_length(fields: Fields) -> int:
    """How long the body is to be, -1 where that is not said: 8.1.1.

    Raises:
        StreamFault: It is said twice, or is no number.
    """
    found = [value for name, value in fields if name == b"content-length"]
    if not found:
        return -1
    if len(found) > 1 or not found[0].isdigit() or len(found[0]) > 18:
        raise _malformed("Content-Length is no number of bytes")
    return int(found[0])
