"""An HTTP server on the lane, as the service that a worker knows."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from appd.http.lane.door import Door
from appd.http.lane.server import Server
from appd.http.site import Asgi, Site
from appd.listening.connections import Connections
from appd.servers.http.forerunner import Forerunner, bound_by_twisted, log_of
from appd.service import ServerService

if TYPE_CHECKING:
    from appd.http.lane.tlsclient import Security
    from appd.http.loop.driver import Driver
    from appd.lending import Section
    from appd.listening.listeners import Listener
    from appd.pending import Pending
    from appd.servers.http.described import DescribedDoor
    from appd.servers.http.loop import Loop

__all__ = ["HttpService"]

# How often the worker hears of connections that begin and end, in seconds: it tells people.
_TELL = 1.0


class HttpService(ServerService):
    """An HTTP server. Sockets are the lane's, or the loop's, as are addresses that only Twisted can bind.

    Args:
        name: What it is called.
        site: What it serves.
        section: The section it was made from.
        forerunner: The engine, which serves already and is taken over with all that came; None where there is none.
    """

    def __init__(self, name: str, site: Site, section: Section, forerunner: Forerunner | None = None) -> None:
        host = section.host
        processes = section.settings.processes or "all"
        super().__init__(
            name,
            "http",
            section.listeners,
            host.reactor,
            _Unused(),
            description=", ".join(one.text for one in site.mounts),
            processes=processes,
        )
        self.connects = [target for one in site.mounts for target in getattr(one.serves, "connects", ())]
        if self.connects:
            self.outgoing = True
        self._loop: Loop | None = None
        on_loop = [isinstance(one.serves, Asgi) for one in site.mounts]
        self._accepts_on_loop = all(on_loop)
        described = [one.address for one in section.listeners if bound_by_twisted(one)]
        if any(on_loop) or site.http2 or described:
            # Late: asyncio takes longer to import than the lane does to answer.
            from appd.servers.http.loop import Loop

            self._loop = Loop(section, log_of(host))
            if described:
                self._loop.ride(f"address {described[0]}")
        self._forerunner = forerunner or Forerunner(name, site, section, self._loop)
        self._lane, self.engine = self._forerunner.lane, self._forerunner.engine
        self.engine.complete()
        self._all = _AllConnections(self.engine, lambda: self.changed())
        self.connections = self._all
        self._many = self._forerunner.many
        self._told = False
        self._later: Any = None
        # A process that serves accepted connections leaves with the last of them.
        self._is_single = any(one.kind == "connection" for one in section.listeners)
        self.engine.changed = self._changed_somewhere

    @property
    def requests(self) -> int:
        """How many requests there have been."""
        return self.engine.requests

    def pending(self) -> list[Pending]:
        """The calls of each mount; see `ServerService.pending`."""
        return self.engine.pending()

    def alive(self) -> bool:
        """Whether the lane turns, and the loop."""
        return self._lane.alive() and (self._loop is None or self._loop.driver.alive())

    def prepare(self) -> defer.Deferred[None]:
        """Has the applications of the loop begin; see `ServerService.prepare`."""
        return defer.succeed(None) if self._loop is None else self._loop.start_up()

    def startService(self) -> None:
        """Listens on every address, once the applications have begun; see `ServerService.startService`."""
        if self._loop is None:
            self._lane.start()
            super().startService()
            return
        if not self._accepts_on_loop:
            self._lane.start()
        self.running = 1
        self.listening = self._loop.start_up().addCallback(lambda _none: self._listen_if_running())

    def _listen_if_running(self) -> defer.Deferred[None] | None:
        if not self.running:
            return None
        awaited, self.listening = self.listening, defer.succeed(None)
        try:
            super().startService()
        finally:
            # Where Twisted binds, an address may listen later.
            later, self.listening = self.listening, awaited
        return later

    def _listen(self, listener: Any) -> Any:
        if bound_by_twisted(listener):
            assert self._loop is not None
            return self._listen_by_twisted(self._loop.driver, listener)
        if self._loop is not None and (self._accepts_on_loop or listener.tls is not None):
            return self._listen_on_loop(self._loop.driver, listener)
        security = _security(listener)
        if listener.kind == "connection":
            self.engine.adopt(listener.duplicate(), many_processes=self._many, security=security)
            return None
        return _DoorPort(self._forerunner.door(listener, security))

    def _listen_on_loop(self, driver: Driver, listener: Any) -> Any:
        """Has the loop accept. Connections over TLS cannot be handed over, so that they begin there."""
        security = listener.tls.on_sockets() if listener.tls is not None else None
        sock = socket.socket(fileno=listener.duplicate().detach())
        if listener.kind == "connection":
            driver.adopt(self.engine, sock, many_processes=self._many, security=security)
            return None
        return _DoorPort(driver.listen(self.engine, sock, many_processes=self._many, security=security))

    def _listen_by_twisted(self, driver: Driver, listener: Any) -> defer.Deferred[DescribedDoor]:
        from appd.servers.http.described import DescribedDoor

        door = DescribedDoor(self.engine, driver, self.reactor)
        if listener.tls is not None:
            listener.tls.handshake = self.engine.limits.handshake_timeout
        # The engine counts them itself.
        listening: defer.Deferred[Any] = listener.listen(self.reactor, door, Connections())
        return listening.addCallback(door.listens)

    def drain(self) -> defer.Deferred[None]:
        """Finishes what is in flight; see `ServerService.drain`."""
        self.engine.reloading = getattr(self.parent, "reloading", False)
        self.engine.drain()
        if self._later is not None and self._later.active():
            self._later.cancel()
        drained = super().drain()
        return drained if self._loop is None else drained.addCallback(lambda _none: self._end_applications())

    def _end_applications(self) -> defer.Deferred[None]:
        assert self._loop is not None
        return self._loop.shut_down()

    def stopService(self) -> defer.Deferred[None]:
        """Closes the sockets and cuts the connections that are left; see `ServerService.stopService`."""
        cuts, loop = bool(self.engine.clients), self._loop
        stopped = super().stopService()
        if loop is None or loop.driver.apart or not cuts:
            return stopped
        # Behind it the reactor closes what is open, and nobody would see that something is missing.
        return stopped.addCallback(lambda _none: loop.turn())

    # Called in threads of the lane.

    def _changed_somewhere(self) -> None:
        if self.engine.draining or self._is_single:
            self.reactor.callFromThread(self._look)
        elif not self._told:
            self._told = True
            self.reactor.callFromThread(self._tell)

    # In the reactor's.

    def _look(self) -> None:
        self._all.look()
        self.changed()

    def _tell(self) -> None:
        self.changed()
        self._later = self.reactor.callLater(_TELL, self._tell_again, len(self.connections))

    def _tell_again(self, before: int) -> None:
        self._told = False
        if len(self.connections) != before:
            self.changed()


def _security(listener: Listener) -> Security | None:
    """What makes a listener speak TLS; None when it is plain."""
    if listener.tls is None:
        return None
    from appd.http.lane.tlssocket import TlsSocket

    return listener.tls.on_sockets(TlsSocket)


class _Unused:
    """In place of a protocol factory, which the lane does not need."""


class _AllConnections(Connections):
    """The connections of the engine, as `ServerService` knows connections."""

    def __init__(self, engine: Server, changed: Callable[[], None]) -> None:
        super().__init__(changed)
        self._engine = engine

    def __len__(self) -> int:
        return len(self._engine.clients)

    @property
    def total(self) -> int:
        """How many there have been."""
        return self._engine.total

    @total.setter
    def total(self, count: int) -> None:
        """The engine counts."""

    def abort(self) -> int:
        """Ends every open connection at once."""
        return self._engine.abort()

    def look(self) -> None:
        """Tells those who wait that no connection is open, if so."""
        self._tell_if_none()


class _DoorPort:
    """A door as the port that `ServerService` knows."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def fileno(self) -> int:
        """The descriptor."""
        return self._door.fd

    def stopReading(self) -> None:
        """Accepts no further connection."""
        self._door.pause()

    def startReading(self) -> None:
        """Accepts connections."""
        self._door.resume()

    def stopListening(self) -> None:
        """Closes it."""
        self._door.close()
