"""Data connections: which session one belongs to, and what goes over it.

A connection belongs to the session that waits at its port and whose client has the same address: nobody else gets in
between (a stolen transfer), and no other host is connected to (the bounce attack; RFC 2577).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from OpenSSL import SSL
from twisted.internet import defer, error
from twisted.internet.interfaces import IHandshakeListener, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol, ServerFactory
from zope.interface import implementer

from appd.limits import logged_in
from appd.listening.connections import Connections
from appd.listening.ports import adopt_stream

__all__ = ["Data", "DataPort", "Pool", "plain"]

_BLOCK = 128 * 1024


@implementer(IPushProducer, IHandshakeListener)
class Data(Protocol):
    """One data connection.

    Args:
        ready: Called with it when it stands.
        at_most_12: Whether it speaks TLS 1.2 at most.
    """

    transport: Any

    def __init__(self, ready: Callable[[Data], None], at_most_12: bool = False) -> None:
        self._ready = ready
        self._at_most_12 = at_most_12
        self._flowing: defer.Deferred[None] | None = None
        self._chunks: list[bytes] = []
        self._waiting: defer.Deferred[bytes | None] | None = None
        self._ended: Any = None
        self._lost: list[defer.Deferred[bool]] = []
        self._shaken: defer.Deferred[None] | None = None

    def connectionMade(self) -> None:
        if self._at_most_12:
            _no_tls_13(self.transport)
        logged_in(self.transport)
        if ISSLTransport.providedBy(self.transport):
            self._shaken = defer.Deferred()
        self.transport.pauseProducing()
        self._ready(self)

    def handshakeCompleted(self) -> None:
        """See IHandshakeListener."""
        shaken, self._shaken = self._shaken, None
        if shaken is not None:
            shaken.callback(None)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._ended is not None

    # Sending.

    @defer.inlineCallbacks
    def send(self, read: Callable[[], Any]) -> Any:
        """Sends all that is read, and ends the connection.

        Args:
            read: Gives a Deferred of the next part, `b""` at the end.

        Returns:
            A Deferred of whether the client has got it all.
        """
        self.transport.registerProducer(self, True)
        # What the client sends meanwhile is nothing; that it goes is to be seen.
        self.transport.resumeProducing()
        while not self.ended:
            block = yield read()
            if not block or self.ended:
                break
            self.transport.write(block)
            if self._flowing is not None:
                yield self._flowing
        if self._shaken is not None and not self.ended:
            # To end before the handshake would abort it, and an empty list is one too.
            yield self._shaken
        complete = not self.ended
        if complete:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        good = yield self.when_lost()
        return good and complete

    def pauseProducing(self) -> None:
        """The client does not take any more."""
        if self._flowing is None:
            self._flowing = defer.Deferred()

    def resumeProducing(self) -> None:
        """It does."""
        flowing, self._flowing = self._flowing, None
        if flowing is not None:
            flowing.callback(None)

    def stopProducing(self) -> None:
        """It has gone."""
        self.resumeProducing()

    # Receiving.

    def dataReceived(self, data: bytes) -> None:
        self._chunks.append(data)
        self.transport.pauseProducing()
        self._tell()

    def receive(self) -> defer.Deferred[bytes | None]:
        """The next part; None at the end."""
        waiting: defer.Deferred[bytes | None] = defer.Deferred()
        self._waiting = waiting
        if not self._tell() and not self.ended:
            self.transport.resumeProducing()
        return waiting

    def _tell(self) -> bool:
        if self._waiting is None or not (self._chunks or self.ended):
            return False
        waiting, self._waiting = self._waiting, None
        data, self._chunks = b"".join(self._chunks), []
        waiting.callback(data or None)
        return True

    # The end.

    def when_lost(self) -> defer.Deferred[bool]:
        """Fires when it is over, with whether that was in good order."""
        lost: defer.Deferred[bool] = defer.Deferred()
        if self.ended:
            return defer.succeed(self.is_good)
        self._lost.append(lost)
        return lost

    @property
    def is_good(self) -> bool:
        """Whether it ended as it should.

        Over TLS clients, curl among them, leave without close_notify, so that nothing can be told there: vsftpd has
        strict_ssl_read_eof off for that. Where TLS 1.3 is all that is spoken, something may be lost like that.
        """
        if self._ended is None:
            return False
        return self._at_most_12 or self._ended.check(error.ConnectionDone) is not None

    def connectionLost(self, reason: Any = None) -> None:
        self._ended = reason
        self.handshakeCompleted()
        self.resumeProducing()
        self._tell()
        lost, self._lost = self._lost, []
        for one in lost:
            one.callback(self.is_good)


class DataPort(ServerFactory):
    """A socket for data connections.

    Args:
        over_tls: A factory → the same over TLS; None without TLS.

    Attributes:
        waiting: Address of a client → what is called with its connection, and whether it speaks TLS.
        port: The IListeningPort, once it listens.
    """

    noisy = False

    def __init__(self, over_tls: Callable[[Any], Any] | None) -> None:
        self.waiting: dict[str, tuple[Callable[[Data], None], bool]] = {}
        self.port: Any = None
        self._over_tls = over_tls

    def buildProtocol(self, addr: Any) -> Any:
        """See ServerFactory: None for whom nobody waits."""
        found = self.waiting.pop(plain(getattr(addr, "host", "")), None)
        if found is None:
            return None
        ready, secure = found
        factory: Any = ServerFactory()
        factory.noisy = False
        factory.protocol = partial(Data, ready)
        if secure:
            assert self._over_tls is not None, "PROT P is refused without TLS"
            over = self._over_tls(factory)
            factory.protocol = partial(Data, ready, over.policy.minimum_version != "1.3")
            factory = over
        return factory.buildProtocol(addr)


class Pool:
    """Where data connections come in.

    Args:
        reactor: The reactor.
        ports: The first and the last port that may be bound; None for any.
        over_tls: As for `DataPort`.

    Attributes:
        fixed: The sockets that are always there.
    """

    def __init__(self, reactor: Any, ports: tuple[int, int] | None, over_tls: Callable[[Any], Any] | None) -> None:
        self.fixed: list[DataPort] = []
        self._reactor = reactor
        self._ports = ports
        self._over_tls = over_tls

    def make_port(self) -> DataPort:
        """One more socket that is always there, not listening yet."""
        self.fixed.append(DataPort(self._over_tls))
        return self.fixed[-1]

    def expect(
        self, host: str, peer: str, ready: Callable[[Data], None], secure: bool
    ) -> tuple[int, Callable[[], None]]:
        """Waits for a data connection.

        Args:
            host: Our address on the control connection.
            peer: The client's.
            ready: Called with the connection.
            secure: Whether it speaks TLS.

        Returns:
            The port, and what ends the waiting.

        Raises:
            LookupError: There is no port at the moment.
        """
        if self.fixed:
            place = next((one for one in self.fixed if one.port is not None and peer not in one.waiting), None)
            if place is None:
                raise LookupError("every passive-address has a connection of this client to wait for")
            place.waiting[peer] = entry = (ready, secure)
            return place.port.getHost().port, lambda: _forget(place, peer, entry)
        return self._bind(host, peer, ready, secure)

    def _bind(
        self, host: str, peer: str, ready: Callable[[Data], None], secure: bool
    ) -> tuple[int, Callable[[], None]]:
        place = DataPort(self._over_tls)
        place.waiting[peer] = (ready, secure)
        for number in self._numbers():
            try:
                self._listen(place, host, number)
            except OSError:
                continue
            return place.port.getHost().port, partial(_close, place)
        raise LookupError("no port of passive-ports is free")

    def _listen(self, place: DataPort, host: str, number: int) -> None:
        # Not the reactor's listenTCP, which writes two lines of log for each.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, number))
            sock.listen(2)
            place.port = adopt_stream(self._reactor, sock.fileno(), family, place, Connections())

    def _numbers(self) -> Iterator[int]:
        if self._ports is None:
            yield 0
            return
        first, last = self._ports
        count = last - first + 1
        # Not the same one again and again: a connection that is over keeps its port for a while.
        begin = int.from_bytes(os.urandom(2), "big") % count
        yield from (first + (begin + step) % count for step in range(count))


def _no_tls_13(transport: Any) -> None:
    """Has a connection that is about to shake hands speak TLS 1.2.

    In TLS 1.3 a server sends session tickets behind the handshake. Who uploads does not read them, and to close a
    socket with something unread resets the connection: the kernel throws away what we have not read of the upload yet.
    There is no way to send none through pyOpenSSL.
    """
    connection = transport._tlsConnection
    if hasattr(connection, "set_options"):
        connection.set_options(SSL.OP_NO_TLSv1_3)
    else:
        lib: Any = SSL._lib  # type: ignore[attr-defined]  # releases before Connection.set_options
        lib.SSL_set_options(connection._ssl, SSL.OP_NO_TLSv1_3)


def plain(host: str) -> str:
    """An address as the same client has it over another socket: one of IPv4 as such, without a zone."""
    return host.removeprefix("::ffff:").partition("%")[0]


def _close(place: DataPort) -> None:
    port, place.port = place.port, None
    if port is not None:
        port.stopListening()


def _forget(place: DataPort, peer: str, entry: Any) -> None:
    if place.waiting.get(peer) is entry:
        del place.waiting[peer]
