"""Where the records of TLS end in what is received: RFC 8446, 5.1.

OpenSSL says that it has nothing more by an error, which costs more than to see here that nothing more can be there.
"""

from __future__ import annotations

__all__ = ["Framing"]

_HEAD = 5


class Framing:
    """The records of one direction of a connection, from its first byte on."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._left = 0
        self._head = b""

    def is_one(self, data: bytes) -> bool:
        """Whether what was received is exactly one record. Every piece is to be shown, in order.

        Args:
            data: The piece.
        """
        length = len(data)
        if not self._left and not self._head and length > _HEAD and length - _HEAD == data[3] << 8 | data[4]:
            return True
        self._pass(data)
        return False

    def _pass(self, data: bytes) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                continue
            need = _HEAD - len(self._head)
            self._head += data[at : at + need]
            at += need
            if len(self._head) == _HEAD:
                self._left = self._head[3] << 8 | self._head[4]
                self._head = b""
