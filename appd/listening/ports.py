"""Ports of Twisted's reactor on sockets that somebody else made.

Twisted's own adoption suits TCP, but for AF_UNIX it widens the mode of the path to 0666, listens again with a queue of
50 and, at the end, removes the path while systemd goes on listening behind it; it has none for UNIX datagrams. A socket
that is adopted here is used as it is: no listen(2), no chmod(2), no unlink(2), no shutdown(2).

Stream ports keep a record of their open connections, which a drain waits for.

Resource handling: each port works on a duplicate of the descriptor and closes that when it stops listening; the
original stays with its owner.
"""

from __future__ import annotations

import fcntl
import socket
import termios
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python import log

from appd.listening.connections import Connections
from appd.listening.datagrams import AdoptedUDPPort, AdoptedUNIXDatagramPort
from appd.listening.transports import CountedTCPServer, CountedUNIXServer, PacedTCPServer, PacedUNIXServer
from appd.portion import Portion

if TYPE_CHECKING:
    from twisted.internet.protocol import DatagramProtocol

__all__ = ["AdoptedTCPPort", "AdoptedUNIXPort", "adopt_connection", "adopt_datagram", "adopt_stream", "has_unread"]

# The largest datagram that UDP can carry, and more than systemd's and syslog's UNIX datagrams use; Twisted's 8192 would
# cut longer ones off without a word.
_MAX_DATAGRAM = 65536
# How many parts an address of IPv6 has.
_OF_IPV6 = 4


def has_unread(transport: Any) -> bool:
    """Whether bytes have arrived that the reactor has not read yet: FIONREAD of tcp(7) and unix(7).

    Closing a connection then would send a reset, which can destroy what is on its way to the peer.

    Args:
        transport: Twisted's transport of a stream; of another kind nothing is known.
    """
    if not isinstance(transport, tcp.Connection) or transport.disconnected:
        return False
    count = bytearray(4)
    fcntl.ioctl(transport.fileno(), termios.FIONREAD, count)
    return any(count)


class _AdoptedMixin:
    """What replaces the listening and the end of Twisted's ports."""

    connections: Connections
    portion: Portion | None = None
    _shouldShutdown = False
    _back: Any = None

    def startListening(self) -> None:
        port: Any = self
        # One descriptor is held in reserve, so that EMFILE can be answered by accepting and closing.
        tcp._reservedFD.reserve()
        listening, port._preexistingSocket = port._preexistingSocket, None
        port._realPortNumber = listening.getsockname()[1] if port.addressFamily != socket.AF_UNIX else None
        port.factory.doStart()
        port.connected = True
        port.socket = listening
        port.fileno = listening.fileno
        port.logstr = port.logPrefix()
        # With the library's names for these, each connection would look for them anew.
        self._kind = int(listening.family), int(listening.type), listening.proto
        port.startReading()

    def doRead(self) -> None:
        """Takes one connection, and is called again at once while there are more and they are its portion.

        Twisted takes as many as there are; of a burst the busier of two workers had nearly all.
        """
        port: Any = self
        taken = self.connections.total
        try:
            fd, address = port.socket._accept()
        except BlockingIOError:
            return
        except OSError:
            # It is said again, and Twisted knows what to do: without descriptors it takes the one in reserve.
            port.numberAccepts = 1
            tcp.Port.doRead(port)
        else:
            try:
                self._begin(fd, address)
            except BaseException:
                log.err()
        if self.portion is None or self.connections.total == taken:
            return
        if self.portion.take() and port.connected and not self.connections.full:
            self.stopReading()
            self._back = port.reactor.callLater(self.portion.rest, self._come_back)

    def _begin(self, fd: int, address: Any) -> None:
        """Makes a connection, as Twisted's `tcp.Port` does."""
        port: Any = self
        skt = socket.socket(*self._kind, fd)
        try:
            if len(address) == _OF_IPV6:  # with the zone of a link-local one: RFC 4007, 11
                host, _port = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
                address = (host, *address[1:])
            protocol = port.factory.buildProtocol(port._buildAddr(address))
        except BaseException:
            skt.close()
            raise
        if protocol is None:
            skt.close()
            return
        number = port.sessionno
        port.sessionno = number + 1
        protocol.makeConnection(port.transport(skt, protocol, address, port, number, port.reactor))

    def _come_back(self) -> None:
        port: Any = self
        assert self.portion is not None
        self._back = None
        self.portion.begin(port.fileno())
        port.startReading()

    def stopReading(self) -> None:
        """Accepts nothing until `startReading`."""
        port: Any = self
        back, self._back = self._back, None
        if back is not None:
            back.cancel()
        tcp.Port.stopReading(port)

    def _logConnectionLostMsg(self) -> None:
        """Says nothing: the service tells when it stops."""


class AdoptedTCPPort(_AdoptedMixin, tcp.Port):
    """A listening TCP socket."""


class AdoptedUNIXPort(_AdoptedMixin, unix.Port):
    """A listening UNIX socket."""

    def connectionLost(self, reason: Any) -> None:
        # Past unix.Port, which would remove the path.
        tcp.Port.connectionLost(self, reason)


def adopt_stream(
    reactor: Any, fd: int, family: int, factory: IProtocolFactory, connections: Connections
) -> IListeningPort:
    """Serves a factory on a listening stream socket.

    Args:
        reactor: The reactor.
        fd: The socket, listening and non-blocking; it is duplicated.
        family: AF_INET, AF_INET6 or AF_UNIX.
        factory: What makes a protocol for each connection.
        connections: What keeps the record of the open ones.

    Returns:
        The port, listening; the caller stops it.
    """
    port: Any
    factory = connections.admitting(factory)
    if family == socket.AF_UNIX:
        port = AdoptedUNIXPort._fromListeningDescriptor(reactor, fd, factory)
    else:
        port = AdoptedTCPPort._fromListeningDescriptor(reactor, fd, family, factory)
    port.connections = connections
    if connections.shared:
        port.portion = Portion(reactor.seconds)
    port.transport = _transport(family, connections)
    port.startListening()
    listening: IListeningPort = port
    return listening


def _transport(family: int, connections: Connections) -> Any:
    if family == socket.AF_UNIX:
        return PacedUNIXServer if connections.paced else CountedUNIXServer
    return PacedTCPServer if connections.paced else CountedTCPServer


def adopt_datagram(
    reactor: Any, fd: int, family: int, protocol: DatagramProtocol, connections: Connections
) -> IListeningPort:
    """Serves a protocol on a bound datagram socket.

    Args:
        reactor: The reactor.
        fd: The socket, bound and non-blocking; it is duplicated.
        family: AF_INET, AF_INET6 or AF_UNIX.
        protocol: What takes the datagrams. Over AF_UNIX an address is a path, or None for a sender without a name.
        connections: What keeps the record of when something came.

    Returns:
        The port, reading; the caller stops it.
    """
    port: Any
    if family == socket.AF_UNIX:
        existing = socket.fromfd(fd, family, socket.SOCK_DGRAM)
        port = AdoptedUNIXDatagramPort(existing.getsockname(), protocol, _MAX_DATAGRAM, reactor=reactor)
        port._preexistingSocket = existing
    else:
        port = AdoptedUDPPort._fromListeningDescriptor(reactor, fd, family, protocol, maxPacketSize=_MAX_DATAGRAM)
    port.connections = connections
    port.startListening()
    listening: IListeningPort = port
    return listening


class _OneConnection:
    """Stands for the port of a connection that was accepted by systemd (Accept=yes)."""

    def __init__(self, connections: Connections, port_number: int | None) -> None:
        self.connections = connections
        # Twisted's transport puts it into the prefix of its log lines.
        self._realPortNumber = port_number


def adopt_connection(reactor: Any, fd: int, family: int, factory: IProtocolFactory, connections: Connections) -> None:
    """Serves a factory on one connected stream socket.

    Args:
        reactor: The reactor.
        fd: The socket, connected and non-blocking; it is duplicated.
        family: AF_INET, AF_INET6 or AF_UNIX.
        factory: What makes the protocol; it is started and, when the connection has ended, stopped.
        connections: What keeps the record of it.
    """
    skt = socket.fromfd(fd, family, socket.SOCK_STREAM)
    server = _OneConnection(connections, None if family == socket.AF_UNIX else skt.getsockname()[1])
    try:
        peer = skt.getpeername()
    except OSError:  # gone already; reading will tell
        peer = "" if family == socket.AF_UNIX else ("", 0)
    factory.doStart()
    protocol = factory.buildProtocol(_peer_address(family, peer))
    if protocol is None:
        skt.close()
        factory.doStop()
        return
    transport: Any = _transport(family, connections)(skt, protocol, peer, server, 0, reactor)
    protocol.makeConnection(transport)
    connections.when_none().addCallback(lambda _none: factory.doStop())


def _peer_address(family: int, peer: Any) -> Any:
    from twisted.internet import address

    if family == socket.AF_UNIX:
        return address.UNIXAddress(peer or None)
    return (address.IPv6Address if family == socket.AF_INET6 else address.IPv4Address)("TCP", *peer)
