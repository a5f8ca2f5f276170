"""Server types: what makes servers, by name.

`ServerType` turns a callable that makes Twisted protocol factories into a server type, as zope.app.twisted's did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import implementer

from appd.address import Address, parse
from appd.binding import BindOptions
from appd.interfaces import IServerType, Section
from appd.limits import StreamLimits, read_stream_limits
from appd.listeners import BoundListener, Listener
from appd.service import ServerService

__all__ = ["ServerType"]


@implementer(IServerType)
class ServerType:
    """A server type over a callable that makes a Twisted protocol factory.

    Args:
        factory: Called with the application object, and, for a server that comes from a section of its own in the file,
            with the settings of that section as second argument. Returns an IProtocolFactory. None when streams are not
            served.
        defaultPort: The port when none is given.
        defaultIP: The IP address when none is given; "" is all interfaces.
        datagram: Called in the same way, once for each datagram socket; returns a DatagramProtocol. None when datagrams
            are not served.
        name: What `appd explain` and the log call it; the name of the factory without one.
        processes: `all` when its servers keep nothing between connections, so that each worker may run one; else `one`.
        outgoing: Whether its servers open connections of their own.
        limits: What is usual for its stream connections, and so which keys of `<limits>` it has.
        starts_tls: Whether its protocol can begin TLS in the middle of a connection. Then `factory` is called with one
            argument more, the `appd.tls.starting.StartTls` of the `<tls>` section, None without one.
    """

    def __init__(
        self,
        factory: Callable[..., Any] | None,
        defaultPort: int,
        defaultIP: str = "",
        *,
        datagram: Callable[..., Any] | None = None,
        name: str = "",
        processes: str = "one",
        outgoing: bool = False,
        limits: StreamLimits = StreamLimits(),
        starts_tls: bool = False,
    ) -> None:
        self._factory = factory
        self._datagram = datagram
        self._default_port = defaultPort
        self._default_ip = defaultIP
        self._name = name or getattr(factory or datagram, "__name__", "server")
        self._processes = processes
        self.outgoing = outgoing
        self._limits = limits
        self.starts_tls = starts_tls
        self.limits = limits.keys if factory is not None else frozenset()
        served = {"stream": factory, "datagram": datagram}
        self.kinds = frozenset(kind for kind, made_by in served.items() if made_by is not None)

    def create(
        self,
        name: str,
        db: Any,
        ip: str | None = None,
        port: int | None = None,
        backlog: int = 50,
        address: Address | str | None = None,
        section: Section | None = None,
    ) -> ServerService:
        """Makes a server; see `appd.interfaces.IServerType.create`."""
        listeners: Sequence[Listener]
        limits = self._limits
        if section is not None:
            arguments: tuple[Any, ...] = (db, section.settings)
            listeners, reactor = section.listeners, section.host.reactor
            limits = read_stream_limits(section.settings.limits, limits)
            if section.tls is not None:
                section.tls.handshake = limits.handshake_timeout
            if self.starts_tls:
                arguments += (section.tls.starter(reactor) if section.tls is not None else None,)
        else:
            from twisted.internet import reactor

            arguments = (db,)
            listeners = [self._listener(ip, port, backlog, address)]
        datagram = self._datagram
        return ServerService(
            name,
            self._name,
            listeners,
            reactor,
            self._factory(*arguments) if self._factory is not None else None,
            (lambda: datagram(*arguments)) if datagram is not None else None,
            processes=(section.settings.processes if section is not None else None) or self._processes,
            limits=limits,
        )

    def _listener(self, ip: str | None, port: int | None, backlog: int, address: Address | str | None) -> Listener:
        if isinstance(address, str):
            address = parse(address)
        elif address is None:
            kind = "tcp" if self._factory is not None else "udp"
            host = self._default_ip if ip is None else ip
            address = Address(kind, host, self._default_port if port is None else port)
        return BoundListener(address, address, BindOptions(backlog=backlog))
