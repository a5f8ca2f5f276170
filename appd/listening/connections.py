"""The open connections of one server: how many there are, when there are none, and which have to go.

What keeps time is as lazy as it can be, since it is paid for with every read: a transport says only that something
came or went (`stirred = True`), and four times within an idle-timeout all of them are looked at. So an idle connection
ends between one idle-timeout and one and a quarter.

Resource handling: the record holds transports, but closes none of them except for a limit, or in `abort`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger

from appd.limits import UNLIMITED, StreamLimits
from appd.seldom import Seldom

__all__ = ["Connections"]

_log = Logger(namespace="appd.connections")

# How often it is looked who is idle, within an idle-timeout.
_LOOKS = 4


class Connections:
    """The open connections of one server.

    Args:
        changed: Called without arguments after each change.
        limits: What is kept of them.
        clock: The reactor; needed where there are limits.
        name: The name of the server, for the log.
        gate: Called with False when so many are open that no more is to be accepted, and with True when there is room.

    Attributes:
        paced: Whether a connection is not read while the client does not take what it is sent.
        total: How many there have been.
        shared: Whether other processes accept connections of the same sockets.
        full: Whether so many are open that no more is to be accepted.
    """

    def __init__(
        self,
        changed: Callable[[], None] = lambda: None,
        limits: StreamLimits = UNLIMITED,
        clock: Any = None,
        name: str = "",
        gate: Callable[[bool], None] = lambda _open: None,
    ) -> None:
        self.paced = False
        self.total = 0
        self.shared = False
        self.full = False
        # Each with the number of looks at which nothing had come or gone.
        self._open: dict[Any, int] = {}
        self._changed = changed
        self._limits = limits
        self._clock = clock
        self._name = name
        self._gate = gate
        self._peers: Counter[str] = Counter()
        self._logins: dict[Any, Any] = {}
        self._looking: Any = None
        self._seldom = Seldom() if clock is None else Seldom(clock.seconds)
        self._waiting: list[defer.Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._open)

    def admits(self, host: str) -> bool:
        """Whether one more connection may come from an address; it is logged when not."""
        most = self._limits.connections_per_peer
        if not most or not host or self._peers[plain_host(host)] < most:
            return True
        self._tell("peer", f"more than {most} connections (connections-per-peer) from {plain_host(host)}")
        return False

    def admitting(self, factory: Any) -> Any:
        """A factory that has none but admitted connections, over another."""
        return _Admission(factory, self) if self._limits.connections_per_peer else factory

    def add(self, transport: Any) -> None:
        """Notes that a connection has begun.

        Args:
            transport: It, with `peer_host`, `stirred` and `abortConnection`.
        """
        self.total += 1
        self._open[transport] = 0
        limits = self._limits
        if limits.connections_per_peer and transport.peer_host:
            self._peers[plain_host(transport.peer_host)] += 1
        if limits.login_timeout:
            self._logins[transport] = self._clock.callLater(limits.login_timeout, self._login_late, transport)
        if limits.idle_timeout and self._looking is None:
            self._looking = self._clock.callLater(limits.idle_timeout / _LOOKS, self._look)
        if limits.connections and len(self._open) >= limits.connections and not self.full:
            self.full = True
            self._tell("full", f"{limits.connections} connections are open (connections); more wait")
            self._gate(False)
        self._changed()

    def count(self, number: int) -> None:
        """Notes that so many things were served without a connection."""
        self.total += number
        self._changed()

    def discard(self, transport: Any) -> None:
        """Notes that a connection has ended."""
        if self._open.pop(transport, None) is not None:
            self._uncount(transport)
            self.logged_in(transport)
        if self.full and len(self._open) < self._limits.connections:
            self.full = False
            self._gate(True)
        self._changed()
        self._tell_if_none()

    def _uncount(self, transport: Any) -> None:
        if self._limits.connections_per_peer and transport.peer_host:
            host = plain_host(transport.peer_host)
            self._peers[host] -= 1
            if not self._peers[host]:
                del self._peers[host]

    def logged_in(self, transport: Any) -> None:
        """Notes that a connection is through with its login, or needs none any more."""
        call = self._logins.pop(transport, None)
        if call is not None and call.active():
            call.cancel()

    def _login_late(self, transport: Any) -> None:
        self._logins.pop(transport, None)
        if transport in self._open:
            _log.info(
                "{appd_server}: no login within {seconds:g} s (login-timeout), the connection is cut",
                appd_server=self._name,
                appd_peer=transport.peer_host,
                seconds=self._limits.login_timeout,
            )
            transport.abortConnection()

    def _look(self) -> None:
        """Ends those on which nothing has come or gone for long enough; if that does not end them, cuts them."""
        self._looking = None
        for transport, looks in list(self._open.items()):
            if transport not in self._open:
                continue  # the end of another has ended it too
            if transport.stirred:
                transport.stirred = False
                self._open[transport] = 0
                continue
            self._open[transport] = looks + 1
            if looks + 1 == _LOOKS:
                _log.debug(
                    "{appd_server}: nothing has come or gone for {seconds:g} s (idle-timeout), the connection is ended",
                    appd_server=self._name,
                    appd_peer=transport.peer_host,
                    seconds=self._limits.idle_timeout,
                )
                _outermost(transport).loseConnection()
            elif looks + 1 > _LOOKS:
                transport.abortConnection()
        if self._open:
            self._looking = self._clock.callLater(self._limits.idle_timeout / _LOOKS, self._look)

    def _tell(self, about: str, what: str) -> None:
        """Says once in a while what happens often."""
        if self._seldom.is_due(about):
            _log.warn("{appd_server}: {what}", appd_server=self._name, what=what)

    def _tell_if_none(self) -> None:
        if not len(self):
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(None)

    def when_none(self) -> defer.Deferred[None]:
        """Fires when no connection is open; it may be cancelled."""
        if not len(self):
            return defer.succeed(None)
        waiting: defer.Deferred[None] = defer.Deferred(lambda one: self._waiting.remove(one))
        self._waiting.append(waiting)
        return waiting

    def abort(self) -> int:
        """Ends every open connection at once.

        Returns:
            How many there were.
        """
        those = list(self._open)
        for transport in those:
            transport.abortConnection()
        return len(those)


def plain_host(host: str) -> str:
    """An address as it is counted: IPv4 is IPv4 on a socket of both families too (RFC 4291, 2.5.5.2)."""
    return host.removeprefix("::ffff:") if "." in host else host


def _outermost(transport: Any) -> Any:
    """What ends a connection with all that its protocol owes the peer: over TLS, close_notify."""
    over = getattr(transport, "protocol", None)
    return over if ISSLTransport.providedBy(over) else transport


class _Admission:
    """A protocol factory whose connections must be admitted."""

    def __init__(self, factory: Any, connections: Connections) -> None:
        self._factory = factory
        self._connections = connections

    def buildProtocol(self, address: Any) -> Any:
        """A protocol, or None: Twisted closes the connection then."""
        if not self._connections.admits(getattr(address, "host", "")):
            return None
        return self._factory.buildProtocol(address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._factory, name)
