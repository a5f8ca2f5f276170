"""Server types: what makes servers, by name.

`ServerType` turns a callable that makes Twisted protocol factories into a server type, as zope.app.twisted's did. The
rest of that contract is here as well: server types over TLS and with a host key, and the factories that make servers
from sections of a configuration, whose types are looked up by name when a server is made.
"""

from __future__ import annotations

import os

from appd.address import Address, parse
from appd.declaring import implements
from appd.errors import ConfigurationError, Place
from appd.limits import StreamLimits
from appd.listening.binding import BindOptions
from appd.listening.listeners import BoundListener, Listener
from appd.registry import Registration, Registry
from appd.servers.sectioned import read_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from appd.interfaces import IServerType
    from appd.lending import Section
    from appd.service import ServerService

__all__ = ["SSHServerType", "SSLServerFactory", "SSLServerType", "ServerFactory", "ServerType", "find_type"]


@implements("IServerType")
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
        self.defaultPort = defaultPort
        self.defaultIP = defaultIP
        self._name = name or getattr(factory or datagram, "__name__", "server")
        self.processes = processes
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
        from appd.service import ServerService

        listeners: Sequence[Listener]
        limits = self._limits
        if section is not None:
            arguments: tuple[Any, ...] = (db, section.settings)
            listeners, reactor = section.listeners, section.host.reactor
            limits = read_limits(section, limits)
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
            processes=(section.settings.processes if section is not None else None) or self.processes,
            limits=limits,
        )

    def _listener(self, ip: str | None, port: int | None, backlog: int, address: Address | str | None) -> Listener:
        if isinstance(address, str):
            address = parse(address)
        elif address is None:
            kind = "tcp" if self._factory is not None else "udp"
            host = self.defaultIP if ip is None else ip
            address = Address(kind, host, self.defaultPort if port is None else port)
        return BoundListener(address, address, BindOptions(backlog=backlog))


@implements("ISSLServerType")
class SSLServerType(ServerType):
    """A server type whose servers speak TLS; arguments as for `ServerType`.

    Sections of a file need none: there every server type has `tls-address` and `<tls>`.
    """

    def create(  # type: ignore[override]  # the contract puts these arguments between those of the base
        self,
        name: str,
        db: Any,
        privateKeyPath: str,
        certificatePath: str,
        tls: bool = False,
        ip: str | None = None,
        port: int | None = None,
        backlog: int = 50,
        address: Address | str | None = None,
    ) -> ServerService:
        """Makes a server; see `appd.interfaces.ISSLServerType.create`."""
        from appd.tls.termination import make_termination

        section = _tls_section(certificatePath, privateKeyPath)
        termination, _unseen = make_termination(name, section, lenient=False)
        if problems := termination.problems():
            raise ConfigurationError(*problems)
        made = super().create(name, db, ip, port, backlog, address)
        for one in made.listeners:
            one.tls = termination
        return made


@implements("ISSHServerType")
class SSHServerType(ServerType):
    """A server type whose factory is called with the application object and the path of the host key."""

    def create(  # type: ignore[override]  # the contract puts this argument between those of the base
        self,
        name: str,
        db: Any,
        hostkey: str,
        ip: str | None = None,
        port: int | None = None,
        backlog: int = 50,
        address: Address | str | None = None,
    ) -> ServerService:
        """Makes a server; see `appd.interfaces.ISSHServerType.create`."""
        if not os.path.isfile(hostkey):
            raise ConfigurationError(f"server {name!r}: there is no host key {hostkey}")
        make = self._factory
        assert make is not None, "SSH is a stream"
        plain = ServerType(
            lambda application: make(application, hostkey), self.defaultPort, self.defaultIP, name=self._name
        )
        return plain.create(name, db, ip, port, backlog, address)


def _tls_section(certificate: str, private_key: str) -> Any:
    """What a `<tls>` with these files would be."""
    from appd.config.loader import Loader
    from appd.config.settings import Settings

    written = {"certificate": (certificate,), "private-key": (private_key,)}
    if certificate == private_key:
        del written["private-key"]
    loader = Loader(Registry())
    found = loader.section("appd.tls", Settings("", None, Place("", 0), {}, {}, written), {key: key for key in written})
    if loader.problems:
        raise ConfigurationError(*loader.problems)
    return found


# What appd calls them. HTTP and HTTPS serve a WSGI application.
_CALLED = {"sftp": "ssh", "postmortemdebugginghttp": "http"}
_HTTPS = Registration("https", "appd.servers.http.http:https_type", "appd")


def find_type(name: str) -> IServerType | None:
    """The server type of a name, in any case; None when there is none.

    Args:
        name: One of zope.app.twisted's (HTTP, HTTPS, FTP, SFTP, PostmortemDebuggingHTTP), which win, or any installed
        one.

    Raises:
        ConfigurationError: It does not import, or two packages bring it.
    """
    lower = name.lower()
    found = _HTTPS if lower == "https" else Registry().find(_CALLED.get(lower, lower))
    return found.load() if found is not None else None


class ServerFactory:
    """Makes servers from a section like `<server>`, as zope.app.twisted's did.

    Args:
        section: Has `type`, `address` (host and port, any address of appd's as text, or None for the type's defaults)
        and
            `backlog`.
        find: Name → server type, None where there is none. Asked when a server is made, not before.
    """

    def __init__(self, section: Any, find: Callable[[str], Any] = find_type) -> None:
        self.type = section.type
        self.address = section.address
        self.backlog = getattr(section, "backlog", None) or 50
        self._find = find

    def create(self, db: Any) -> Any:
        """Makes a server; it is called TYPE:HOST:PORT.

        Args:
            db: The application object.

        Raises:
            ConfigurationError: There is no such type.
        """
        return self._create(db)

    def _create(self, db: Any, **more: Any) -> Any:
        server_type = self._find(self.type)
        if server_type is None:
            raise ConfigurationError(f"no server type is called {self.type!r}; `appd types` lists them")
        if self.address is None:
            host, port = getattr(server_type, "defaultIP", ""), getattr(server_type, "defaultPort", None)
            if port is None:
                raise ConfigurationError(f"type {self.type} has no port of its own: the section needs an address")
        elif isinstance(self.address, str | Address):
            where = self.address
            return server_type.create(f"{self.type}:{where}", db, backlog=self.backlog, address=where, **more)
        else:
            host, port = self.address
        name = f"{self.type}:{host or 'localhost'}:{port}"
        return server_type.create(name, db, ip=host, port=port, backlog=self.backlog, **more)


class SSLServerFactory(ServerFactory):
    """The same for a section like `<sslserver>`.

    Args:
        section: Has `privatekeypath`, `certificatepath` and `tls` as well.
        find: As for `ServerFactory`; finds an `ISSLServerType`.
    """

    def __init__(self, section: Any, find: Callable[[str], Any] = find_type) -> None:
        super().__init__(section, find)
        self.privatekeypath = section.privatekeypath
        self.certificatepath = section.certificatepath
        self.tls = getattr(section, "tls", False)

    def create(self, db: Any) -> Any:
        """Makes a server; as for `ServerFactory`."""
        return self._create(db, privateKeyPath=self.privatekeypath, certificatePath=self.certificatepath, tls=self.tls)
