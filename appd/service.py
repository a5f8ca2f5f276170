"""A configured server as a Twisted service: listens on all its addresses or on none, and stops drained.

Twisted's `StreamServerEndpointService` only logs a listen that fails. Here a start that fails raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.logger import Logger

from appd import hosting
from appd.errors import HostError
from appd.interfaces import IDrainable
from appd.limits import UNLIMITED, StreamLimits
from appd.listening.connections import Connections
from appd.listening.listeners import Listener

if TYPE_CHECKING:
    from twisted.internet.protocol import DatagramProtocol

    from appd.pending import Pending
    from appd.tls.target import Target

__all__ = ["ServerService"]

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
        paced: Whether a client is read only as it takes its answers; for protocols that answer and do nothing else.

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
        paced: bool = False,
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
        self.connections.paced = paced
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

    def pending(self) -> Sequence[Pending]:
        """The calls that run and that wait, of each of its mounts. For engines that have threads of their own."""
        return ()

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


def _is_stream(port: Any) -> bool:
    return hasattr(port, "factory")  # those of datagrams have a protocol
