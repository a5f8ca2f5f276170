"""Frames that are sent, and the head that every frame has: RFC 9113, 4.1 and 6."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from appd.http.h2.codes import Code, Flag, Frame

__all__ = ["HEAD", "HEAD_SIZE", "frame", "goaway", "head_of", "ping_answer", "reset", "settings", "window_update"]

HEAD = struct.Struct(">BHBBL")
"""Length (its first byte, and the other two), type, flags, stream."""
HEAD_SIZE = 9
_PACK = HEAD.pack
_NUMBER = struct.Struct(">L").pack
_SETTING = struct.Struct(">HL").pack


def head_of(kind: int, flags: int, stream: int, size: int) -> bytes:
    """The head of a frame.

    Args:
        kind: Its type.
        flags: Its flags.
        stream: Its stream; 0 for the connection.
        size: The bytes of what it carries.
    """
    return _PACK(size >> 16, size & 0xFFFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, data: bytes = b"") -> bytes:
    """A whole frame; arguments as those of `head_of`."""
    return head_of(kind, flags, stream, len(data)) + data


def reset(stream: int, code: Code) -> bytes:
    """RST_STREAM."""
    return frame(Frame.RST_STREAM, 0, stream, _NUMBER(code))


def window_update(stream: int, size: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(Frame.WINDOW_UPDATE, 0, stream, _NUMBER(size))


def goaway(last: int, code: Code, reason: str = "") -> bytes:
    """GOAWAY.

    Args:
        last: The last stream that is answered.
        code: Why.
        reason: The same for people, in ASCII.
    """
    return frame(Frame.GOAWAY, 0, 0, _NUMBER(last) + _NUMBER(code) + reason.encode("ascii", "replace"))


def ping_answer(data: bytes) -> bytes:
    """The answer to a PING."""
    return frame(Frame.PING, Flag.ACK, 0, data)


def settings(values: Iterable[tuple[int, int]] = (), *, acknowledges: bool = False) -> bytes:
    """SETTINGS.

    Args:
        values: Identifiers and values.
        acknowledges: Whether it is the answer to the client's.
    """
    return frame(Frame.SETTINGS, Flag.ACK if acknowledges else 0, 0, b"".join(_SETTING(*one) for one in values))
