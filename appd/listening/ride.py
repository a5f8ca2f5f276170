"""Twisted's reactor on an asyncio loop, in one thread.

Who answers from the one what was asked on the other would wake a thread twice for each request. Here the loop waits for
everything, and the reactor has its turn when its own epoll(7) has something (an epoll descriptor can be polled like any
other), when the time of a delayed call has come, and when a thread has asked for it. All that the reactor promises
stays, child processes and signals too. What runs in its turn sees no running loop of asyncio, as under Twisted's epoll
reactor anywhere: Django, for one, refuses its database to whom sees one.
"""

from __future__ import annotations

import asyncio
import math
import signal
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.python import log

__all__ = ["RidingReactor", "outside", "within"]


def within(loop: asyncio.AbstractEventLoop | None, call: Callable[..., object], *arguments: Any) -> None:
    """Calls what is the loop's, from the reactor: it sees a running loop."""
    before = _get_running_loop()
    _set_running_loop(loop)
    try:
        call(*arguments)
    finally:
        _set_running_loop(before)


def outside(call: Callable[..., object], *arguments: Any) -> None:
    """Calls what is Twisted's, from the loop: it sees no running loop."""
    within(None, call, *arguments)


class RidingReactor(EPollReactor):
    """A reactor that runs on a loop when it is told so, else by itself."""

    _loop: Any = None
    _ended: Callable[[], object]
    _timer: Any = None
    _due = math.inf
    """When the timer of the loop has the reactor turn, in its seconds; before that nothing need be asked for."""

    def ride(self, loop: asyncio.AbstractEventLoop, ended: Callable[[], object]) -> None:
        """Has a loop run the reactor, from its `run` to its end.

        Args:
            loop: The loop; nobody else runs it.
            ended: Called when neither runs any more.

        Raises:
            RuntimeError: The reactor runs already.
        """
        reactor: Any = self
        if reactor._started:
            raise RuntimeError("the reactor runs already")
        self._loop, self._ended = loop, ended

    def mainLoop(self) -> None:
        """See `ReactorBase.mainLoop`."""
        if self._loop is None:
            super().mainLoop()
            return
        reactor: Any = self
        loop, fd = self._loop, reactor._poller.fileno()
        wakes = signal.set_wakeup_fd(-1)
        loop.add_reader(fd, self._turn)
        try:
            while reactor._started:
                loop.call_soon(self._begin, wakes)
                try:
                    loop.run_forever()
                except BaseException:
                    log.err(None, "unexpected error in the main loop")
        finally:
            loop.remove_reader(fd)
            if self._timer is not None:
                self._timer.cancel()
            self._loop = None
            signal.set_wakeup_fd(wakes)
            self._ended()

    def _begin(self, wakes: int) -> None:
        # A loop in the main thread has signals wake itself; the reactor knows what to do about them.
        signal.set_wakeup_fd(wakes)
        self._turn()

    def _turn(self) -> None:
        """What is due, as `ReactorBase.mainLoop` does it."""
        reactor: Any = self
        # Until the end of this nobody need wake the loop.
        self._due = -math.inf
        # In this order: what threads and signals ask for while the descriptor that wakes is read is called behind it.
        for step, arguments in ((reactor.doIteration, (0,)), (reactor.runUntilCurrent, ())):
            try:
                outside(step, *arguments)
            except BaseException:
                log.err(None, "unexpected error in the main loop")
        self._due = math.inf
        if not reactor._started:
            self._loop.stop()
            return
        wait = reactor.timeout()
        if wait is not None:
            self._wake_at(reactor.seconds() + wait, wait)
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake_at(self, due: float, wait: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        # The timers of the loop are as fine as those of epoll_wait(2), and none may come too early.
        self._timer = self._loop.call_later(math.ceil(wait * 1000) / 1000, self._turn)

    # What may make it be due sooner, outside of a turn.

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> Any:
        """See `IReactorTime.callLater`."""
        call: Any = super().callLater(delay, callable, *args, **kw)
        if self._loop is not None and call.time < self._due:
            self._wake_at(call.time, delay)
        return call

    def _moveCallLaterSooner(self, call: Any) -> None:
        super()._moveCallLaterSooner(call)
        if self._loop is not None and call.time < self._due:
            self._wake_at(call.time, max(0.0, call.time - self.seconds()))

    def stop(self) -> None:
        """See `IReactorCore.stop`."""
        super().stop()
        if self._loop is not None:
            self._wake_at(self.seconds(), 0.0)

    def crash(self) -> None:
        """See `IReactorCore.crash`."""
        super().crash()
        if self._loop is not None:
            self._loop.stop()
