"""What services of Twisted's own making do to get a socket, done with ours.

There is one reactor in a process, and hosted code imports it; nobody hands it anything. So the methods by which it
listens are replaced on the reactor itself, in processes that run such services and nowhere else, and so is what reads
`systemd:` descriptions. A call while a service is made or started belongs to that service; a later one to the service
that was started last. What Twisted does better by itself is left to it: ports that the kernel chooses (those of an FTP
transfer, say) and multicast.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from zope.interface import directlyProvides, implementer, providedBy

from appd.address import Address, parse
from appd.errors import AppdError
from appd.listening import ports
from appd.listening.held import Held
from appd.listening.listeners import Listener
from appd.systemd.activation import ClaimError

if TYPE_CHECKING:
    from appd.listening.connections import Connections

__all__ = ["Taker", "taking"]

_ATTRIBUTE = "_appd_takers"


class Taker:
    """One service that gets its sockets here.

    Args:
        held: Its sockets.
        connections: The record of its connections.
        reactor: The reactor.
        opened: Called with each port that listens.

    Attributes:
        failed: What the host has refused it.
    """

    def __init__(self, held: Held, connections: Connections, reactor: Any, opened: Callable[[Any], object]) -> None:
        self.held = held
        self.failed: list[Exception] = []
        self._connections = connections
        self._reactor = reactor
        self._opened = opened

    def listen(self, address: Address, serves: Any, interface: Any, port: Any, backlog: int | None = None) -> Any:
        """Serves on a socket that was kept, or is from now on.

        Raises:
            CannotListenError: As by the reactor; the service may catch it, `failed` has it all the same.
        """
        try:
            return self.serve(self.held.bound(address, backlog), serves)
        except AppdError as error:
            self.failed.append(error)
            raise CannotListenError(interface, port, OSError(error.errno or 0, str(error))) from error

    def serve(self, listener: Listener, serves: Any) -> Any:
        """Serves on a socket."""
        opened = listener.listen(self._reactor, serves, self._connections)
        if opened is not None:
            self._opened(opened)
        return opened

    def adopt(self, fd: int, serves: Any) -> Any:
        """Serves on the UNIX socket that a service has brought, without what Twisted would do to its path."""
        opened = ports.adopt_stream(self._reactor, fd, socket.AF_UNIX, serves, self._connections)
        self._opened(opened)
        return opened

    def endpoint(self, text: str) -> Any:
        """What a `systemd:` description means.

        Raises:
            ValueError: It means nothing that was inherited.
        """
        try:
            listeners = self.held.inherited(parse(text))
        except ClaimError as error:
            self.failed.append(error)
            raise ValueError(str(error)) from error
        return _Inherited(self, text, listeners)


@implementer(IStreamServerEndpoint)
class _Inherited:
    """An endpoint of one inherited name, which may mean several sockets."""

    def __init__(self, taker: Taker, text: str, listeners: Sequence[Listener]) -> None:
        self._taker = taker
        self._text = text
        self._listeners = listeners

    def __repr__(self) -> str:
        return f"<{self._text}>"

    def listen(self, protocolFactory: Any) -> defer.Deferred[Any]:
        """See IStreamServerEndpoint."""
        opened = []
        try:
            for one in self._listeners:
                self._taker.held.keep(one)
                opened.append(self._taker.serve(one, protocolFactory))
        except AppdError as error:
            self._taker.failed.append(error)
            for one in opened:
                one.stopListening()
            return defer.fail(error)
        return defer.succeed(opened[0] if len(opened) == 1 else _Several(opened))


@implementer(IListeningPort)
class _Several:
    """Ports of one endpoint."""

    def __init__(self, those: Sequence[Any]) -> None:
        self._those = those

    def startListening(self) -> None:
        """They do."""

    def stopListening(self) -> defer.Deferred[Any]:
        """Stops all."""
        return defer.gatherResults([defer.maybeDeferred(one.stopListening) for one in self._those])

    def getHost(self) -> Any:
        """Where the first one listens."""
        return self._those[0].getHost()


@contextmanager
def taking(taker: Taker, reactor: Any) -> Iterator[None]:
    """While it lasts, what listens is that service's.

    Args:
        taker: The service.
        reactor: The reactor; its methods stay replaced afterwards.
    """
    takers: list[Taker] | None = getattr(reactor, _ATTRIBUTE, None)
    if takers is None:
        takers = []
        setattr(reactor, _ATTRIBUTE, takers)
        _replace(reactor, takers, reactor)
        _replace_parser(takers)
    # The one that was last stays on top when it is done.
    if taker in takers:
        takers.remove(taker)
    takers.append(taker)
    yield


def holding(reactor: Any, taker: Taker) -> Any:
    """A reactor to be passed on: it listens on sockets of the service; in all else it is the given one.

    Args:
        reactor: The reactor; it stays as it is.
        taker: The service.
    """
    return _Holding(reactor, taker)


class _Holding:
    def __init__(self, reactor: Any, taker: Taker) -> None:
        self._reactor = reactor
        _replace(self, [taker], reactor)
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class _Listening:
    """The methods that take the place of a reactor's.

    They are bound, as the reactor's own are: twisted.protocols.ftp keeps `reactor.listenTCP` in a class, where a plain
    function would become a method of whatever is made of that class.
    """

    def __init__(self, reactor: Any, takers: Sequence[Taker]) -> None:
        self._takers = takers
        self._tcp, self._udp, self._adopt = reactor.listenTCP, reactor.listenUDP, reactor.adoptStreamPort

    def listen_tcp(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port == 0:
            return self._tcp(port, factory, backlog, interface)
        # Twisted's own default is every IPv4 address.
        where = Address("tcp", interface or "0.0.0.0", port)
        return self._takers[-1].listen(where, factory, interface, port, backlog)

    def listen_ssl(self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = "") -> Any:
        from twisted.protocols.tls import TLSMemoryBIOFactory

        return self.listen_tcp(port, TLSMemoryBIOFactory(contextFactory, False, factory), backlog, interface)

    def listen_udp(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> Any:
        if port == 0:
            return self._udp(port, protocol, interface, maxPacketSize)
        return self._takers[-1].listen(Address("udp", interface or "0.0.0.0", port), protocol, interface, port)

    def listen_unix(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> Any:
        return self._takers[-1].listen(_of_path("unix", address, mode), factory, None, address, backlog)

    def listen_unix_datagram(self, address: Any, protocol: Any, maxPacketSize: int = 8192, mode: int = 0o666) -> Any:
        return self._takers[-1].listen(_of_path("unix-dgram", address, mode), protocol, None, address)

    def adopt_stream_port(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        if addressFamily != socket.AF_UNIX:
            return self._adopt(fileDescriptor, addressFamily, factory)
        return self._takers[-1].adopt(fileDescriptor, factory)


def _replace(on: Any, takers: Sequence[Taker], reactor: Any) -> None:
    ours = _Listening(reactor, takers)
    on.listenTCP = ours.listen_tcp
    on.listenSSL = ours.listen_ssl
    on.listenUDP = ours.listen_udp
    on.listenUNIX = ours.listen_unix
    on.listenUNIXDatagram = ours.listen_unix_datagram
    on.adoptStreamPort = ours.adopt_stream_port


def _of_path(kind: str, path: Any, mode: int) -> Address:
    text = path.decode() if isinstance(path, bytes) else str(path)
    # In the abstract namespace a name begins with NUL, and has no mode.
    if text.startswith("\0"):
        return Address(kind, path=f"@{text[1:]}")
    return Address(kind, path=text, mode=mode)


def _replace_parser(takers: Sequence[Taker]) -> None:
    from twisted.internet.interfaces import IStreamServerEndpointStringParser
    from twisted.plugin import getPlugins

    def parse_stream_server(reactor: Any, *args: str, **kwargs: str) -> Any:
        words = [f"domain={one}" for one in args] + [f"{key}={value}" for key, value in kwargs.items()]
        return takers[-1].endpoint(":".join(["systemd", *words]))

    parsers: list[Any] = list(getPlugins(IStreamServerEndpointStringParser))
    for one in parsers:
        if one.prefix == "systemd":
            one.parseStreamServer = parse_stream_server
