"""DNS on Twisted's transports: datagrams, and streams with a length before each message (RFC 1035, 4.2.2; RFC 7858)."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import dns.flags
import dns.message
import dns.rcode
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.protocols.basic import Int16StringReceiver
from zope.interface import implementer

from appd.interfaces import IDrainable
from appd.listening.lull import Lull
from appd.servers.dns.answering import Answering, Forward, cut, to_wire
from appd.servers.dns.clients import Networks, Rates
from appd.servers.dns.forwarding import Resolver

__all__ = ["Datagrams", "Service", "Streams"]

# Queries of one connection that may be on the way to others; more are not read before.
_MOST_PENDING = 100


class Service:
    """What every socket of a server shares.

    Args:
        answering: What it says.
        resolver: Who asks others; None when nobody is asked.
        trusted: Whose queries are forwarded.
        transfer: Who may transfer zones.
        rates: How often it answers whom over UDP.
        reactor: The reactor.
        count: Called for each query.
    """

    def __init__(
        self,
        answering: Answering,
        resolver: Resolver | None,
        trusted: Networks,
        transfer: Networks,
        rates: Rates,
        reactor: Any,
    ) -> None:
        self._answering = answering
        self._resolver = resolver
        self.trusted = trusted
        self._transfer = transfer
        self.rates = rates
        self.reactor = reactor
        self.count: Callable[[], None] = lambda: None

    def take(self, data: bytes, host: str, send: Callable[[Any], None], *, datagram: bool) -> None:
        """Answers a query.

        Args:
            data: The query.
            host: Who asks; "" over UNIX sockets.
            send: Called with the response in bytes, with an iterator of those of a transfer, or with None: no answer.
            datagram: Whether it came over UDP.
        """
        trusted = self.trusted.holds(host)
        found = self._answering.answer(data, trusted=trusted, transfers=self._transfer.holds(host), datagram=datagram)
        if not isinstance(found, Forward):
            send(found)
            return
        assert self._resolver is not None, "otherwise nothing is forwarded"
        self._resolver.resolve(found.query).addCallback(lambda message: send(_passed_on(found, message)))


def _passed_on(forward: Forward, message: Any) -> bytes:
    """What somebody else has said, as the answer to a query of ours."""
    query = forward.query
    response = dns.message.make_response(query, recursion_available=True)
    if query.edns >= 0:
        response.use_edns(0, query.ednsflags & dns.flags.DO, 1232)
    if message is None:
        response.set_rcode(dns.rcode.SERVFAIL)
    else:
        response.flags |= message.flags & dns.flags.AD
        response.answer, response.authority = message.answer, message.authority
        response.additional = message.additional
        response.set_rcode(message.rcode())
    return to_wire(response, forward.size)


class Datagrams(DatagramProtocol):
    """Queries over UDP, or UNIX datagrams.

    Args:
        service: What answers.
    """

    noisy = False
    transport: Any

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Takes a query."""
        host = addr[0] if isinstance(addr, tuple) else ""
        if host and addr[1] == 0:
            return  # nobody can be answered there
        verdict = "send"
        if host and not self._service.trusted.holds(host):
            verdict = self._service.rates.verdict(host, self._service.reactor.seconds())
            if verdict == "drop":
                return

        def send(response: Any) -> None:
            if response is None or self.transport is None:
                return
            if verdict == "cut":
                response = _only_cut(response)
            # A firewall, or a route that is lost: a datagram may be lost, and a traceback for each would be a flood.
            with contextlib.suppress(OSError):
                self.transport.write(response, addr)

        self._service.count()
        self._service.take(datagram, host, send, datagram=True)


def _only_cut(response: bytes) -> bytes:
    """The head and the question of a response, and that it is cut."""
    return cut(dns.message.from_wire(response))


@implementer(IHalfCloseableProtocol)
class _Stream(Int16StringReceiver):
    """A client over TCP, TLS or a UNIX stream."""

    factory: Streams
    transport: Any
    MAX_LENGTH = 65535

    def connectionMade(self) -> None:
        self._host = getattr(self.transport.getPeer(), "host", "") or ""
        self._pending = 0
        self._ended = self._lost = False
        self._transfers: deque[Iterator[bytes]] = deque()
        self._lull = Lull(self, self.transport.loseConnection, lambda: bool(self._pending or self._unprocessed))
        self.factory.open.add(self)
        if self.factory.draining:
            self.drain()

    def drain(self) -> None:
        """Ends when what was asked is answered."""
        self._lull.begin(self.factory.service.reactor)

    def dataReceived(self, data: bytes) -> None:
        self._lull.heard()
        super().dataReceived(data)

    def stringReceived(self, string: bytes) -> None:
        """Takes a query."""
        self._pending += 1
        if self._pending == _MOST_PENDING:
            self.transport.pauseProducing()
        self.factory.service.count()
        self.factory.service.take(string, self._host, self._answer, datagram=False)

    def _answer(self, response: Any) -> None:
        if self._lost:
            return
        if response is None:
            # No query at all: nothing else will come of it.
            self.transport.loseConnection()
        elif isinstance(response, bytes):
            self.sendString(response)
        else:
            # One after the other: a transport asks one producer.
            self._transfers.append(response)
            if len(self._transfers) == 1:
                _Transfer(self, response)
            return
        self.settled()

    def transferred(self) -> None:
        """Notes that a transfer is through."""
        self._transfers.popleft()
        if self._transfers:
            _Transfer(self, self._transfers[0])
        self.settled()

    def settled(self) -> None:
        """Notes that a query is answered."""
        self._pending -= 1
        if self._pending == _MOST_PENDING - 1 and not self._ended:
            self.transport.resumeProducing()
        if self._ended and not self._pending:
            self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        """The client has asked all that it wants to."""
        self._ended = True
        if not self._pending:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nobody closes this side alone."""

    def connectionLost(self, reason: Any = None) -> None:
        self._lost = True
        self._lull.stop()
        self.factory.open.discard(self)


class _Transfer:
    """Sends the messages of a transfer, each when the client takes it."""

    def __init__(self, stream: _Stream, messages: Iterator[bytes]) -> None:
        self._stream = stream
        self._messages = messages
        stream.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Sends the next one."""
        message = next(self._messages, None)
        if message is not None:
            self._stream.sendString(message)
            return
        self._stream.transport.unregisterProducer()
        self._stream.transferred()

    def stopProducing(self) -> None:
        """The client has gone."""


@implementer(IDrainable)
class Streams(Factory):
    """Makes the protocols of streams.

    Args:
        service: What answers.
    """

    protocol: Any = _Stream
    noisy = False

    def __init__(self, service: Service) -> None:
        self.service = service
        self.open: set[_Stream] = set()
        self.draining = False

    def drain(self) -> None:
        """See IDrainable."""
        self.draining = True
        for one in list(self.open):
            one.drain()
