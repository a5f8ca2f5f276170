"""The frames that most messages are: whole, of one piece, small and not compressed. RFC 6455, 5.2.

wsproto reads every frame as it should be read, and takes most of the time of an echo. Whatever is different in any way
(fragments, control frames, extensions, a bit that is not 0, text that is not UTF-8) goes to wsproto as it came, so that
there is one judge of what is wrong.
"""

from __future__ import annotations

__all__ = ["Cutter", "simple_frame"]

_TEXT, _BINARY = 1, 2
# Of longer ones the unmasking takes the time, and wsproto is good at it.
_LONGEST = 4096


class Cutter:
    """Cuts what comes into messages that are simple, and the rest.

    Attributes:
        pending: Bytes of a frame that have not come yet, which the rest begins with.
        open: Whether a message in fragments has begun.
    """

    __slots__ = ("_head", "open", "pending")

    def __init__(self) -> None:
        self.pending = 0
        self.open = False
        self._head = b""

    def cut(self, data: bytes) -> list[str | bytes | memoryview]:
        """Takes bytes.

        Returns:
            In order: a str or bytes for a message, a memoryview for what wsproto has to read.
        """
        found: list[str | bytes | memoryview] = []
        if self._head:
            data, self._head = self._head + data, b""
        view, at, end = memoryview(data), 0, len(data)
        if self.pending:
            at = min(self.pending, end)
            self.pending -= at
            found.append(view[:at])
        while at < end:
            if end - at < 14 and end - at < _head_size(data, at, end):
                # Not even the head is there; it comes again with what follows.
                self._head = data[at:]
                break
            first, second = data[at], data[at + 1]
            length, start = _length(data, at)
            start += at + (4 if second & 0x80 else 0)
            stop = start + length
            message = None
            simple = first in (0x81, 0x82) and second & 0x80 and length <= _LONGEST and stop <= end and not self.open
            # A length that is not written as shortly as it can be is for wsproto to refuse.
            if simple and second & 0x7F == min(length, 126):
                message = _unmask(data[start - 4 : start], data[start:stop])
                if first == 0x81:
                    try:
                        found.append(message.decode())
                    except UnicodeDecodeError:
                        message = None
                else:
                    found.append(message)
            if message is None:
                if first & 0x0F <= _BINARY:
                    self.open = not first & 0x80
                found.append(view[at : min(stop, end)])
                self.pending = max(0, stop - end)
            at = stop
        return found


def _head_size(data: bytes, at: int, end: int) -> int:
    if end - at < 2:
        return 2
    size = data[at + 1] & 0x7F
    return 2 + (2 if size == 126 else 8 if size == 127 else 0) + (4 if data[at + 1] & 0x80 else 0)


def _length(data: bytes, at: int) -> tuple[int, int]:
    """The length of a payload, and where its mask begins, from the beginning of the frame."""
    size = data[at + 1] & 0x7F
    if size < 126:
        return size, 2
    if size == 126:
        return int.from_bytes(data[at + 2 : at + 4], "big"), 4
    return int.from_bytes(data[at + 2 : at + 10], "big"), 10


def _unmask(mask: bytes, payload: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def simple_frame(kind: int, payload: bytes) -> bytes:
    """A whole message as the server sends it, without extensions.

    Args:
        kind: 1 for text, 2 for bytes.
        payload: The payload.
    """
    size = len(payload)
    if size < 126:
        return bytes((0x80 | kind, size)) + payload
    if size < 65536:
        return bytes((0x80 | kind, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | kind, 127)) + size.to_bytes(8, "big") + payload
