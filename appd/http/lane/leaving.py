"""The end of a response, and of a connection: nothing is lost that is on its way, and nobody is waited for too long."""

from __future__ import annotations

import select
import sys
import time

from appd.http.core.errors import Refused
from appd.http.core.response import status_line
from appd.http.lane.sending import Gone, Sender
from appd.http.log.peer import answer_of, describe, fields_of, peer_text
from appd.journal import DEBUG, WARNING
from appd.startup.bare import socket, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from appd.http.core.forwarded import Claims
    from appd.http.core.request import Request
    from appd.http.lane.door import Door
    from appd.http.lane.mounted import Mounted
    from appd.journal.entry import Value

__all__ = ["Leaver", "Phase"]

# How long the end of a connection may take, once all is sent: between two reads and as a whole, in seconds. Apache has
# 2 and 30; a process that stops waits for it.
_LINGER_READ, _LINGER = 1.0, 10.0
# A connection that somebody has when its deadline passes is looked at again after so many seconds.
_LOOK_AGAIN = 1.0
# nginx's status for a client that left before the head of the response was out; it is only ever logged.
_CLIENT_GONE = 499
# struct linger of socket(7): on, and no time.
_RESET = (1).to_bytes(4, sys.byteorder) + bytes(4)
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")
_READ = 16384


class Phase:
    """What a connection is at. From PREFACE on there is nobody to answer: it is before all requests, or behind."""

    IDLE, HEAD, BODY, ANSWERING, LINGERING, CLOSED, PREFACE, HANDSHAKE, ENDING = range(9)


class Leaver(Sender):
    """The half of a client that ends what was begun.

    Args:
        door: Where it came in.
        sock: The socket, non-blocking.
        host: The address of the peer, "" when it has none.
        port: Its port.

    Attributes:
        mounted: The mount that answers.
        claims: What trusted proxies say of the request.
        counted: The address that the connection is counted for; "" for none.
        is_beyond: Whether the client is one of a proxy's UNIX socket.
        secure: Whether the client speaks TLS, with us or as a proxy in front says.

    Resource handling: owns the socket until `close`.
    """

    __slots__ = (
        "_began",
        "_phase",
        "_request",
        "_upload",
        "claims",
        "counted",
        "door",
        "host",
        "is_beyond",
        "mounted",
        "port",
        "secure",
    )

    def __init__(self, door: Door, sock: socket.socket, host: str, port: int) -> None:
        super().__init__(door.server, sock)
        self.door = door
        self.host = host
        self.port = port
        self.mounted: Mounted | None = None
        self.claims: Claims | None = None
        self.counted = ""
        self.is_beyond = False
        self.secure = False
        self._phase = Phase.IDLE
        self._upload: Any = None
        self._request: Request | None = None
        self._began = 0.0

    # The end of a response.

    def complete(self) -> bool:
        """Ends a response, when all was given that belongs to it.

        Returns:
            Whether the connection may go on; if not, the rest is being sent, and it goes on by itself.
        """
        out = self._out
        if out is not None:
            with out.lock:
                out.finished = True
                # Who sends the rest finds it finished; what is empty nobody polls for.
                if out.armed and not out.broken:
                    return False
                broken = out.broken
            self._out = None
            if broken:
                self.gone()
                return False
        if (self.mounted or self.server).access_log != "off":
            self._log_access(self.status)
        if self.connection.overrun:
            self._tell_overrun()
        # An idle connection keeps nothing that takes room.
        self.status = self.sent = 0
        self._began = 0.0
        self._request = self.mounted = self.claims = self.unanswered = self.held = None
        return True

    def _tell_overrun(self) -> None:
        beyond, self.connection.overrun = self.connection.overrun, 0
        if self._request is not None:
            fields = self.log_fields(self._request)
            what = (
                f"{fields['HTTP_METHOD']!s} {fields['HTTP_PATH']!s}: {beyond} bytes beyond Content-Length were not sent"
            )
            self.server.log.write(what, WARNING, LOGGER="appd.wsgi", **fields)

    def plain(self, status: int, *fields: tuple[str, str]) -> bool:
        """Answers with a small page that names the status.

        Returns:
            As `complete`.

        Raises:
            Gone: The client gets nothing more.
        """
        return not self.plain_page(status, *fields) and self.complete()

    def plain_page(self, status: int, *fields: tuple[str, str]) -> bool:
        """As `plain`, without the end of the response. Returns whether it waits; see `send_whole`."""
        text = status_line(status)[1].removeprefix("HTTP/1.1 ").replace("\r", "")
        return self.send_whole(status, (_PLAIN, *fields), text.encode())

    def refuse(self, refused: Refused) -> None:
        """Answers what the client must not do, and ends the connection."""
        peer = peer_text(*self.far) or "a UNIX peer"
        self.server.log.write(f"{peer} is refused: {refused}", DEBUG, LOGGER="appd.http", APPD_SERVER=self.server.name)
        try:
            self.send(self.awake().refusal(refused))
        except Gone:
            self.gone()
            return
        self.status = self.status or refused.status
        if self.complete():
            self.finish()

    # The end of the connection.

    def cut(self) -> None:
        """Ends a response where it is, so that the client sees that something is missing.

        Raises:
            Gone: By a reset, since the end of the connection would look like the end of the body.
        """
        request = self._request
        self.connection.cut()
        if request is None or not request.minor:
            self._reset()
            raise Gone

    @property
    def has_left(self) -> bool:
        """Whether the connection is gone. A client that has closed its side alone still waits for its answer."""
        asked = select.poll()
        asked.register(self.fd, 0)
        return bool(asked.poll(0))

    def park(self, call: Any) -> None:
        """Has a call of this client wait; None when it does not any more."""
        if call is None:
            self.server.lane.parked.pop(self.fd, None)
        else:
            self.server.lane.parked[self.fd] = call

    def dismiss(self) -> None:
        """Ends the connection instead of answering: with 503, unless the client has left."""
        if self.has_left:
            self.gone()
            return
        self.connection.closing = True
        try:
            if self.plain(503, ("Retry-After", "1")):
                self.finish()
        except Gone:
            self.gone()

    def _reset(self) -> None:
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def give_up(self) -> None:
        """Tells the client that a call takes too long, unless its response has begun. The call has the client."""
        unanswered = self.unanswered
        if not unanswered:
            return
        try:
            unanswered.pop()
        except IndexError:
            return
        # From here on the call finds that it has nobody to answer, and touches nothing of this.
        self.status = 504
        with suppress(OSError):
            self.connection.closing = True
            self.sock.send(self.connection.whole(504, (_PLAIN,), b"504 Gateway Timeout\n"))
            self.sock.shutdown(socket.SHUT_WR)

    def gone(self) -> None:
        """The client has left: ends everything. Whoever calls has the client, or the end of its call."""
        request = self._request
        if request is not None and (self.mounted or self.server).access_log != "off":
            self._log_access(self.status or _CLIENT_GONE)
        self.close()

    def finish(self) -> None:
        """Ends the connection when all is sent: our side first, then the client's, or a moment has passed.

        Closing a socket that has unread bytes sends a reset, which may destroy the response on its way (RFC 9112, 9.6).
        """
        if self._phase == Phase.LINGERING or self._phase == Phase.CLOSED:
            return
        if self.connection is not None and self.connection.ended:
            self.close()
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._phase = Phase.LINGERING
        now = time.monotonic()
        # Its last request is over: what is told of it is for how long this one has lasted.
        self._began = now
        self.server.lane.deadlines.put(self, now + _LINGER_READ)
        self.server.lane.rearm(self)

    def _linger(self, data: bytes) -> None:
        now = time.monotonic()
        if not data or now > self._began + _LINGER:
            self.close()
            return
        self.deadline = now + _LINGER_READ
        self.server.lane.rearm(self)

    def expired(self) -> None:
        """The deadline has passed. Called by whoever keeps the deadlines, not by who has the client."""
        if not self.server.lane.disarm(self):
            # Somebody has it, and sets a new deadline when it waits again; unless that is absolute, and has passed.
            if self._phase != Phase.CLOSED:
                self.server.lane.deadlines.put(self, time.monotonic() + _LOOK_AGAIN, sets=False)
            return
        out = self._out
        if out is not None:
            with out.lock:
                out.armed = False
                out.close()
                finished = out.finished
            self._reset()
            if finished:
                self.gone()
        elif self._phase == Phase.IDLE:
            self._end_idle()
        elif self._phase >= Phase.PREFACE or self._phase == Phase.LINGERING:
            self.close()
        else:
            self.refuse(Refused(408, "too slow"))

    def _end_idle(self) -> None:
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except OSError:
            self.finish()
        else:
            # Something has just come; it is read, and answered.
            self.server.lane.deadlines.put(self, time.monotonic() + 1.0)
            self.server.lane.rearm(self)

    def drain(self, ends: float) -> None:
        """Has an idle connection end at a time. A busy one ends with its response."""
        if self._phase == Phase.IDLE:
            self.server.lane.deadlines.put(self, ends)

    def last_if_nothing_waits(self) -> None:
        """Lets the connection end with the response to come, unless the client has sent more already."""
        connection = self.connection
        if not connection.buffered:
            try:
                data = self.sock.recv(_READ)
            except OSError:
                data = b""
            if data:
                self.server.lane.read_more(self.fd)
                connection.receive(data)
            else:
                # Its end, which may have come, is read again when the connection is finished.
                connection.closing = True

    def turn_away(self) -> None:
        """Ends a connection that is one too many."""
        lane = self.server.lane
        lane.admit(self)
        if lane.disarm(self):
            self.refuse(Refused(503, "too many connections"))

    def abort(self) -> None:
        """Cuts the connection at once, whoever has it; a call notices when it sends."""
        if self._phase != Phase.LINGERING:  # all was said; a reset could destroy it on its way
            self._reset()
        if self.server.lane.disarm(self):
            self.close()
            return
        # Whoever has it finds its end when it is armed again, and resets it then.
        # Below TLS, whose state is for the thread that has the client.
        with suppress(OSError):
            getattr(self.sock, "plain", self.sock).shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Closes the socket."""
        if self._phase == Phase.CLOSED:
            return
        self._phase = Phase.CLOSED
        if self.connection is not None:
            self.connection.cut()
        out, self._out = self._out, None
        if out is not None:
            with out.lock:
                out.close()
        if self._upload is not None:
            self._upload.close()
            self._upload = None
        self.server.lane.forget(self)
        self.sock.close()
        self.server.lost(self)

    # Who it is, and what it wanted.

    def describe_peer(self, environ: dict[str, Any]) -> None:
        """Adds the address, or who is at the other end of a UNIX socket."""
        describe(self, environ, self.sock)

    @property
    def far(self) -> tuple[str, int]:
        """The address of the client, as far as whom is trusted says it; ("", 0) for none."""
        claims = self.claims
        return (claims.host, claims.port) if claims is not None and claims.host else (self.host, self.port)

    def log_fields(self, request: Request) -> dict[str, Value]:
        """The fields of log entries about a request."""
        return fields_of(self.server.name, peer_text(*self.far), request)

    def _log_access(self, status: int) -> None:
        if self._request is not None:
            duration = time.monotonic() - self._began
            answer = answer_of(self._request, status, self.sent, duration, *self.far)
            self.server.access.write(answer, (self.mounted or self.server).access_log, time.time())
