"""SSH connections: what they agree on, how they log in, how they end.

*Algorithms.* Of what conch speaks, what RFC 9142 (key exchange), RFC 8332 (RSA with SHA-2), BSI TR-02102-4 and
Mozilla's guideline for OpenSSH, "modern", have in common: elliptic curves and the hybrid with ML-KEM where conch has
it, AES in counter mode, SHA-2. No SHA-1, no CBC, no DSA, no fixed Diffie-Hellman groups. Terrapin (CVE-2023-48795)
needs ChaCha20-Poly1305 or CBC with encrypt-then-MAC; neither is offered. No compression: it would be undone before
anybody has logged in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.conch.error import ConchError
from twisted.conch.ssh import transport
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from appd.interfaces import IDrainable
from appd.limits import logged_in

__all__ = ["CIPHERS", "KEY_EXCHANGES", "MACS", "QuietLogger", "SshFactory", "SshTransport"]

KEY_EXCHANGES = (
    b"mlkem768x25519-sha256",
    b"curve25519-sha256",
    b"curve25519-sha256@libssh.org",
    b"ecdh-sha2-nistp256",
    b"ecdh-sha2-nistp384",
    b"ecdh-sha2-nistp521",
)
CIPHERS = (b"aes256-ctr", b"aes192-ctr", b"aes128-ctr")
MACS = (b"hmac-sha2-512", b"hmac-sha2-256")

_log = Logger(namespace="appd.ssh")
# MaxAuthTries of sshd_config(5). Offers of keys count, and an agent may hold several.
_ATTEMPTS = 6
# MaxSessions of sshd_config(5).
_SESSIONS = 10
# When a drain begins, a connection that has nothing open ends when nothing has been asked for so long, in seconds: the
# next file of a folder that is copied comes within that.
_LULL = 2.0


def _of(wanted: Iterable[bytes], known: Iterable[bytes]) -> list[bytes]:
    """Those of the algorithms that this version of conch knows."""
    return [one for one in wanted if one in set(known)]


class QuietLogger(Logger):
    """For conch, which logs each packet, and a traceback for each that makes no sense: none of that is news."""

    def emit(self, level: Any, format: Any = None, **fields: Any) -> None:
        """See `Logger.emit`; at most `debug`."""
        super().emit(LogLevel.debug, format, **fields)

    def failure(self, format: Any, failure: Any = None, level: Any = None, **fields: Any) -> Any:
        """See `Logger.failure`; at most `debug`."""
        return super().failure(format, failure, LogLevel.debug, **fields)


class UserAuth(SSHUserAuthServer):
    """Logins; what a failure costs is the portal's to say."""

    attemptsBeforeDisconnect = _ATTEMPTS
    passwordDelay = 0
    # The deadline is that of the connection.
    loginTimeout = 24 * 3600
    _log = QuietLogger(namespace="appd.ssh.conch")
    transport: Any

    def serviceStarted(self) -> None:
        self._busy = False
        # conch takes the portal of the factory, and only a connection knows its peer.
        self.transport.factory.portal = self.transport.factory.portal_for(self.transport.transport)
        super().serviceStarted()

    def ssh_USERAUTH_REQUEST(self, packet: bytes) -> Any:
        """One at a time: what comes while one is looked at would not wait for its answer, as RFC 4252, 5 allows."""
        if self._busy:
            self.transport.sendDisconnect(transport.DISCONNECT_PROTOCOL_ERROR, b"one login at a time")
            return None
        self._busy = True
        done = super().ssh_USERAUTH_REQUEST(packet)
        if done is None:
            self._busy = False
            return None
        return done.addBoth(self._looked_at)

    def _looked_at(self, result: Any) -> Any:
        self._busy = False
        return result

    def _cbFinishedAuth(self, result: Any) -> None:
        # Who has gone meanwhile, or has been cut, is not let in.
        if not self.transport.transport.connected:
            result[2]()
            return
        super()._cbFinishedAuth(result)
        logged_in(self.transport.transport)
        self.transport.factory.log_in(self.transport, self.user)


class Connection(SSHConnection):
    """The channels of a connection."""

    _log = QuietLogger(namespace="appd.ssh.conch")

    def getChannel(self, channelType: bytes, windowSize: int, maxPacket: int, data: bytes) -> Any:
        """See SSHConnection: a bounded number of them."""
        if len(self.channels) >= _SESSIONS:
            raise ConchError("too many sessions", 4)  # SSH_OPEN_RESOURCE_SHORTAGE
        return super().getChannel(channelType, windowSize, maxPacket, data)


class SshTransport(transport.SSHServerTransport):
    """One connection.

    Attributes:
        clogged: Whether the client does not take what it has asked for as fast as it comes.
        when_clear: What is called, once, when it does again.
        open_things: Files, folders and shells that are open.
    """

    _log = QuietLogger(namespace="appd.ssh.conch")
    ourVersionString = b"SSH-2.0-appd"
    # Conch's own lists are attributes of the class too, and are only read.
    supportedKeyExchanges = _of(KEY_EXCHANGES, transport.SSHServerTransport.supportedKeyExchanges)
    supportedCiphers = _of(CIPHERS, transport.SSHServerTransport.supportedCiphers)
    supportedMACs = _of(MACS, transport.SSHServerTransport.supportedMACs)
    supportedCompressions = [b"none"]  # noqa: RUF012  # conch has it so
    factory: Any
    transport: Any

    def connectionMade(self) -> None:
        self.clogged = False
        self.when_clear: list[Callable[[], None]] = []
        self.open_things = 0
        self._later: Any = None
        self._asked = False
        self.factory.open.add(self)
        self.transport.registerProducer(self, True)
        super().connectionMade()
        if self.factory.draining:
            self.drain()

    def dataReceived(self, data: bytes) -> None:
        """See SSHServerTransport: what makes no sense ends the connection in place of a traceback."""
        self._asked = True
        try:
            super().dataReceived(data)
        except Exception as error:
            # conch does not expect strings to end early, nor numbers to be missing.
            self._log.failure("{appd_peer}: a packet that makes no sense: {error!r}", appd_peer=self._peer, error=error)
            self.sendDisconnect(transport.DISCONNECT_PROTOCOL_ERROR, b"malformed packet")

    @property
    def _peer(self) -> str:
        return str(getattr(self.transport.getPeer(), "host", "") or "unix")

    # What the connection below says of its buffer: IPushProducer.

    def pauseProducing(self) -> None:
        """The client does not take any more."""
        self.clogged = True

    def resumeProducing(self) -> None:
        """It does."""
        self.clogged = False
        self.wake()

    def wake(self) -> None:
        """Tells those who wait for the client to take more."""
        waiting, self.when_clear = self.when_clear, []
        for one in waiting:
            one()

    def stopProducing(self) -> None:
        """It has gone."""
        self.resumeProducing()

    def loseConnection(self) -> None:
        """Ends it; a transport with a producer would wait for that."""
        self.transport.unregisterProducer()
        super().loseConnection()

    def sendDisconnect(self, reason: int, desc: bytes) -> None:
        """See SSHServerTransport."""
        self.transport.unregisterProducer()
        super().sendDisconnect(reason, desc)

    def drain(self) -> None:
        """Ends the connection when nothing is open on it and nothing has been asked for a moment."""
        self._asked = False
        self._later = self.factory.reactor.callLater(_LULL, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if self._asked or self.open_things:
            self.drain()
        else:
            self.sendDisconnect(transport.DISCONNECT_BY_APPLICATION, b"the server is going down or reloading")

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.open.discard(self)
        if self._later is not None and self._later.active():
            self._later.cancel()
        self.stopProducing()
        super().connectionLost(reason)


@implementer(IDrainable)
class SshFactory(SSHFactory):
    """Makes connections.

    Args:
        reactor: The reactor.
        make_portal: Transport → the portal of its connection.
        host_keys: Called when it starts: the private keys of the host, twisted.conch.ssh.keys.Key.
        server: The name of the server.
    """

    noisy = False
    protocol = SshTransport
    _log = QuietLogger(namespace="appd.ssh.conch")
    services = {b"ssh-userauth": UserAuth, b"ssh-connection": Connection}  # noqa: RUF012  # conch has it so

    def __init__(
        self, reactor: Any, make_portal: Callable[[Any], Any], host_keys: Callable[[], list[Any]], server: str
    ) -> None:
        self.reactor = reactor
        self.portal_for = make_portal
        self.open: set[SshTransport] = set()
        self.draining = False
        self._host_keys = host_keys
        self._server = server

    def startFactory(self) -> None:
        """Reads the keys, or makes them.

        Raises:
            AppdError: They cannot be had.
        """
        keys = {one.sshType(): one for one in self._host_keys()}
        self.privateKeys = keys
        self.publicKeys = {name: one.public() for name, one in keys.items()}
        super().startFactory()

    def buildProtocol(self, addr: Any) -> Any:
        """See SSHFactory: no signature by SHA-1, whatever key there is."""
        made: Any = super().buildProtocol(addr)
        made.supportedPublicKeys = [one for one in made.supportedPublicKeys if one not in (b"ssh-rsa", b"ssh-dss")]
        return made

    def log_in(self, connection: SshTransport, user: bytes) -> None:
        """Tells of a login."""
        _log.info(
            "{appd_server}: {user!r} from {appd_peer} is logged in",
            appd_server=self._server,
            user=user.decode("utf-8", "replace"),
            appd_peer=connection._peer,
        )

    def drain(self) -> None:
        """Ends the connections, each when it is idle."""
        self.draining = True
        for one in list(self.open):
            one.drain()
