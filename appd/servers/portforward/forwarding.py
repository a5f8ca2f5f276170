"""A connection that is passed on: two transports, each the producer of the other.

    client ⇄ _Inside ⇄ _Outside ⇄ the other end

* Neither is read faster than the other takes: each transport is registered as the producer of the other, so that a full
  buffer here stops the reading there.
* The end of one direction is passed on as such, once all that came before has been: shutdown(2) for plain connections,
  close_notify over TLS. The other direction goes on.
* A connection that breaks on one side breaks on the other, behind what came before: see `breaking`. Over TLS an end
  without close_notify is a break.
* Until the other end is there nothing is read from the client.
"""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet import defer, error, tcp
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer, ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from zope.interface import implementer

from appd.servers.portforward.breaking import break_off, flush, reset
from appd.servers.portforward.header import Ends, write_header

__all__ = ["Forwarding"]

_log = Logger(namespace="appd.portforward")

# One line about an end that cannot be reached stands for what follows, in seconds.
_TELL_AGAIN = 60.0


def _end_writing(transport: Any) -> None:
    """Says that nothing more comes, when all before has gone."""
    transport.unregisterProducer()
    if not ISSLTransport.providedBy(transport):
        transport.loseWriteConnection()
        return
    # Twisted's TLS has no half-close of its own: this is what it does at the end, without closing the socket.
    from twisted.protocols.tls import TLSMemoryBIOProtocol

    over: Any = transport.protocol if isinstance(transport, tcp.Connection) else transport
    flush(transport)
    TLSMemoryBIOProtocol._shutdownTLS(over)


@implementer(IPushProducer)
class _Reading:
    """A transport as the producer of the other: a transport that is lost stops its producer, before its protocol knows
    why, and a transport that is stopped closes, which would be a clean end.
    """

    def __init__(self, transport: Any) -> None:
        self.pauseProducing = transport.pauseProducing
        self.resumeProducing = transport.resumeProducing

    def stopProducing(self) -> None:
        """What becomes of the transport is said by its protocol."""


@implementer(IHalfCloseableProtocol)
class _Side(Protocol):
    """One side of a connection."""

    other: Any = None
    transport: Any
    reactor: Any
    ended = False
    """Whether its peer has said all it wants to."""
    lost = False

    def dataReceived(self, data: bytes) -> None:
        self.other.transport.write(data)

    def readConnectionLost(self) -> None:
        self.ended = True
        other = self.other
        if other is None or other.lost:
            self.transport.loseConnection()
        elif other.ended:
            # Both directions have ended.
            other.transport.unregisterProducer()
            other.transport.loseConnection()
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        else:
            _end_writing(other.transport)

    def writeConnectionLost(self) -> None:
        """The peer is told that nothing more comes."""

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True
        other = self.other
        if other is None or other.lost:
            return
        other.transport.unregisterProducer()
        if reason is None or reason.check(error.ConnectionDone) is not None:
            other.transport.loseConnection()
        elif reason.check(error.ConnectionAborted) is not None:
            reset(other.transport)
        else:
            break_off(other.transport, other.reactor)


@implementer(IHandshakeListener)
class _Outside(_Side):
    """The side to the other end."""

    def __init__(self, inside: _Inside) -> None:
        self.other = inside
        self.reactor = inside.reactor

    def connectionMade(self) -> None:
        if self.other.lost:
            reset(self.transport)
            return
        self.other.reached(self)

    def handshakeCompleted(self) -> None:
        """The other end is who it should be."""
        if not self.other.lost and self.other.waits:
            self.other.begin()

    def connectionLost(self, reason: Any = None) -> None:
        if self.other.waits and not self.other.lost:
            # Not who it should be, or gone in the handshake.
            self.other.factory.tell(str(getattr(reason, "value", reason)))
            self.lost = True
            reset(self.other.transport)
        super().connectionLost(reason)


class _OutsideFactory(Factory):
    noisy = False

    def __init__(self, inside: _Inside) -> None:
        self._inside = inside

    def buildProtocol(self, addr: Any) -> _Outside:
        return _Outside(self._inside)


class _Inside(_Side):
    """The side to the client."""

    factory: Forwarding

    @property
    def reactor(self) -> Any:
        """The reactor."""
        return self.factory.reactor

    def connectionMade(self) -> None:
        self._set_no_delay(self.transport)
        self.transport.pauseProducing()
        self._deadline = self.factory.reactor.callLater(self.factory.timeout, self._too_late)
        self._connecting: Any = self.factory.endpoint.connect(_OutsideFactory(self))
        self._connecting.addErrback(self._failed)

    @staticmethod
    def _set_no_delay(transport: Any) -> None:
        # What is passed on has been gathered by who has sent it. A UNIX socket has no such thing, and Twisted before
        # 24.7 asks it all the same.
        with contextlib.suppress(OSError):
            transport.setTcpNoDelay(True)

    def reached(self, outside: _Outside) -> None:
        """The other end is there; over TLS, its handshake begins."""
        self.other = outside
        self._set_no_delay(outside.transport)
        if self.factory.version != "off":
            # Before anything else, TLS included.
            outside.transport.write(self._header())
        if self.factory.creator is not None:
            # What the client says waits until it is known who gets it; and an end in the middle of a handshake is none.
            outside.transport.startTLS(self.factory.creator)
        else:
            self.begin()

    def begin(self) -> None:
        """Passes on from now on."""
        self.in_time()
        self.other.transport.registerProducer(_Reading(self.transport), True)
        self.transport.registerProducer(_Reading(self.other.transport), True)
        self.transport.resumeProducing()

    @property
    def waits(self) -> bool:
        """Whether the other end is not reached yet."""
        return bool(self._deadline.active())

    def in_time(self) -> None:
        """The other end is reached."""
        if self._deadline.active():
            self._deadline.cancel()

    def _header(self) -> bytes:
        source, target = self.transport.getPeer(), self.transport.getHost()
        ends = None
        if getattr(source, "port", None) is not None:
            ends = Ends((source.host, source.port), (target.host, target.port))
        return write_header(self.factory.version, ends, tls=ISSLTransport.providedBy(self.transport))

    def _too_late(self) -> None:
        self.factory.tell(f"no connection within {self.factory.timeout:g} s (connect-timeout)")
        if self.other is not None:
            reset(self.other.transport)
        else:
            self._connecting.cancel()
        reset(self.transport)

    def _failed(self, failure: Any) -> None:
        self.in_time()
        if not failure.check(defer.CancelledError) and not self.lost:
            self.factory.tell(str(failure.value))
            reset(self.transport)

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        self.in_time()
        if self.other is None:
            self._connecting.cancel()


class Forwarding(Factory):
    """Passes each connection on.

    Args:
        server: The name of the server.
        endpoint: Where to: an IStreamClientEndpoint.
        where: The same for people.
        reactor: The reactor.
        timeout: How long connecting may take, in seconds.
        version: `off`, or the version of the PROXY protocol.
        creator: How TLS is spoken there: what startTLS takes; None when it is not.
    """

    protocol: Any = _Inside
    noisy = False

    def __init__(
        self, server: str, endpoint: Any, where: str, reactor: Any, timeout: float, version: str, creator: Any
    ) -> None:
        self.server = server
        self.endpoint = endpoint
        self.where = where
        self.reactor = reactor
        self.timeout = timeout
        self.version = version
        self.creator = creator
        self._told = 0.0

    def tell(self, reason: str) -> None:
        """Says, once in a while, why the other end is not reached."""
        now = self.reactor.seconds()
        if now >= self._told:
            self._told = now + _TELL_AGAIN
            _log.warn(
                "{appd_server}: {where} is not reached: {reason}",
                appd_server=self.server,
                where=self.where,
                reason=reason,
            )
