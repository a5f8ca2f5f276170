"""A service that somebody else has made, as one server: a .tac file, a plugin of twistd.

It runs in one process. When its generation is over it is stopped as Twisted stops services, its connections go on until
they end or the drain does; between a reload's last step and that moment it only accepts nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from twisted.application.service import IService
from twisted.internet import defer

from appd import hosting
from appd.errors import AppdError, ConfigurationError
from appd.interfaces import Section
from appd.listening.connections import Connections
from appd.listening.held import Held
from appd.listening.intercept import Taker, taking
from appd.service import ServerService

__all__ = ["ApplicationService", "make_application"]


class _LooseConnections(Connections):
    """Connections that hosted code may simply let go of.

    twisted.runner.inetd takes a transport out of the reactor when it has given the socket to a child, and forgets it;
    what closes this process's copy is the collection of garbage. So the record must not be what holds it.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__(changed)
        self._open: Any = WeakKeyDictionary()

    def when_none(self) -> defer.Deferred[None]:
        """See Connections."""
        gc.collect()
        return super().when_none()


class ApplicationService(ServerService):
    """One such service.

    Args:
        name: What the server is called.
        type_name: The name of its server type.
        reactor: The reactor.
        description: What it is, for people.
        held: Its sockets.
    """

    rests = False

    def __init__(self, name: str, type_name: str, reactor: Any, description: str, held: Held) -> None:
        super().__init__(name, type_name, (), reactor, description=description)
        self.connections = _LooseConnections(lambda: self.changed())
        self.kinds = ("stream", "datagram")
        self.taker = Taker(held, self.connections, reactor, self._opened)
        self._held = held
        self._inner: Any = None
        self._stopped: defer.Deferred[Any] | None = None

    def take(self, inner: Any) -> None:
        """Takes the service, which has not been started."""
        self._inner = inner

    def _opened(self, port: Any) -> None:
        self._ports.append(port)
        if not self._accepts:
            port.stopReading()

    def startService(self) -> None:
        """Starts the service.

        Raises:
            AppdError: It raised, or could not listen; it is stopped again.
        """
        super(ServerService, self).startService()
        try:
            with taking(self.taker, self.reactor):
                for step in (self._inner.privilegedStartService, self._inner.startService):
                    self._do(step)
        except BaseException:
            self._stop_inner().addBoth(lambda _done: self.release())
            self.running = 0
            raise
        self.listeners = self._held.listeners
        self._record()

    def _do(self, step: Callable[[], Any]) -> None:
        try:
            hosting.guard(f"server {self.name!r} cannot start", step)
        finally:
            # What the host has refused is the reason, whether the service raised, or logged it and went on.
            for error in self.taker.failed:
                raise error if isinstance(error, AppdError) else ConfigurationError(f"server {self.name!r}: {error}")

    def drain(self) -> defer.Deferred[None]:
        """Stops the service; fires when no connection is left, may be cancelled."""
        return self._stop_inner().addCallback(lambda _done: self.connections.when_none())

    def _stop_inner(self) -> defer.Deferred[Any]:
        """Stops what was taken, once."""
        waiting: defer.Deferred[Any] = defer.Deferred()
        if self._stopped is None:
            self._stopped = defer.maybeDeferred(self._inner.stopService)

        def stopped(result: Any) -> Any:
            waiting.callback(result)

        self._stopped.addBoth(stopped)
        return waiting

    @defer.inlineCallbacks
    def stopService(self) -> Any:
        """Stops the service and aborts the connections that are left."""
        yield self._stop_inner()
        yield super().stopService()

    def release(self) -> None:
        """Closes what was bound; see `ServerService.release`."""
        self.listeners = self._held.listeners
        super().release()


def make_application(
    name: str, type_name: str, section: Section, description: str, attribute: str, make: Callable[[], Any]
) -> ApplicationService:
    """Makes a server of a service.

    Args:
        name: What the server is called.
        type_name: The name of its server type.
        section: The section that asks for it.
        description: What it is, for people.
        attribute: The key that names it.
        make: Makes the service; what listens meanwhile is its own.

    Raises:
        ConfigurationError: That fails, or makes no service.
    """
    settings, host = section.settings, section.host
    if settings.processes == "all":
        raise ConfigurationError(
            settings.problem(f"server {name!r}: what binds by itself runs in one process", "processes")
        )
    shared = host.shared
    notifier = shared.get("notifier") if shared.get("folder") else None
    held = Held(name, shared.get("inheritance"), shared.get("named", {}), notifier, settings.where(attribute))
    made = ApplicationService(name, type_name, host.reactor, description, held)
    with taking(made.taker, host.reactor):
        inner = hosting.call(f"{description} failed", partial(_service_of, make), settings, attribute)
    if inner is None:
        raise ConfigurationError(settings.problem(f"{description} is no service (IService)", attribute))
    if made.taker.failed:
        messages = [settings.problem(f"server {name!r}: {error}", attribute) for error in made.taker.failed]
        raise ConfigurationError(*messages)
    made.take(inner)
    return made


def _service_of(make: Callable[[], Any]) -> Any:
    return IService(make(), None)
