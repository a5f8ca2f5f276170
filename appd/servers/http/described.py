"""HTTP on addresses that only Twisted can bind: their connections, carried to the loop.

    port ─▶ Twisted's transport ─▶ Carried: a protocol to Twisted, a transport to the loop ─▶ LoopClient

The loop and the reactor share a thread (`appd.listening.ride`), so that each calls the other at once. Until something
is said nobody knows who is there: the header of a proxy and the handshake of TLS come before that. From the first
moment on it is one of the server's connections all the same: counted, limited, drained and cut like the others.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.threadable import isInIOThread
from zope.interface import implementer

from appd.http.lane.client import DRAIN_LINGER
from appd.http.lane.door import plain_host
from appd.http.lane.environ import base_environ
from appd.http.loop.client import LoopClient
from appd.http.loop.scope import tls_extension
from appd.listening.ports import has_unread
from appd.listening.ride import within

if TYPE_CHECKING:
    from appd.http.lane.server import Server
    from appd.http.loop.driver import Driver

__all__ = ["DescribedDoor"]


class DescribedDoor(Factory):
    """What Twisted makes connections with, what the server knows as a door, and what its service knows as a port.

    Args:
        server: The server.
        driver: What has the connections.
        reactor: The reactor, in whose thread the driver is.
    """

    noisy = False

    def __init__(self, server: Server, driver: Driver, reactor: Any) -> None:
        self.server = server
        self.driver = driver
        self._reactor = reactor
        self._port: Any = None
        self._open = False

    def buildProtocol(self, _address: Any) -> Carried:
        """A connection."""
        return Carried(self.server, self.driver)

    # What the service asks of a port.

    def listens(self, port: Any) -> DescribedDoor:
        """Twisted listens.

        Args:
            port: Where.
        """
        self._port = port
        self.server.doors.append(self)  # type: ignore[arg-type]  # as far as a server knows doors
        self.startReading()
        return self

    def fileno(self) -> int:
        """The descriptor."""
        number: int = self._port.fileno()
        return number

    def stopReading(self) -> None:
        """Accepts no further connection."""
        self._open = False
        self.shut()

    def startReading(self) -> None:
        """Accepts connections."""
        self._open = True
        self.poll()

    def stopListening(self) -> Any:
        """Closes it."""
        self.server.doors.remove(self)  # type: ignore[arg-type]  # as above
        return self._port.stopListening()

    # What the server asks of a door, in any thread.

    def poll(self) -> None:
        """Waits for connections, if any are to be accepted."""
        if self._open and not self.server.full:
            self._have_port("startReading")

    def shut(self) -> None:
        """Does not wait for connections."""
        self._have_port("stopReading")

    def _have_port(self, what: str) -> None:
        call = getattr(self._port, what, lambda: None)  # a plugin's port may be of any kind
        if isInIOThread():
            call()
        else:
            self._reactor.callFromThread(call)


class _Place:
    """Where a connection came in, as a proxy in front says if one does: what doors say of all that came in by them."""

    is_local = False

    def __init__(self, server: Server, where: Any) -> None:
        self.server = server
        host, port = plain_host(getattr(where, "host", "")), getattr(where, "port", 80)
        self.address = (host, port) if host else None
        self.environ = base_environ(host or "localhost", str(port), many_processes=False)


@implementer(IHalfCloseableProtocol, IPushProducer)
class Carried(Protocol):
    """A connection: what Twisted calls, what the loop calls, and what the server calls until something is said.

    Args:
        server: The server.
        driver: What has it.

    Attributes:
        host: The address of the peer, "" when it has none or it is not known yet.
        port: Its port.
        counted: See `Server.lost`.
        deadline: See `Deadlines`.
        tick: See `Deadlines`.
        secure: Whether the client speaks TLS.
        is_beyond: Whether the client is one of a proxy's UNIX socket.
    """

    transport: Any

    def __init__(self, server: Server, driver: Driver) -> None:
        self.server = server
        self.driver = driver
        self.host, self.port, self.counted = "", 0, ""
        self.deadline, self.tick = 0.0, 0
        self.secure = self.is_beyond = False
        self._client: Any = None
        # What has the socket, below all that is wrapped around it.
        self._lowest: Any = None
        self._closing = self._ended = self._full = False

    # What Twisted calls.

    def connectionMade(self) -> None:
        """Begins."""
        lowest = self.transport
        while isinstance(lowest, ProtocolWrapper):
            lowest = lowest.transport
        self._lowest = lowest
        if isinstance(lowest, tcp.Connection) and not isinstance(lowest, unix.Server):
            lowest.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        within(self.driver.loop, self.server.welcome, self)

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come."""
        within(self.driver.loop, self._take, data)

    def _take(self, data: bytes) -> None:
        if self._client is None and not self._closing:
            self._meet()
        if not self._closing:
            self._client.data_received(data)

    def readConnectionLost(self) -> None:
        """The client has said all it wants to."""
        self._ended = True
        within(self.driver.loop, self._take_end)

    def _take_end(self) -> None:
        if self._client is None or not self._client.eof_received():
            self.close()

    def writeConnectionLost(self) -> None:
        """All is sent, and our side is closed."""

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """The connection has ended."""
        self._closing = True
        client, self._client = self._client, None
        if client is not None:
            within(self.driver.loop, client.connection_lost, None)
        else:
            self.driver.alarm.deadlines.drop(self)
            self.server.lost(self)

    def pauseProducing(self) -> None:
        """The client takes less than is sent. Twisted says so at each write."""
        if self._client is not None and not self._full:
            self._full = True
            self._client.pause_writing()

    def resumeProducing(self) -> None:
        """The client has taken what waited."""
        if self._full and self._client is not None:
            self._full = False
            within(self.driver.loop, self._client.resume_writing)

    def stopProducing(self) -> None:
        """The connection is lost, as `connectionLost` is told."""

    # What the server calls, as of any client.

    @property
    def patience(self) -> float:
        """How long the first step may take, in seconds."""
        return self.server.limits.idle_timeout

    def settle(self, wait: float) -> None:
        """Begins to wait for the first byte.

        Args:
            wait: How long, in seconds.
        """
        self.driver.alarm.deadlines.put(self, time.monotonic() + wait)

    def expired(self) -> None:
        """The deadline has passed."""
        if has_unread(self._lowest):
            self.settle(DRAIN_LINGER)
        else:
            self.close()

    def turn_away(self) -> None:
        """Ends a connection that is one too many; but nobody is counted before it is known who that is."""
        self.close()

    def drain(self, _ends: float) -> None:
        """A drain begins: who says nothing has a moment. Any thread may call."""
        self.driver.post(self._drain)

    def _drain(self) -> None:
        if self._client is None and not self._closing:
            self.settle(DRAIN_LINGER)

    # From here on somebody is there.

    def _meet(self) -> None:
        """The first bytes have come, behind what a proxy says and the handshake."""
        peer = self.transport.getPeer()
        host = getattr(peer, "host", "")
        if host:
            self.host, self.port = sys.intern(plain_host(host)), peer.port
        # Who comes by the proxy's UNIX socket is not by ours.
        self.is_beyond = not host and not isinstance(self._lowest, unix.Server)
        self.secure = ISSLTransport.providedBy(self.transport)
        place = _Place(self.server, self.transport.getHost())
        before: Any = self  # as far as its client knows it
        LoopClient(self.driver, place, self.host, self.port, before).connection_made(self)

    def introduce(self, client: LoopClient) -> None:
        """From now on the connection is the client's.

        Args:
            client: What it is now.
        """
        self._client = client
        self.driver.alarm.deadlines.drop(self)
        if self.secure:
            client.variables = getattr(self.transport, "application_variables", {})
            client.tls = tls_extension(client.variables)
            client.alpn = (self.transport.negotiatedProtocol or b"").decode()
        self.server.clients.add(client)
        self.server.replace(self, client)  # type: ignore[arg-type]  # as above
        if not self.server.count(client):  # type: ignore[arg-type]  # as above
            client.turn_away()

    # What the loop asks of a transport.

    def write(self, data: Any) -> None:
        """Sends bytes."""
        if not self._closing:
            self.transport.write(data if type(data) is bytes else bytes(data))

    def can_write_eof(self) -> bool:
        """Whether one side may end alone: TLS would be cut."""
        return not self.secure and isinstance(self._lowest, tcp.Connection)

    def write_eof(self) -> None:
        """Ends our side when all is sent."""
        # With a producer there would be more to send.
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def close(self) -> None:
        """Ends the connection when all is sent."""
        if not self._closing:
            self._closing = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Cuts it at once, and over TLS without a word that would make an end of it."""
        self._closing = True
        self._lowest.abortConnection()

    def is_closing(self) -> bool:
        """Whether it ends, or has."""
        return self._closing

    def pause_reading(self) -> None:
        """Reads nothing for now."""
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Reads again."""
        if not self._ended and not self._closing:
            self.transport.resumeProducing()

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent."""
        lowest = self._lowest
        if not isinstance(lowest, tcp.Connection):
            return 0
        return len(lowest.dataBuffer) - lowest.offset + lowest._tempDataLen

    def get_extra_info(self, name: str) -> Any:
        """The socket, for questions; of TLS Twisted knows how to end it, and who asks is told of none."""
        return getattr(self._lowest, "socket", None) if name == "socket" else None

    def set_protocol(self, client: Any) -> None:
        """Has another protocol be called from now on."""
        self._client = client
