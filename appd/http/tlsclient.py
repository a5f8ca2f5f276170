"""A connection over TLS: the handshake, in turns of the lane like everything else, and then a client as any other.

    PREFACE (where proxies say who comes) ─▶ HANDSHAKE ─▶ IDLE …

The first byte tells TLS from plain HTTP, which is answered, and from what is neither. OpenSSL gets the socket only when
there is something to read, so that a client that says nothing costs no more than a plain one. The session is used by
whoever has the client, and by nobody else.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Protocol

from appd.http.client import Client
from appd.http.errors import Refused
from appd.http.leaving import Phase
from appd.http.peer import peer_text
from appd.http.proxyprotocol import read_proxy_header
from appd.http.tlssocket import TlsSocket
from appd.journal import DEBUG

if TYPE_CHECKING:
    from appd.http.crew import Worker
    from appd.http.door import Door

__all__ = ["HANDSHAKE", "PLAIN_ANSWER", "Security", "TlsClient"]

# ContentType of RFC 8446, 5.1: a connection begins with a handshake.
HANDSHAKE = 22
_PEEK = 16384
# The last of the phases in which requests are read.
_READING = Phase.BODY
_BODY = 262144
PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nServer: appd\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 60\r\n\r\n"
    b"400 Bad Request: this port speaks TLS, use https:// with it\n"
)


class Security(Protocol):
    """What a door knows of TLS; `appd.tls.stdlib.OnSockets` is it. Any thread may call."""

    def wrap(self, sock: socket.socket) -> TlsSocket:
        """Gives a socket to OpenSSL; the handshake is to be made.

        Raises:
            OSError: The connection is gone already.
        """

    def admits(self, sock: TlsSocket) -> bool:
        """Whether a client may go on after the handshake."""

    def variables(self, sock: TlsSocket) -> dict[str, str]:
        """What an application is told of the connection."""


class TlsClient(Client):
    """A connection; see `Client`."""

    __slots__ = ("_variables",)

    def __init__(self, door: Door, sock: socket.socket, host: str, port: int) -> None:
        super().__init__(door, sock, host, port)
        self._variables: dict[str, str] | None = None
        if self._phase == Phase.IDLE:
            self._phase = Phase.HANDSHAKE

    @property
    def patience(self) -> float:
        """How long the first step may take, in seconds."""
        limits = self.server.limits
        return limits.header_timeout if self._phase == Phase.PREFACE else limits.handshake_timeout

    # What comes in.

    def handle(self, worker: Worker) -> None:
        """Does what the socket is ready for."""
        phase = self._phase
        if self._out is not None:
            self._flush(worker)
        elif phase <= _READING:
            self._read(worker, phase)
        elif phase == Phase.HANDSHAKE:
            self._shake(worker)
        elif phase == Phase.LINGERING:
            self._discard()
        elif phase == Phase.PREFACE:
            self._peek_preface(worker)
        elif phase == Phase.ENDING:
            self.finish()

    def _read(self, worker: Worker, phase: int) -> None:
        try:
            data = self.sock.recv(_PEEK if phase != _READING else _BODY)
        except BlockingIOError:
            if getattr(self.sock, "wants_write", False):
                self.server.lane.arm_to_send(self)
            else:
                self._wait()
            return
        except OSError:
            self.gone()
            return
        # A record at a time is read, and more may lie in the socket; to be told so costs less than to try.
        self.server.lane.read_more(self.fd)
        (self.connection or self.awake()).receive(data)
        self.advance(worker)

    def _discard(self) -> None:
        """Reads past what still comes on a connection that has ended."""
        try:
            data = socket.socket.recv(self.sock, _PEEK)
        except BlockingIOError:
            self.server.lane.arm(self)
        except OSError:
            self.close()
        else:
            self._linger(data)

    def _peek_preface(self, worker: Worker) -> None:
        """Takes what the proxy in front says, and not a byte of what OpenSSL has to read behind it."""
        known = self._preface
        try:
            data = self.sock.recv(_PEEK, socket.MSG_PEEK)
            proxied = read_proxy_header(known + data) if data else None
            taken = self.sock.recv(proxied.used - len(known) if proxied is not None else len(data))
        except BlockingIOError:
            self.server.lane.arm(self)
            return
        except (OSError, Refused):
            self.close()
            return
        if proxied is None:
            self._preface = known + taken
            if data:
                self.server.lane.rearm(self)
            else:
                self.close()
            return
        self._preface = b""
        if not self._introduce(proxied):
            self.close()
            return
        self._phase = Phase.HANDSHAKE
        self.server.lane.deadlines.put(self, time.monotonic() + self.server.limits.handshake_timeout)
        self._shake(worker)

    def _shake(self, worker: Worker) -> None:
        """Goes on with the handshake as far as it goes."""
        security = self.door.security
        assert security is not None
        try:
            sock = self.sock
            if type(sock) is not TlsSocket:
                first = sock.recv(1, socket.MSG_PEEK)
                if not first:
                    self.close()
                    return
                if first[0] != HANDSHAKE:
                    self._no_tls(first)
                    return
                self.sock = sock = security.wrap(sock)
                if self.server.draining:
                    # A client that said nothing had a moment left, and now speaks.
                    wait = self.server.limits.handshake_timeout
                    self.server.lane.deadlines.put(self, time.monotonic() + wait)
            sock.do_handshake()
        except (ssl.SSLWantReadError, BlockingIOError):
            self.server.lane.arm(self)
            return
        except ssl.SSLWantWriteError:
            self.server.lane.arm_to_send(self)
            return
        except (OSError, ValueError) as error:
            self._failed(error)
            return
        self.secure = True
        self._phase = Phase.IDLE
        if not security.admits(sock):
            # Python has no call to let the handshake fail for it.
            self.refuse(Refused(403, "its certificate has none of the names (client-names)"))
            return
        limits = self.server.limits
        self.server.lane.deadlines.put(self, time.monotonic() + limits.idle_timeout)
        # The first request may have come with the end of the handshake. To be told so costs a fifth of trying in vain:
        # Python makes an exception with a text of it.
        self.server.lane.rearm(self)

    def _no_tls(self, first: bytes) -> None:
        self._tell("it speaks no TLS")
        if not first.isalpha():
            self.close()
            return
        try:
            self.sock.send(PLAIN_ANSWER)
        except OSError:
            self.close()
        else:
            self.finish()

    def _failed(self, error: Exception) -> None:
        reason = getattr(error, "reason", None) or str(error)
        self._tell(reason.replace("_", " ").lower())
        if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
            self.close()
            return
        # What OpenSSL has told the client would be lost by closing on top of what it has sent.
        self.finish()

    def _tell(self, reason: str) -> None:
        """Anybody may connect and say anything, so that it is not worth more."""
        peer = peer_text(self.host, self.port) or "a UNIX peer"
        what = f"{peer}: no handshake: {reason}"
        self.server.log.write(what, DEBUG, LOGGER="appd.tls", APPD_SERVER=self.server.name)

    # How it ends.

    def drain(self, ends: float) -> None:
        """Has a connection on which nothing goes on end at a time; see `Leaver.drain`. A handshake may end."""
        if self._phase in (Phase.PREFACE, Phase.HANDSHAKE) and type(self.sock) is not TlsSocket:
            self.server.lane.deadlines.put(self, ends)
        else:
            super().drain(ends)

    def refuse(self, refused: Refused) -> None:
        """Answers what the client must not do; who has not shaken hands is only left."""
        if self._phase in (Phase.HANDSHAKE, Phase.PREFACE):
            self.close()
        else:
            super().refuse(refused)

    def finish(self) -> None:
        """Ends the connection when all is sent; see `Leaver.finish`. Without close_notify that would be a break."""
        if self._phase == Phase.LINGERING or self._phase == Phase.CLOSED:
            return
        sock = self.sock
        if type(sock) is TlsSocket and not sock.say_end():
            if self._phase != Phase.ENDING:
                self._phase = Phase.ENDING
                self.server.lane.deadlines.put(self, time.monotonic() + self.server.limits.write_timeout)
            self.server.lane.arm_to_send(self)
            return
        super().finish()

    # Who it is.

    @property
    def variables(self) -> dict[str, str]:
        """What an application is told of TLS; nothing before the handshake."""
        found = self._variables
        if found is None:
            sock = self.sock
            if type(sock) is not TlsSocket or self.door.security is None:
                return {}
            found = self._variables = self.door.security.variables(sock)
        return found

    def describe_peer(self, environ: dict[str, Any]) -> None:
        """Adds who it is; see `Leaver.describe_peer`."""
        super().describe_peer(environ)
        environ.update(self.variables)
