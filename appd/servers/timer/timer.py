"""`<timer>`: a callable every so often.

It runs in one process of all (`processes one`). At a reload the copy of the generation before pauses, and the new one
goes on with its grid: what falls due is called once, whichever of them does it. `appd.servers.turn` keeps a call of the
one from running beside a call of the other. What it costs is that a call whose process dies is not made again: at most
once.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import defer, threads
from twisted.logger import Logger
from twisted.python.failure import Failure

from appd import hosting
from appd.errors import ConfigurationError
from appd.lending import Section
from appd.servers.sectioned import SectionedServerType
from appd.servers.timer.schedule import Schedule
from appd.servers.turn import Turn
from appd.service import ServerService

__all__ = ["TimerService", "server_type"]

_log = Logger(namespace="appd.timer")

# How soon to look again whether another process has finished its call, in seconds.
_LOOK_AGAIN = 0.25


class TimerService(ServerService):
    """One timer.

    Args:
        name: What the server is called.
        call: What is called; may return a Deferred.
        what: Its name, for people.
        reactor: The reactor.
        every: From begin to begin of two calls, in seconds.
        jitter: By how much a call may be late, in seconds.
        at_start: Whether the first call comes at once.
        turn: Whose turn it is, among processes.
        processes: `one` or `all`.
        draw: Makes a random number from 0 to its argument.
    """

    rests = False

    def __init__(
        self,
        name: str,
        call: Callable[[], Any],
        what: str,
        reactor: Any,
        every: float,
        jitter: float = 0.0,
        at_start: bool = False,
        turn: Turn | None = None,
        processes: str = "one",
        draw: Callable[[float], float] = partial(random.uniform, 0.0),
    ) -> None:
        super().__init__(name, "timer", (), reactor, description=what, processes=processes)
        self.counted = 0
        self._call = call
        self._every, self._jitter, self._at_start = every, jitter, at_start
        self._turn = turn or Turn("", name)
        self._draw = draw
        self._schedule: Schedule | None = None
        self._paused = False
        self._next: Any = None
        self._began: float | None = None
        self._idle: list[defer.Deferred[None]] = []

    @property
    def busy(self) -> bool:
        """Whether a call runs."""
        return self._began is not None

    def startService(self) -> None:
        """Arms the first call."""
        super().startService()
        self._paused = False
        self._arm()

    def stop_accepting(self) -> None:
        """Begins no further call."""
        self._paused = True
        self._disarm()

    def resume_accepting(self) -> None:
        """Goes on; another process may have called meanwhile."""
        self._paused = False
        if self.running:
            self._disarm()
            self._arm()

    def drain(self) -> defer.Deferred[None]:
        """Fires when no call runs."""
        if not self.busy:
            return defer.succeed(None)
        waiting: defer.Deferred[None] = defer.Deferred(self._idle.remove)
        self._idle.append(waiting)
        return waiting

    def stopService(self) -> defer.Deferred[None]:
        """Begins no further call; one that runs in a thread cannot be ended, and is left behind."""
        self.stop_accepting()
        if self._began is not None:
            _log.warn(
                "{appd_server}: {what} still runs after {seconds:.0f} s and is left behind",
                appd_server=self.name,
                what=self.description,
                seconds=self.reactor.seconds() - self._began,
            )
        return super().stopService()

    def _arm(self) -> None:
        if self._schedule is None and not self._begin_schedule():
            self._next = self.reactor.callLater(_LOOK_AGAIN, self._arm)
            return
        assert self._schedule is not None, "it has been begun"
        wait = self._schedule.wait(self.reactor.seconds()) + (self._draw(self._jitter) if self._jitter else 0.0)
        self._next = self.reactor.callLater(wait, self._tick)

    def _disarm(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def _take_turn(self) -> bool:
        try:
            return self._turn.take()
        except OSError as error:
            _log.error("{appd_server}: no turn can be taken: {error}", appd_server=self.name, error=error)
            return False

    def _begin_schedule(self) -> bool:
        """Goes on with the grid of the process before, or lays one. Returns whether it could be asked for."""
        if not self._take_turn():
            return False
        self._schedule = Schedule(self._every, self.reactor.seconds(), self._turn.read(), self._at_start)
        self._turn.write(self._schedule.text)
        self._turn.give()
        return True

    def _tick(self) -> None:
        """A call is due, unless another process has made it."""
        self._next = None
        schedule = self._schedule
        assert schedule is not None, "what is armed has a schedule"
        if not self._take_turn():
            # The process before is not through with its call: its text comes with the turn.
            self._next = self.reactor.callLater(_LOOK_AGAIN, self._tick)
            return
        now = self.reactor.seconds()
        schedule.follow(self._turn.read(), now)
        if schedule.due > now:
            self._turn.give()
            self._arm()
            return
        schedule.move_on(now)
        self._turn.write(schedule.text)
        self._began = now
        self.count_request()
        self.changed()
        defer.maybeDeferred(self._call).addErrback(self._failed).addBoth(self._done)

    def _failed(self, failure: Failure) -> None:
        _log.failure("{appd_server}: {what} failed", failure, appd_server=self.name, what=self.description)

    def _done(self, _none: object) -> None:
        assert self._schedule is not None and self._began is not None, "a call has begun"
        now = self.reactor.seconds()
        missed = self._schedule.move_on(now) if self._schedule.due <= now else 0
        if missed:
            self._turn.write(self._schedule.text)
            _log.warn(
                "{appd_server}: {what} took {seconds:.1f} s; calls that fell due meanwhile and are left out: {count}",
                appd_server=self.name,
                what=self.description,
                seconds=now - self._began,
                count=missed,
            )
        self._began = None
        self._turn.give()
        self.changed()
        idle, self._idle = self._idle, []
        for one in idle:
            one.callback(None)
        if self.running and not self._paused:
            self._arm()


class _TimerType(SectionedServerType):
    kinds = frozenset[str]()
    needs_address = False
    section_says = "says what is called"

    def make(self, name: str, section: Section) -> TimerService:
        """See SectionedServerType."""
        settings, host = section.settings, section.host
        if settings.jitter >= settings.every:
            raise ConfigurationError(settings.problem("jitter must be less than every", "jitter"))
        call = hosting.with_arguments(settings, "call")
        processes = settings.processes or self.processes
        # Where each worker has a timer of its own they do not wait for each other.
        folder = host.shared.get("folder", "") if processes == "one" else ""
        return TimerService(
            name,
            _calling(call, host),
            settings.call,
            host.reactor,
            settings.every,
            settings.jitter,
            settings.at_start,
            Turn(folder, name),
            processes,
        )


def _calling(call: Callable[[], Any], host: Any) -> Callable[[], Any]:
    if inspect.iscoroutinefunction(call):
        return lambda: defer.Deferred.fromCoroutine(call())
    return lambda: threads.deferToThreadPool(host.reactor, host.threads, call)


server_type = _TimerType()
