"""TLS that begins in the middle of a connection: STARTTLS of SMTP (RFC 3207), AUTH TLS of FTP (RFC 4217) and their kin.

The protocol says when; the policy, the certificates and their renewal are those of a `tls-address`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.basic import LineReceiver
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

if TYPE_CHECKING:
    from appd.tls.openssl import Contexts

__all__ = ["StartTls"]


@implementer(IOpenSSLServerConnectionCreator)
class StartTls:
    """Starts TLS on Twisted's transports. Protocols that take a context factory for their STARTTLS take this.

    Args:
        contexts: Called for the contexts as they are now.
        reactor: The reactor, for deadlines.
        handshake: Called for how long a client may take for the handshake, in seconds.
        wrap: What puts a whole factory behind TLS; see `over`.
    """

    def __init__(
        self,
        contexts: Callable[[], Contexts],
        reactor: Any,
        handshake: Callable[[], float],
        wrap: Callable[[Any], Any],
    ) -> None:
        self._contexts = contexts
        self._reactor = reactor
        self._handshake = handshake
        self._wrap = wrap

    def begin(self, protocol: Any) -> None:
        """Starts TLS on the connection of a protocol, which has just told the client to go ahead.

        What the client has sent behind its command, before TLS, is forgotten: whoever sits in between could have put it
        there, and it would be taken for the client's (RFC 3207, 4.2; CVE-2011-0411).

        Args:
            protocol: The protocol. Of a LineReceiver the lines that wait are dropped; others see to that themselves.
        """
        if isinstance(protocol, LineReceiver):
            protocol.clearLineBuffer()
        protocol.transport.startTLS(self)

    def over(self, factory: Any) -> Any:
        """A protocol factory that serves another over TLS from the first byte on: for further connections, as of FTP.

        Args:
            factory: What serves.
        """
        return self._wrap(factory)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Makes the connection object; see IOpenSSLServerConnectionCreator."""
        self._reactor.callLater(self._handshake(), _expire, protocol)
        return SSL.Connection(self._contexts().default, None)


def _expire(protocol: Any) -> None:
    if not protocol._handshakeDone and protocol.connected:
        protocol.abortConnection()
