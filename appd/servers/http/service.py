"""An HTTP server on the lane, as the service that a worker knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from appd.connections import Connections
from appd.http.server import Door, Server
from appd.service import ServerService

if TYPE_CHECKING:
    from appd.http.site import Site
    from appd.lending import Host, Section
    from appd.servers.http.forerunner import Forerunner

__all__ = ["HttpService"]

# How often the worker hears of connections that begin and end, in seconds: it tells people.
_TELL = 1.0


class HttpService(ServerService):
    """An HTTP server. Sockets are the lane's; twisted.web serves what only Twisted can bind, and TLS.

    Args:
        name: What it is called.
        forerunner: The engine; it may serve already, and is taken over with all that came.
        section: The section it was made from.
    """

    def __init__(self, name: str, forerunner: Forerunner, section: Section) -> None:
        host, site = section.host, forerunner.site
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
        self._forerunner = forerunner
        self._lane = forerunner.lane
        self.engine = forerunner.engine
        self._all = _AllConnections(self.engine, lambda: self.changed())
        self.connections = self._all
        self._make_factory: Callable[[], Any] = lambda: _web_factory(name, site, host)
        self._told = False
        self._later: Any = None
        # A process that serves accepted connections leaves with the last of them.
        self._is_single = any(one.kind == "connection" for one in section.listeners)
        forerunner.changed = self._changed_somewhere

    @property
    def requests(self) -> int:
        """How many requests there have been."""
        return self.engine.requests + (self.counted or 0)

    def alive(self) -> bool:
        """Whether the lane turns."""
        return self._lane.alive()

    def startService(self) -> None:
        """Listens on every address; see `ServerService.startService`."""
        self._lane.start()
        super().startService()

    def _listen(self, listener: Any) -> Any:
        if not hasattr(listener, "duplicate") or listener.tls is not None:
            if isinstance(self.factory, _Unused):
                self.factory = self._make_factory()
                self.factory.count_request = self.count_request
            return super()._listen(listener)
        if listener.kind == "connection":
            self.engine.adopt(listener.duplicate(), many_processes=self._forerunner.many)
            return None
        return _DoorPort(self._forerunner.door(listener))

    def drain(self) -> defer.Deferred[None]:
        """Finishes what is in flight; see `ServerService.drain`."""
        self.engine.drain()
        if self._later is not None and self._later.active():
            self._later.cancel()
        return super().drain()

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


class _Unused:
    """In place of a protocol factory, which the lane does not need."""


class _AllConnections(Connections):
    """The connections of both engines."""

    def __init__(self, engine: Server, changed: Callable[[], None]) -> None:
        super().__init__(changed)
        self._engine = engine

    def __len__(self) -> int:
        return super().__len__() + len(self._engine.clients)

    @property
    def total(self) -> int:
        """How many there have been."""
        return self._others + self._engine.total

    @total.setter
    def total(self, count: int) -> None:
        self._others = count

    def abort(self) -> int:
        """Ends every open connection at once."""
        return super().abort() + self._engine.abort()

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


def _web_factory(name: str, site: Site, host: Host) -> Any:
    from appd.servers.http.web import SiteFactory

    return SiteFactory(name, site, host)
