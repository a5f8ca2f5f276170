"""Configured servers as Twisted services: all listen or none, an order, and a drained stop.

Twisted's `StreamServerEndpointService` only logs a listen that fails, and its `MultiService` leaves running what
started before another failed. Here a start that fails raises, and what did start is undone in reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from appd import hosting
from appd.connections import Connections
from appd.errors import HostError
from appd.interfaces import IDrainable
from appd.limits import UNLIMITED, StreamLimits
from appd.listeners import Listener

if TYPE_CHECKING:
    from twisted.internet.protocol import DatagramProtocol

    from appd.tls.target import Target

__all__ = ["ServerGroup", "ServerService"]

# How long services may take to stop when the drain has used up its time, in seconds.
_LAST_MOMENT = 2.0

# A Logger that is an attribute of a class would take the name of the class in place of this one.
_log = Logger(namespace="appd.service")


class ServerService(Service):
    """One server: its sockets, what serves on them, its open connections.

    Args:
        name: What the server is called.
        type_name: The name of its server type.
        listeners: Its sockets, not yet listening.
        reactor: The reactor.
        factory: The protocol factory for stream sockets.
        datagram: What makes a protocol for each datagram socket.
        description: What serves, for `appd explain`; the factory's class without one.
        processes: `all` when it keeps nothing between connections and may run in every worker, else `one`.
        limits: What is kept of its stream connections.

    Attributes:
        kinds: The kinds of socket it serves, of `stream` and `datagram`.
        connections: The open connections.
        counted: How many requests its engine has counted; None where it counts none, and a connection is one.
        connects: What it opens connections to, for `appd check --connect`.
        outgoing: Whether it opens connections of its own; None where that is as its type says.
        listening: Fires when every address listens; fails with an `AppdError`.
        rests: Whether the process may end when none of its connections is open, until somebody connects.
    """

    rests = True

    def __init__(
        self,
        name: str,
        type_name: str,
        listeners: Sequence[Listener],
        reactor: Any,
        factory: Any = None,
        datagram: Callable[[], DatagramProtocol] | None = None,
        description: str = "",
        processes: str = "one",
        limits: StreamLimits = UNLIMITED,
    ) -> None:
        self.name = name
        self.type_name = type_name
        self.listeners = listeners
        self.reactor = reactor
        self.processes = processes
        self.factory = factory
        made_by = factory if factory is not None else datagram
        class_ = made_by if isinstance(made_by, type) else type(made_by)
        self.description = description or f"{class_.__module__}.{class_.__qualname__}"
        served = {"stream": factory, "datagram": datagram}
        self.kinds = tuple(kind for kind, by in served.items() if by is not None)
        self.changed: Callable[[], None] = lambda: None
        self.connections = Connections(lambda: self.changed(), limits, reactor, name, self._gate)
        self.counted: int | None = None
        self.outgoing: bool | None = None
        self.connects: Sequence[Target] = ()
        self.listening: defer.Deferred[None] = defer.succeed(None)
        self._datagram = datagram
        self._limits = limits
        self._accepts = True
        self._ports: list[Any] = []

    @property
    def requests(self) -> int:
        """How many requests there have been since the start, as the engine counts them; else how many connections."""
        return self.connections.total if self.counted is None else self.counted

    def count_request(self) -> None:
        """Notes a request. For engines of protocols that have requests: once for each, when it has begun."""
        self.counted = (self.counted or 0) + 1

    def privilegedStartService(self) -> None:
        """Binds what appd binds itself: twistd calls this before it gives up root (--uid, --gid).

        Raises:
            AppdError: The host refuses; what was bound is closed again.
        """
        try:
            for listener in self.listeners:
                if not listener.inherited:
                    listener.prepare()
        except BaseException:
            self.release()
            raise

    def prepare(self) -> defer.Deferred[None]:
        """Does what may take its time, or fail with an `AppdError`, before anything listens."""
        return defer.succeed(None)

    def startService(self) -> None:
        """Listens on every address.

        Raises:
            AppdError: An address cannot be listened on; those before it are closed again.
        """
        super().startService()
        later: list[defer.Deferred[Any]] = []
        try:
            for listener in self.listeners:
                port = hosting.guard(f"server {self.name!r} cannot start", partial(self._listen, listener))
                if isinstance(port, defer.Deferred):
                    later.append(port.addCallback(self._ports.append))
                elif port is not None:
                    self._ports.append(port)
        except BaseException:
            self._close_ports()
            self.release()
            self.running = 0
            raise
        if later:
            self.listening = defer.gatherResults(later, consumeErrors=True).addCallbacks(
                lambda _ports: self._record(), self._listen_failed
            )
        else:
            self._record()

    def _listen(self, listener: Listener) -> Any:
        # The factory's own startFactory is called in here, and may do anything.
        if listener.tls is not None:
            listener.tls.handshake = self._limits.handshake_timeout
        serves = self._datagram() if listener.kind == "datagram" and self._datagram else self.factory
        return listener.listen(self.reactor, serves, self.connections)

    def _listen_failed(self, failure: Any) -> None:
        error = failure.value.subFailure.value
        self._close_ports()
        number = getattr(getattr(error, "socketError", None), "errno", None)
        raise HostError(f"server {self.name!r} cannot listen: {error}", number=number) from error

    def _record(self) -> None:
        # The first three lines are zope.app.twisted's own record.
        if not self.listeners:
            _log.info("-- {appd_server} Server started.", appd_server=self.name, appd_type=self.type_name)
            return
        host, port = self.listeners[0].host_and_port
        _log.info(
            "-- {appd_server} Server started.\n\tHostname: {host}\n\tPort: {port}\n\tAddress: {where}",
            appd_server=self.name,
            appd_type=self.type_name,
            appd_socket=", ".join(str(one.address) for one in self.listeners),
            host=host,
            port=port,
            where=", ".join(f"{one.where} ({one.address})" for one in self.listeners),
        )

    def alive(self) -> bool:
        """Whether what serves still turns, where that is not the reactor; who is not alive for long is replaced."""
        return True

    def stop_accepting(self) -> None:
        """Takes no further connection or datagram. The sockets stay open: both wait in the queue of the socket."""
        self._accepts = False
        for port in self._ports:
            if hasattr(port, "stopReading"):
                port.stopReading()

    @property
    def descriptors(self) -> list[int]:
        """Those of the sockets that it listens on."""
        return [port.fileno() for port in self._ports]

    def resume_accepting(self) -> None:
        """Takes connections and datagrams again."""
        self._accepts = True
        for port in self._ports:
            if hasattr(port, "startReading") and not (self.connections.full and _is_stream(port)):
                port.startReading()

    def _gate(self, opens: bool) -> None:
        """Has the stream ports accept, or wait until a connection has ended."""
        for port in self._ports:
            if _is_stream(port) and hasattr(port, "startReading"):
                if not opens:
                    port.stopReading()
                elif self._accepts:
                    port.startReading()

    def drain(self) -> defer.Deferred[None]:
        """Finishes what is in flight: fires when no connection is left; may be cancelled."""
        if IDrainable.providedBy(self.factory):
            self.factory.drain()
        return self.connections.when_none()

    def stopService(self) -> defer.Deferred[None]:
        """Closes the sockets of this process and aborts the connections that are left.

        Returns:
            Fires when it is done.
        """
        super().stopService()
        aborted = self.connections.abort()
        if aborted:
            _log.warn(
                "{appd_server}: connections that were still open when the drain ended and are cut: {count}",
                appd_server=self.name,
                count=aborted,
            )
        closed = self._close_ports()
        return closed.addBoth(lambda _done: self.release())

    def _close_ports(self) -> defer.Deferred[Any]:
        ports, self._ports = self._ports, []
        return defer.DeferredList([defer.maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)

    def release(self) -> None:
        """Closes what was bound; an inherited socket stays as it is."""
        for listener in self.listeners:
            try:
                listener.release()
            except OSError as error:
                _log.warn(
                    "{appd_server}: {where} is left behind: {error}",
                    appd_server=self.name,
                    where=listener.where,
                    error=error,
                )


class ServerGroup(MultiService):
    """Every server of the process: starts all or none, in order, and stops drained.

    Args:
        services: The servers in the order of starting.
        reactor: The reactor, for its clock.
        drain_timeout: How long a stop waits for open connections, in seconds.

    Attributes:
        listening: Fires when every server listens, fails with an `AppdError`.
        draining: Called with the seconds that are left and the number of open connections, about once a second.
    """

    def __init__(self, services: Iterable[Any], reactor: Any, drain_timeout: float) -> None:
        super().__init__()
        self._reactor = reactor
        self.drain_timeout = drain_timeout
        self.listening: defer.Deferred[None] = defer.Deferred()
        self.draining: Callable[[float, int], None] = lambda _left, _open: None
        self._waiting: defer.Deferred[Any] | None = None
        self._at_once = False
        self.reloading = False
        self._ends = 0.0
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
        for one in reversed(started):
            defer.maybeDeferred(one.stopService).addErrback(_stop_failed, one)

    @defer.inlineCallbacks
    def stopService(self) -> Any:
        """Stops accepting, waits for what is in flight, at most `drain_timeout` seconds, then stops every server.

        Returns:
            A Deferred that fires when all is done.
        """
        if not self.running:
            return
        Service.stopService(self)
        for one in self.servers:
            one.stop_accepting()
        self._ends = self._reactor.seconds() + self.drain_timeout
        yield self._wait([_safely(one, one.drain) for one in self.servers])
        # What foreign services do at their end has what is left of the time, and a moment in any case.
        self._ends = max(self._ends, self._reactor.seconds() + _LAST_MOMENT)
        yield self._wait([_safely(one, one.stopService) for one in reversed(list(self.services))])

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


def _is_stream(port: Any) -> bool:
    return hasattr(port, "factory")  # those of datagrams have a protocol
