"""The end of a connection once nothing has come for a moment.

A drain may not close on top of bytes that have come and were not read: that is a reset, which may destroy what is on
its way to the peer, and what was sent is lost. So it waits for a lull.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appd.listening.ports import has_unread

__all__ = ["Lull"]

# How long a connection must have been silent before a drain ends it, in seconds; the same as for HTTP.
_LINGER = 0.2


class Lull:
    """Waits for a lull in one connection.

    Args:
        protocol: The protocol; its transport is looked at.
        end: Ends the connection.
        busy: Whether it has begun something that it must finish first.

    Resource handling: the owner calls `stop` when the connection is lost.
    """

    def __init__(self, protocol: Any, end: Callable[[], object], busy: Callable[[], bool] = lambda: False) -> None:
        self._protocol = protocol
        self._end = end
        self._busy = busy
        self._heard = False
        self._later: Any = None

    def heard(self) -> None:
        """Notes that something has come."""
        self._heard = True

    def begin(self, reactor: Any) -> None:
        """Waits from now on.

        Args:
            reactor: The reactor.
        """
        self._heard = False
        self._later = reactor.callLater(_LINGER, self._look, reactor)

    def _look(self, reactor: Any) -> None:
        if self._heard or self._busy() or has_unread(self._protocol.transport):
            self.begin(reactor)
        else:
            self._end()

    def stop(self) -> None:
        """Waits no more."""
        if self._later is not None and self._later.active():
            self._later.cancel()
