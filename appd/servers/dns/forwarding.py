"""Questions for others: by UDP from a port of its own each, by TCP when the answer was cut; and what they said, kept.

RFC 5452 is followed: a random number and a random port for each query, and only the answer to what was asked, by whom
it was asked, counts.
"""

from __future__ import annotations

import random
import socket
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
from twisted.internet import defer, error
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.logger import Logger
from twisted.protocols.basic import Int16StringReceiver

from appd.listening.connections import Connections
from appd.listening.ports import adopt_datagram

__all__ = ["Cache", "Resolver"]

_log = Logger(namespace="appd.dns")

# How many may be on the way; more are told that it failed.
_MOST_PENDING = 1000
# What is asked for over UDP: DNS Flag Day 2020.
_PAYLOAD = 1232
_LONGEST_KEPT = 86400  # a day, as Unbound's cache-max-ttl
# How long one line about who does not answer stands for what follows, in seconds.
_TELL_AGAIN = 60.0
# How long one that has not answered is asked after the others, in seconds.
_REST = 30.0
_random = random.SystemRandom()


class Cache:
    """What others have said, as long as they say that it holds.

    Args:
        most: How many answers are kept; the least used goes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[object, tuple[float, float, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: object, now: float) -> Any:
        """An answer with what is left of its times, a copy; None without one.

        Args:
            key: What it answers.
            now: Seconds that only ever grow.
        """
        found = self._kept.get(key)
        if found is None:
            return None
        since, until, message = found
        if now >= until:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        copy = dns.message.from_wire(message)
        for section in (copy.answer, copy.authority, copy.additional):
            for rrset in section:
                rrset.ttl = max(0, rrset.ttl - int(now - since))
        return copy

    def keep(self, key: object, message: Any, now: float) -> None:
        """Keeps an answer, if it may be kept: RFC 2181, 5.2 and RFC 2308, 5."""
        if not self._most or message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return
        times = [one.ttl for one in (*message.answer, *message.authority)]
        if not message.answer:
            # Nothing is kept only as long as an SOA says.
            times = [min(one.ttl, one[0].minimum) for one in message.authority if one.rdtype == dns.rdatatype.SOA]
        holds = min((*times, _LONGEST_KEPT), default=0) if times else 0
        if holds > 0:
            self._kept[key] = (now, now + holds, message.to_wire())
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


class _Asked(DatagramProtocol):
    """One query over UDP."""

    noisy = False

    def __init__(self, query: Any, where: tuple[str, int]) -> None:
        self._query = query
        self._where = where
        self.answered: defer.Deferred[Any] = defer.Deferred()

    def startProtocol(self) -> None:
        transport: Any = self.transport
        transport.connect(*self._where)  # from nobody else anything is taken
        transport.write(self._query.to_wire())

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        message = _answer_to(self._query, datagram)
        if message is not None and not self.answered.called:
            self.answered.callback(message)

    def connectionRefused(self) -> None:
        if not self.answered.called:
            self.answered.errback(error.ConnectionRefusedError())


class _AskedByTcp(Int16StringReceiver):
    """One query over TCP."""

    factory: Any
    transport: Any
    MAX_LENGTH = 65535

    def connectionMade(self) -> None:
        self.sendString(self.factory.query.to_wire())

    def stringReceived(self, string: bytes) -> None:
        message = _answer_to(self.factory.query, string)
        if message is not None and not self.factory.answered.called:
            self.factory.answered.callback(message)
        self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        if not self.factory.answered.called:
            self.factory.answered.errback(reason)


def _answer_to(query: Any, data: bytes) -> Any:
    try:
        message = dns.message.from_wire(data, ignore_trailing=True)
    except Exception:  # whatever dnspython raises
        return None
    return message if query.is_response(message) else None


class Resolver:
    """Asks others.

    Args:
        upstreams: Whom, the first one first.
        cache: What is kept.
        timeout: How long one of them may take, in seconds.
        reactor: The reactor.
        server: The name of the server, for the log.
    """

    def __init__(
        self, upstreams: Sequence[tuple[str, int]], cache: Cache, timeout: float, reactor: Any, server: str
    ) -> None:
        self._upstreams = upstreams
        self._cache = cache
        self._timeout = timeout
        self._reactor = reactor
        self._server = server
        self._pending: dict[object, list[defer.Deferred[Any]]] = {}
        self._told = 0.0
        self._resting: dict[tuple[str, int], float] = {}

    def resolve(self, query: Any) -> defer.Deferred[Any]:
        """Finds an answer.

        Args:
            query: The client's query.

        Returns:
            Fires with dns.message.Message, whose number is not the query's; None when nobody has answered.
        """
        question = query.question[0]
        flags = query.flags & dns.flags.CD
        secured = query.edns >= 0 and bool(query.ednsflags & dns.flags.DO)
        key = (question.name.canonicalize(), question.rdtype, question.rdclass, int(flags), secured)
        found = self._cache.find(key, self._reactor.seconds())
        if found is not None:
            return defer.succeed(found)
        answered: defer.Deferred[Any] = defer.Deferred()
        waiting = self._pending.get(key)
        if waiting is not None:
            waiting.append(answered)
            return answered
        if len(self._pending) >= _MOST_PENDING:
            return defer.succeed(None)
        self._pending[key] = [answered]
        asked = dns.message.make_query(question.name, question.rdtype, question.rdclass, want_dnssec=secured)
        asked.use_edns(0, dns.flags.DO if secured else 0, _PAYLOAD)
        asked.flags |= flags
        self._ask(asked).addBoth(self._settle, key)
        return answered

    def _settle(self, message: Any, key: object) -> None:
        if isinstance(message, dns.message.Message):
            self._cache.keep(key, message, self._reactor.seconds())
        else:
            if message is not None:
                _log.failure("{appd_server}: cannot ask", message, appd_server=self._server)
            message = None
        # Each gets its own: it is changed on the way to the client.
        wire = message.to_wire() if message is not None else None
        for one in self._pending.pop(key):
            one.callback(dns.message.from_wire(wire) if wire is not None else None)

    @defer.inlineCallbacks
    def _ask(self, query: Any) -> Any:
        # Who has not answered comes last for a while: else each question would wait for him.
        upstreams = sorted(self._upstreams, key=lambda one: self._resting.get(one, 0.0) > self._reactor.seconds())
        for where in upstreams:
            query.id = _random.randrange(65536)
            try:
                message = yield self._by_udp(query, where)
                if message.flags & dns.flags.TC:
                    message = yield self._by_tcp(query, where)
            except (
                defer.TimeoutError,
                error.ConnectionLost,
                error.ConnectionDone,
                error.ConnectError,
                OSError,
            ) as failed:
                self._resting[where] = self._reactor.seconds() + _REST
                self._tell(where, failed)
                continue
            self._resting.pop(where, None)
            if message.rcode() in (dns.rcode.SERVFAIL, dns.rcode.REFUSED) and where != upstreams[-1]:
                continue
            return message
        return None

    def _by_udp(self, query: Any, where: tuple[str, int]) -> defer.Deferred[Any]:
        asked = _Asked(query, where)
        # Not the reactor's listenUDP, which writes two lines of log for each.
        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            sock.bind(("", 0))
            port = adopt_datagram(self._reactor, sock.fileno(), family, asked, Connections())

        def close(result: Any) -> Any:
            port.stopListening()
            return result

        return asked.answered.addTimeout(self._timeout, self._reactor).addBoth(close)

    def _by_tcp(self, query: Any, where: tuple[str, int]) -> defer.Deferred[Any]:
        factory: Any = Factory.forProtocol(_AskedByTcp)
        factory.noisy = False
        factory.query = query
        factory.answered = defer.Deferred()
        connecting = HostnameEndpoint(self._reactor, *where, timeout=self._timeout).connect(factory)
        connecting.addErrback(lambda failure: factory.answered.called or factory.answered.errback(failure))
        answered: defer.Deferred[Any] = factory.answered
        return answered.addTimeout(self._timeout, self._reactor)

    def _tell(self, where: tuple[str, int], failed: Exception) -> None:
        now = self._reactor.seconds()
        if now >= self._told:
            self._told = now + _TELL_AGAIN
            _log.warn(
                "{appd_server}: {host} port {port} does not answer: {reason}",
                appd_server=self._server,
                host=where[0],
                port=where[1],
                reason=f"nothing within {self._timeout:g} s" if isinstance(failed, defer.TimeoutError) else failed,
            )
