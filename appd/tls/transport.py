"""TLS on Twisted's transports: any protocol factory behind a listener of a `tls-address`.

What it adds to Twisted's wrapper: a deadline for the handshake, an answer for who speaks plain HTTP, an end that does
not wait for ever for the other side's, half-closes, and what an application is told of the connection.

A client that has said all it wants to (close_notify: RFC 8446, 6.1) is still answered by a protocol that knows of
half-closed connections. Twisted's wrapper ends the connection then, and since 22.8 what was written a moment before is
lost with it.

What it does not do: declare interfaces anew for each connection, ask OpenSSL what it cannot answer yet or any more, and
wait for the reactor's next turn with what is written in answer to data.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from OpenSSL import SSL
from twisted.internet import tcp, unix
from twisted.internet.interfaces import IHalfCloseableProtocol, IOpenSSLServerConnectionCreator, ISSLTransport
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from appd.tls.framing import Framing
from appd.tls.gathered import Gathered
from appd.tls.handshakes import Handshakes
from appd.tls.identity import der_of, variables
from appd.tls.openssl import Contexts
from appd.tls.policy import Policy

__all__ = ["TlsFactory"]

_log = Logger(namespace="appd.tls")

# How long the other side may take to say that it has ended too, in seconds; then the connection ends without (RFC 8446,
# 6.1, does not ask to wait at all).
LAST_READ = 2.0

_CUT_OFF = Failure(CONNECTION_LOST)

_PLAIN = re.compile(rb"[A-Z]{3,20} ")
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nServer: appd\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 60\r\n\r\n"
    b"400 Bad Request: this port speaks TLS, use https:// with it\n"
)


# Without the gathering of small writes that the factory's own has from 22.8 on.
_Base: Any = TLSMemoryBIOProtocol


@implementer(ISSLTransport, IHalfCloseableProtocol)
class _TlsTransport(_Base):  # type: ignore[misc]  # typed as Any
    """A connection.

    Attributes:
        application_variables: What an application is told of it, once the handshake is done.
    """

    factory: Any
    transport: Any
    # Twisted's.
    _lostTLSConnection: bool
    _reason: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gathered = Gathered(super().write, self.factory.clock)
        self.write = self._gathered.write
        self._framing = Framing()
        self._is_one = False
        self._shaking = True
        self._last_read: Any = None
        self._refused = False
        self._peer_done = False
        self._variables: dict[str, str] | None = None

    def makeConnection(self, transport: Any) -> None:
        if isinstance(transport, tcp.Connection) and not isinstance(transport, unix.Server):
            transport.setTcpNoDelay(True)
        self.factory.handshakes.begin(transport)
        # Twisted's own, but that OpenSSL is not asked to go on before the client has said anything.
        connection = self._tlsConnection = self.factory.serverConnectionForTLS(self)
        connection.set_accept_state()
        connection.set_app_data(self)
        self._appSendBuffer: list[bytes] = []
        self.factory.declare(self, transport)
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self.wrappedProtocol.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        if self._refused:
            return
        if not self._handshakeDone and self.factory.http and _PLAIN.match(data):
            self._refused = True
            self.transport.write(_PLAIN_ANSWER)
            self.transport.loseConnection()
            return
        gathered = self._gathered
        self._is_one = self._framing.is_one(data)
        gathered.receiving = True
        try:
            super().dataReceived(data)
        finally:
            self._is_one = gathered.receiving = False
            gathered.flush()
        if self._shaking and self._handshakeDone:
            self._shaking = False
            self.factory.handshakes.end(self.transport)

    def writeSequence(self, sequence: Iterable[bytes]) -> None:
        self._gathered.write(b"".join(sequence))

    def loseConnection(self) -> None:
        self._gathered.flush()
        super().loseConnection()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.factory.handshakes.end(self.transport)
        if not self._handshakeDone:
            # Not worth more: anybody may connect and say anything.
            _log.debug(
                "{appd_server}: no handshake: {reason}", appd_server=self.factory.server, reason=_why(self, reason)
            )
        self._gathered.close()
        if not self._lostTLSConnection:
            # Twisted has OpenSSL look for more, which is all taken already, and find that the client has gone without a
            # word.
            self._lostTLSConnection = True
            if not self._peer_done and self._reason is None:
                self._reason = _CUT_OFF
        super().connectionLost(reason)
        if self._last_read is not None and self._last_read.active():
            self._last_read.cancel()

    def _flushReceiveBIO(self) -> None:
        # Twisted's own, but for what becomes of an end, and that it ends where nothing more can be.
        while not self._lostTLSConnection:
            try:
                data = self._tlsConnection.recv(2**15)
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self._peer_has_ended()
                break
            except SSL.Error:
                self._tlsShutdownFinished(Failure())
            else:
                if not self._aborted:
                    self.wrappedProtocol.dataReceived(data)
                if self._is_one:
                    break
        if not self._gathered.flush():
            self._flushSendBIO()

    def _peer_has_ended(self) -> None:
        if self._peer_done:
            return
        self._peer_done = True
        inner = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if inner is not None and not self.disconnecting and not self._aborted and self.connected:
            inner.readConnectionLost()
            return
        self._gathered.flush()
        self._shutdownTLS()
        self._tlsShutdownFinished(None)

    def readConnectionLost(self) -> None:
        """The peer has closed its side of the socket. Without a word before, that is no end but a break."""
        if not self._peer_done or not IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our side of the socket is closed, which nobody asks for over TLS."""

    def _shutdownTLS(self) -> None:
        super()._shutdownTLS()
        if self.connected and not self._aborted and self._last_read is None:
            self._last_read = self.factory.clock.callLater(LAST_READ, self.transport.loseConnection)

    @property
    def application_variables(self) -> dict[str, str]:
        if self._variables is None:
            connection: Any = self.getHandle()
            if connection is None:
                return {}
            self._variables = variables(
                der_of(connection.get_peer_certificate()),
                protocol=connection.get_protocol_version_name(),
                cipher=connection.get_cipher_name() or "",
                name=(connection.get_servername() or b"").decode("ascii", "replace"),
                remote_user=self.factory.policy.remote_user,
            )
        return self._variables


def _why(protocol: Any, reason: Any) -> str:
    failure = protocol._reason or reason
    error = getattr(failure, "value", failure)
    queue = error.args[0] if getattr(error, "args", ()) else None
    return str(queue[-1][-1]) if isinstance(queue, list) and queue else str(error)


_TAKES_CLOCK = "clock" in inspect.signature(TLSMemoryBIOFactory.__init__).parameters  # from 22.8 on


@implementer(IOpenSSLServerConnectionCreator)
class TlsFactory(TLSMemoryBIOFactory):  # type: ignore[misc, unused-ignore]
    """Makes TLS connections that carry the protocols of another factory.

    Args:
        server: The name of the server.
        policy: How it speaks TLS.
        contexts: Called for the contexts as they are now; a renewal changes what it returns.
        wrapped: The factory.
        clock: The reactor.
        handshake: How long a client may take for the handshake, in seconds.
    """

    protocol = _TlsTransport

    def __init__(
        self,
        server: str,
        policy: Policy,
        contexts: Callable[[], Contexts],
        wrapped: Any,
        clock: Any,
        handshake: float = 10.0,
    ) -> None:
        self.server = server
        self.handshakes = Handshakes(clock, handshake)
        self.policy = policy
        self.http = any(one.startswith(("http/", "h2")) for one in policy.alpn)
        self.clock = clock
        self._contexts = contexts
        self._declarations: dict[type, Any] = {}
        super().__init__(self, False, wrapped, **({"clock": clock} if _TAKES_CLOCK else {}))

    def declare(self, protocol: Any, transport: Any) -> None:
        """Has a connection say that it provides what its transport does.

        Args:
            protocol: The connection.
            transport: What it is on.
        """
        if "__provides__" in getattr(transport, "__dict__", ()):
            directlyProvides(protocol, providedBy(transport))
            return
        # The same for all of a class: zope.interface takes a tenth of a handshake's time to find that out anew.
        known = self._declarations.get(type(transport))
        if known is None:
            directlyProvides(protocol, providedBy(transport))
            self._declarations[type(transport)] = protocol.__provides__
        else:
            protocol.__provides__ = known

    def serverConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        """Makes the connection object; see IOpenSSLServerConnectionCreator."""
        return SSL.Connection(self._contexts().default, None)
