"""The deadlines of a loop: one timer for all connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from appd.http.lane.deadlines import Deadlines

__all__ = ["Alarm"]


class Alarm:
    """Looks after connections when their time has come. For the thread of the loop only.

    Args:
        loop: The loop.
        failed: Told what a connection raises.

    Attributes:
        deadlines: When each is looked after.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, failed: Callable[[BaseException], object]) -> None:
        self.deadlines = Deadlines(self._sooner)
        self._loop = loop
        self._failed = failed
        self._timer: Any = None

    def _sooner(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._timer = None
        for one in self.deadlines.due(time.monotonic()):
            try:
                one.expired()
            except Exception as error:  # one connection is no reason to leave the others alone
                self._failed(error)
        wait = self.deadlines.wait(time.monotonic())
        if wait is not None and self._timer is None:
            self._timer = self._loop.call_later(wait + 0.001, self._look)
