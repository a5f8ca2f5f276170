"""Small writes, put together: a record of TLS and a packet each cost more than all that a protocol says in one go.

What is written while data is received waits until all that data is taken, which is at once; what is written at another
time waits for the reactor's next turn. Twisted's own transports have each wait for a turn, from 22.8 on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Gathered"]

# From so many bytes on nothing waits, as with Twisted's.
_MOST = 64000


class Gathered:
    """What one connection has written and not sent yet.

    Args:
        send: What takes the bytes.
        clock: The reactor.

    Attributes:
        receiving: Whether data is being received; whoever sets it calls `flush` at its end.
    """

    __slots__ = ("_clock", "_left", "_parts", "_scheduled", "_send", "receiving")

    def __init__(self, send: Callable[[bytes], object], clock: Any) -> None:
        self._send: Callable[[bytes], object] | None = send
        self._clock = clock
        self._parts: list[bytes] = []
        self._left = _MOST
        self._scheduled: Any = None
        self.receiving = False

    def write(self, data: bytes) -> None:
        """Takes bytes.

        Raises:
            TypeError: They are none.
        """
        if self._send is None:
            return
        self._parts.append(data + b"")
        self._left -= len(data)
        if self._left < 0:
            self.flush()
        elif not self.receiving and self._scheduled is None:
            self._scheduled = self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._scheduled = None
        self.flush()

    def flush(self) -> bool:
        """Sends all that waits.

        Returns:
            Whether there was anything.
        """
        parts = self._parts
        if not parts or self._send is None:
            return False
        self._parts = []
        self._left = _MOST
        self._send(parts[0] if len(parts) == 1 else b"".join(parts))
        return True

    def close(self) -> None:
        """Sends all that waits, and takes nothing more."""
        self.flush()
        self._send = None
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
