"""Handshakes that must not last for ever: one timer for all of a server, as each may take the same time.

A timer for each is made and cancelled with every connection, which costs more than all else that Twisted does for one.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Handshakes"]


class Handshakes:
    """The connections of a server that have not shaken hands.

    Args:
        clock: The reactor.
        seconds: How long each may take.

    Resource handling: keeps a transport until `end`, or until it has cut it. A timer runs on for that long after the
    last handshake.
    """

    def __init__(self, clock: Any, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        # In the order in which their time is over, which is that in which they began.
        self._ends: dict[Any, float] = {}
        self._timer: Any = None

    def begin(self, transport: Any) -> None:
        """A connection has begun: unless `end` comes in time it is cut.

        Args:
            transport: What has `abortConnection`.
        """
        self._ends[transport] = self._clock.seconds() + self._seconds
        if self._timer is None:
            self._timer = self._clock.callLater(self._seconds, self._look)

    def end(self, transport: Any) -> None:
        """Its handshake is done, or the connection is gone."""
        self._ends.pop(transport, None)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._ends:
            # Not a list of all of them, each time that the first is due: anybody may have thousands wait.
            one, ends = next(iter(self._ends.items()))
            if ends > now:
                self._timer = self._clock.callLater(ends - now, self._look)
                return
            del self._ends[one]
            one.abortConnection()
