"""Echo: RFC 862 over streams and datagrams, the smallest server that shows every kind of socket."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from appd.interfaces import IDrainable
from appd.listening.lull import Lull
from appd.servers import ServerType

__all__ = ["server_type"]


@implementer(IHalfCloseableProtocol)
class _Echo(Protocol):
    """Sends back what it receives, and reads no faster than the peer takes it."""

    factory: _EchoFactory
    transport: Any

    def __init__(self) -> None:
        self._lull = Lull(self, self.finish)

    def connectionMade(self) -> None:
        self.factory.open.add(self)
        if self.factory.draining:
            self.drain()
        # The transport stops reading while its own buffer of answers is full.
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self._lull.heard()
        self.transport.write(data)

    def drain(self) -> None:
        """Ends the connection once nothing has come for a moment; what is on its way is still sent back."""
        self._lull.begin(self.transport.reactor)

    def readConnectionLost(self) -> None:
        """The peer has said all it wants to; what it said is still owed to it."""
        self.finish()

    def writeConnectionLost(self) -> None:
        """Nothing can be sent back any more."""
        self.finish()

    def finish(self) -> None:
        """Ends the connection when what was received has been sent back."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.open.discard(self)
        self._lull.stop()


@implementer(IDrainable)
class _EchoFactory(Factory):
    protocol: Any = _Echo
    noisy = False

    def __init__(self, db: Any = None, settings: Any = None) -> None:
        self.open: set[_Echo] = set()
        self.draining = False

    def drain(self) -> None:
        self.draining = True
        for protocol in list(self.open):
            protocol.drain()


class _EchoDatagrams(DatagramProtocol):
    noisy = False
    transport: Any

    def __init__(self, db: Any = None, settings: Any = None) -> None:
        super().__init__()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.transport.write(datagram, addr)


# Port 7 is RFC 862's.
server_type = ServerType(_EchoFactory, 7, datagram=_EchoDatagrams, name="echo", processes="all")
