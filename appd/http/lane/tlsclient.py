"""A connection over TLS: the handshake, in turns of the lane like everything else, and then a client as any other.

    PREFACE (where proxies say who comes) ─▶ HANDSHAKE ─▶ IDLE …

The first byte tells TLS from plain HTTP, which is answered, and from what is neither. A session is made only when there
is something for it to read, so that a client that says nothing costs no more than a plain one. The session is used by
whoever has the client, and by nobody else.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Protocol

from appd.http.core.errors import Refused
from appd.http.core.proxyprotocol import read_proxy_header
from appd.http.lane.client import DRAIN_LINGER, Client
from appd.http.lane.deadlines import PER_SECOND
from appd.http.lane.leaving import Phase
from appd.http.lane.tlssocket import TlsSocket
from appd.http.log.peer import describe, peer_text
from appd.journal import DEBUG

if TYPE_CHECKING:
    from appd.http.lane.crew import Worker
    from appd.http.lane.door import Door

__all__ = ["HANDSHAKE", "PLAIN_ANSWER", "Security", "TlsClient"]

# ContentType of RFC 8446, 5.1: a connection begins with a handshake.
HANDSHAKE = 22
_READ = 16384
# The last of the phases in which requests are read.
_READING = Phase.BODY
# As of `_AT_ONCE` in `appd.http.lane.tlssocket`.
_BODY = 32768
PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nServer: appd\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 60\r\n\r\n"
    b"400 Bad Request: this port speaks TLS, use https:// with it\n"
)


class Security(Protocol):
    """What a door knows of TLS; `appd.tls.stdlib.OnSockets` is it. Any thread may call.

    Attributes:
        asks: Whether clients are asked for certificates.
    """

    asks: bool

    def wrap(self, sock: socket.socket) -> TlsSocket:
        """Gives a socket to OpenSSL; the handshake is to be made.

        Raises:
            OSError: The connection is gone already.
        """

    def admits(self, sock: TlsSocket) -> bool:
        """Whether a client that was asked for one may go on after the handshake."""

    def variables(self, sock: TlsSocket) -> dict[str, str]:
        """What an application is told of the connection."""


class TlsClient(Client):
    """A connection; see `Client`."""

    __slots__ = ("_described", "_variables")

    def __init__(self, door: Door, sock: socket.socket, host: str, port: int) -> None:
        super().__init__(door, sock, host, port)
        self._variables: dict[str, str] | None = None
        self._described: dict[str, Any] | None = None
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
            self._read_proxy(worker)
        elif phase == Phase.ENDING:
            self.finish()

    def _read(self, worker: Worker, phase: int) -> None:
        sock: Any = self.sock
        try:
            data = sock.recv(_READ if phase != _READING else _BODY)
        except BlockingIOError:
            if sock.may_have_more:
                self._look_again(sock)
            self._wait()
            return
        except OSError:
            self.gone()
            return
        if sock.may_have_more:
            self._look_again(sock)
        request = (self.connection or self.awake()).take(data)
        if request is not None:
            self._answer(request, worker)
        else:
            self.advance(worker)

    def _look_again(self, sock: Any) -> None:
        """Not all was read that lies in the socket."""
        sock.may_have_more = False
        self.server.lane.read_more(self.fd)

    def _read_first(self, sock: Any, worker: Worker) -> None:
        """As `_read`, of what has come with the end of the handshake."""
        try:
            data = sock.decrypt()
        except BlockingIOError:
            self.server.lane.arm(self)
        except OSError:
            self.gone()
        else:
            self.awake().receive(data)
            self.advance(worker)

    def _discard(self) -> None:
        """Reads past what still comes on a connection that has ended."""
        sock: Any = self.sock
        try:
            data = getattr(sock, "plain", sock).recv(_READ)
        except BlockingIOError:
            self.server.lane.arm(self)
        except OSError:
            self.close()
        else:
            self._linger(data)

    def _read_proxy(self, worker: Worker) -> None:
        """Takes what the proxy in front says, before the client's first byte."""
        try:
            data = self.sock.recv(_READ)
            known = self._preface + data
            proxied = read_proxy_header(known) if data else None
        except BlockingIOError:
            self.server.lane.arm(self)
            return
        except (OSError, Refused):
            self.close()
            return
        if proxied is None:
            self._preface = known
            if data:
                self.server.lane.rearm(self)
            else:
                self.close()
            return
        self._preface = b""
        if not self.server.introduce(self, proxied):
            self.close()
            return
        self._phase = Phase.HANDSHAKE
        self.server.lane.deadlines.put(self, time.monotonic() + self.server.limits.handshake_timeout)
        if len(data) == _READ:
            self.server.lane.read_more(self.fd)
        if len(known) > proxied.used:
            self._greet(worker, known[proxied.used :])
        else:
            self.server.lane.arm(self)

    def _greet(self, worker: Worker, data: bytes = b"") -> None:
        """Begins the handshake with the client's first bytes, which are received unless they were already."""
        if not data:
            try:
                data = self.sock.recv(_READ)
            except BlockingIOError:
                self.server.lane.arm(self)
                return
            except OSError as error:
                self._failed(error)
                return
            if not data:
                self.close()
                return
            if len(data) == _READ:
                self.server.lane.read_more(self.fd)
        if data[0] != HANDSHAKE:
            self._no_tls(data)
            return
        security = self.door.security
        assert security is not None
        self.sock = security.wrap(self.sock)  # type: ignore[assignment]  # it behaves as a socket does
        if self.server.draining:
            # A client that said nothing had a moment left, and now speaks.
            wait = self.server.limits.handshake_timeout
            self.server.lane.deadlines.put(self, time.monotonic() + wait)
        self._shake(worker, data)

    def _shake(self, worker: Worker, data: bytes = b"") -> None:
        """Goes on with the handshake as far as it goes, with what was received already."""
        sock: Any = self.sock
        if type(sock) is not TlsSocket:
            self._greet(worker)
            return
        lane = self.server.lane
        try:
            waits = sock.shake(data)
        except BlockingIOError:
            if sock.owes:
                lane.arm_to_send(self)
            else:
                lane.arm(self)
            return
        except (OSError, ValueError) as error:
            self._failed(error)
            return
        if sock.may_have_more:
            self._look_again(sock)
        if waits is None:
            lane.arm(self)
            return
        self.secure = True
        self._phase = Phase.IDLE
        security = self.door.security
        assert security is not None
        if security.asks and not security.admits(sock):
            # Python has no call to let the handshake fail for it.
            self.refuse(Refused(403, "its certificate has none of the names (client-names)"))
            return
        wait = DRAIN_LINGER if self.server.draining else self.server.limits.idle_timeout
        self.deadline = deadline = time.monotonic() + wait
        # Nearly always it is kept for sooner, is found then, and moved.
        if not 0 < self.tick <= deadline * PER_SECOND:
            lane.deadlines.put(self, deadline)
        if waits:
            self._read_first(sock, worker)
        elif lane.is_unsure(self.fd):
            self._read(worker, Phase.IDLE)
        else:
            lane.arm(self)

    def _no_tls(self, data: bytes) -> None:
        self._tell("it speaks no TLS")
        if not data[:1].isalpha():
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
        sock: Any = self.sock
        if self._phase in (Phase.PREFACE, Phase.HANDSHAKE) and type(sock) is not TlsSocket:
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
        sock: Any = self.sock
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
        sock: Any = self.sock
        if type(sock) is not TlsSocket or self.door.security is None:
            return {}
        found = self._variables
        if found is None:
            found = self._variables = self.door.security.variables(sock)
        return found

    def describe_peer(self, environ: dict[str, Any]) -> None:
        """Adds who it is; see `Leaver.describe_peer`."""
        if self.claims is not None:
            describe(self, environ, self.sock)
            environ.update(self.variables)
            return
        known = self._described
        if known is None:
            known = {}
            describe(self, known, self.sock)
            known.update(self.variables)
            self._variables, self._described = None, known
        environ.update(known)
