"""Every server of a process as one Twisted service: all start or none, in order, and stop drained.

Twisted's `MultiService` leaves running what started before another failed. Here a start that fails raises, and what did
start is undone in reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from appd import hosting
from appd.service import ServerService

__all__ = ["ServerGroup"]

# How long services may take to stop when the drain has used up its time, in seconds.
_LAST_MOMENT = 2.0
# How long those have whose calls were cancelled to say so to their clients, in seconds: two turns of the reactor.
_HEARD = 0.1

# A Logger that is an attribute of a class would take the name of the class in place of this one.
_log = Logger(namespace="appd.service")


class ServerGroup(MultiService):
    """Every server of the process: starts all or none, in order, and stops drained.

    Args:
        services: The servers in the order of starting.
        reactor: The reactor, for its clock.
        drain_timeout: How long a stop waits for open connections, in seconds.

    Attributes:
        listening: Fires when every server listens, fails with an `AppdError`.
        end_calls: Called when nothing is waited for any more; it cancels what waits for a thread, and says how many.
        draining: Called with the seconds that are left and the number of open connections, about once a second.
    """

    def __init__(self, services: Iterable[Any], reactor: Any, drain_timeout: float) -> None:
        super().__init__()
        self._reactor = reactor
        self.drain_timeout = drain_timeout
        self.listening: defer.Deferred[None] = defer.Deferred()
        self.draining: Callable[[float, int], None] = lambda _left, _open: None
        self.end_calls: Callable[[], int] = lambda: 0
        self._waiting: defer.Deferred[Any] | None = None
        self._at_once = False
        self.reloading = False
        self._ends = 0.0
        self._ended: defer.Deferred[None] = defer.succeed(None)
        for one in services:
            IService(one).setServiceParent(self)

    @property
    def servers(self) -> list[ServerService]:
        """Those of the services that are appd's own."""
        return [one for one in self.services if isinstance(one, ServerService)]

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return sum(len(one.connections) for one in self.servers)

    @property
    def requests(self) -> int:
        """How many requests there have been; see `ServerService.requests`."""
        return sum(one.requests for one in self.servers)

    def privilegedStartService(self) -> None:
        """Binds for every server, before twistd gives up root.

        Raises:
            AppdError: The host refuses; nothing is left bound.
        """
        try:
            super().privilegedStartService()
        except BaseException:
            for one in self.servers:
                one.release()
            raise

    def startService(self) -> None:
        """Starts every server.

        Raises:
            AppdError: One failed; those before it are stopped again. Whatever else a foreign service raises passes too.
        """
        Service.startService(self)
        started: list[Any] = []
        try:
            for one in self.services:
                hosting.guard(f"service {one.name!r} cannot start", one.startService)
                started.append(one)
        except BaseException:
            self._undo(started)
            raise
        waiting = [one.listening for one in self.servers]
        defer.gatherResults(waiting, consumeErrors=True).addCallbacks(
            lambda _all: self.listening.callback(None), self._one_failed
        )

    def _one_failed(self, failure: Any) -> None:
        self._undo(self.services)
        self.listening.errback(failure.value.subFailure)

    def _undo(self, started: Sequence[Any]) -> None:
        self.running = 0
        self._ended = self._end(started)

    @defer.inlineCallbacks
    def stopService(self) -> Any:
        """Stops accepting, waits for what is in flight, at most `drain_timeout` seconds, then stops every server.

        After a start that failed this is under way already.

        Returns:
            A Deferred that fires when all is done.
        """
        if self.running:
            Service.stopService(self)
            self._ended = self._end(list(self.services))
        yield self._ended

    @defer.inlineCallbacks
    def _end(self, services: Sequence[Any]) -> Any:
        servers = [one for one in services if isinstance(one, ServerService)]
        for one in servers:
            one.stop_accepting()
        self._ends = self._reactor.seconds() + self.drain_timeout
        yield self._wait([_safely(one, one.drain) for one in servers])
        if self.end_calls():
            # Who hears of it may tell its client, before that is cut.
            yield deferLater(self._reactor, _HEARD)
        # What foreign services do at their end has what is left of the time, and a moment in any case.
        self._ends = max(self._ends, self._reactor.seconds() + _LAST_MOMENT)
        yield self._wait([_safely(one, one.stopService) for one in reversed(services)])

    def end_within(self, seconds: float) -> None:
        """Gives a drain that is under way no more than so many seconds: after a reload came a stop."""
        self._ends = min(self._ends, self._reactor.seconds() + seconds)

    def leave_at_once(self) -> None:
        """Ends every wait: for open connections, and for services that take their time."""
        self._at_once = True
        if self._waiting is not None and not self._waiting.called:
            self._waiting.cancel()

    def _wait(self, ending: list[defer.Deferred[Any]]) -> defer.Deferred[Any]:
        """Waits for all of these until `_ends`, and tells how it goes."""
        waiting = self._waiting = defer.DeferredList(ending, consumeErrors=True)
        if waiting.called:
            return waiting
        ticks: list[Any] = []

        def tell() -> None:
            left = max(0.0, self._ends - self._reactor.seconds())
            self.draining(left, self.open_connections)
            if left <= 0 or self._at_once:
                waiting.cancel()
            else:
                ticks.append(self._reactor.callLater(min(1.0, left), tell))

        def done(_result: Any) -> None:
            if ticks and ticks[-1].active():
                ticks[-1].cancel()

        ticks.append(self._reactor.callLater(0, tell))
        return waiting.addBoth(done)


def _safely(service: Any, step: Callable[[], Any]) -> defer.Deferred[Any]:
    """Has a service do something of its own; what it raises is logged and holds up nobody else."""
    return defer.maybeDeferred(step).addErrback(_stop_failed, service)


def _stop_failed(failure: Failure, service: Any) -> None:
    if not failure.check(defer.CancelledError):
        _log.failure("server {appd_server} has failed to stop cleanly", failure, appd_server=str(service.name))
