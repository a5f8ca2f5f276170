"""How many connections a process takes at once of those that several processes wait for.

The kernel wakes everybody who waits for a listening socket, and whoever keeps up with the connections as they come has
them all before the others are on a processor: of 64 connections within two milliseconds one of two workers had 63, and
kept them for as long as they were kept alive. So whoever has had its portion leaves the socket alone for a moment, in
which the others, who are awake by then, take theirs.

The moment is there to share, not to wait: when connections still wait at the end of two in a row, which is longer than
the kernel lets a busy client run on before it gives the others its processor, the next portion is twice as large. It is
small again when nothing waited, and after a lull.
"""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Portion"]

# How long the socket is left to the others, in seconds: the least that the timers of all drivers can do, and some times
# what it takes to wake a process.
_REST = 0.001
# What is taken in so many seconds counts as one portion.
_SPAN = 0.001
_LEAST, _MOST = 4, 1024
# Without a connection for so many seconds, all begin anew.
_LULL = 0.02


class Portion:
    """What this process takes of one listening socket.

    Args:
        clock: The time, in seconds.
        rest: How long the socket is left to the others, in seconds.

    Attributes:
        rest: As given.
        size: How many connections a portion has.
    """

    __slots__ = ("_began", "_clock", "_last", "_missed", "_taken", "rest", "size")

    def __init__(self, clock: Callable[[], float] = time.monotonic, rest: float = _REST) -> None:
        self.rest = rest
        self.size = _LEAST
        self._clock = clock
        self._taken = 0
        # Whether connections still waited the last time.
        self._missed = False
        self._began = self._last = float("-inf")

    def take(self) -> bool:
        """Counts a connection that was accepted.

        Returns:
            Whether that is enough: the socket is to be left alone for `rest` seconds, and then `begin` is called.
        """
        now = self._clock()
        if now - self._last > _LULL:
            self.size, self._missed = _LEAST, False
        if now - self._began > _SPAN:
            self._began, self._taken = now, 0
        self._last = now
        self._taken += 1
        return self._taken >= self.size

    def begin(self, fd: int) -> None:
        """Begins the next portion.

        Args:
            fd: The listening socket.
        """
        queue = select.poll()
        queue.register(fd, select.POLLIN)
        if not queue.poll(0):
            self.size, self._missed = _LEAST, False
        elif self._missed:
            self.size, self._missed = min(2 * self.size, _MOST), False
        else:
            self._missed = True
        self._began = self._last = self._clock()
        self._taken = 0
