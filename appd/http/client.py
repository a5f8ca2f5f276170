"""One connection with its socket: what comes in is read and answered, what goes out is sent as the client takes it.

At any time a client is in one of three hands: the poller's (it waits for the socket), a thread's (it is being read or
answered), or the queue's. Who takes it out of `lane.armed` has it; whoever has it gives it on or closes it.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from appd.http.connection import CLOSED, END, NEED_DATA
from appd.http.entrylog import tell_failure
from appd.http.errors import Refused
from appd.http.peer import answer_of, credentials, fields_of, peer_text
from appd.http.request import Request
from appd.http.response import status_line
from appd.http.sending import Gone, Sender
from appd.http.upload import Upload

if TYPE_CHECKING:
    from appd.http.crew import Worker
    from appd.http.mounted import Mounted
    from appd.http.server import Door
    from appd.journal.entry import Value

__all__ = ["Client"]

# Bytes for one recv(2): most requests fit, and a body has larger ones.
_HEAD, _BODY = 16384, 262144
# How long the end of a connection may take, once all is sent: between two reads and as a whole, in seconds. Apache has
# 2 and 30; a process that stops waits for it.
_LINGER_READ, _LINGER = 1.0, 10.0
# Kestrel's MinRequestBodyDataRate comes with 5 seconds of grace.
_GRACE = 5.0
# nginx's status for a client that left before the head of the response was out; it is only ever logged.
_CLIENT_GONE = 499
# In a drain an idle connection stays for a moment: a request may be on its way.
_DRAIN = 0.2
_RESET = struct.pack("ii", 1, 0)
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")

_IDLE, _IN_HEAD, _IN_BODY, _ANSWERING, _LINGERING, _CLOSED = range(6)


class Client(Sender):
    """A connection.

    Args:
        door: Where it came in.
        sock: The socket, non-blocking.
        host: The address of the client, "" when it has none.
        port: Its port.

    Attributes:
        body_length: The length of the body of the last request that had one.

    Resource handling: owns the socket until `close`.
    """

    __slots__ = (
        "_began",
        "_ended",
        "_lingers",
        "_phase",
        "_request",
        "_upload",
        "body_length",
        "door",
        "host",
        "mounted",
        "port",
    )

    def __init__(self, door: Door, sock: socket.socket, host: str, port: int) -> None:
        super().__init__(door.server, sock)
        self.door = door
        self.host = host
        self.port = port
        self.body_length = 0
        self.mounted: Mounted | None = None
        self._phase = _IDLE
        self._upload: Upload | None = None
        self._request: Request | None = None
        self._began = 0.0
        self._ended = False
        self._lingers = 0.0

    # What comes in.

    def handle(self, worker: Worker) -> None:
        """Does what the socket is ready for."""
        if self._out is not None:
            self._flush(worker)
            return
        try:
            data = self.sock.recv(_HEAD if self._phase != _IN_BODY else _BODY)
        except BlockingIOError:
            self._wait()
            return
        except OSError:
            self.gone()
            return
        if self._phase == _LINGERING:
            self._linger(data)
            return
        if not data:
            self._ended = True
        self.connection.receive(data)
        self.advance(worker)

    def advance(self, worker: Worker) -> None:
        """Goes on with what was received."""
        connection = self.connection
        while True:
            try:
                event = connection.next()
            except Refused as refused:
                self.refuse(refused)
                return
            if type(event) is Request:
                self._began = time.monotonic()
                self._request = event
                if event.length == 0:
                    self._phase = _ANSWERING
                    if not self.server.answer(self, event, None, worker):
                        return
                    if connection.closing:
                        self.finish()
                        return
                    continue
                self._begin_body()
            elif event is NEED_DATA:
                self._wait()
                return
            elif event is CLOSED:
                self.finish()
                return
            elif event is END:
                if not self._answer_upload(worker):
                    return
                if connection.closing:
                    self.finish()
                    return
            elif not self._keep(event):  # type: ignore[arg-type]  # a part of the body
                return

    def _begin_body(self) -> None:
        self._phase = _IN_BODY
        self._upload = Upload(self.server.limits.upload_memory, self._began)
        if self.connection.continue_due:
            # A client that has no room for these few bytes sees no 100, and may send without it.
            with suppress(OSError):
                self.sock.send(self.connection.go_on())

    def _keep(self, data: bytes) -> bool:
        assert self._upload is not None
        try:
            self._upload.add(data)
        except OSError as error:
            self._no_room(error)
            return False
        return True

    def _no_room(self, error: OSError) -> None:
        assert self._request is not None
        fields = self.log_fields(self._request)
        tell_failure(self.server.log, "cannot keep the body of a request", error, LOGGER="appd.http", **fields)
        self.refuse(Refused(503, "no room for the body"))

    def _answer_upload(self, worker: Worker) -> bool:
        upload, self._upload = self._upload, None
        assert upload is not None and self._request is not None
        self._phase = _ANSWERING
        self.body_length = upload.length
        try:
            body = upload.complete()
        except OSError as error:
            self._no_room(error)
            return False
        return self.server.answer(self, self._request, body, worker)

    def _wait(self) -> None:
        """Polls for what the client sends next, as long as that may take."""
        connection, limits, phase = self.connection, self.server.limits, self._phase
        if phase == _LINGERING:
            self.server.lane.arm(self)
            return
        if phase == _IN_BODY:
            upload = self._upload
            assert upload is not None
            rate = limits.body_rate
            deadline = upload.began + _GRACE + upload.length / rate if rate else time.monotonic() + limits.idle_timeout
            self.server.lane.deadlines.put(self, deadline)
        elif connection.idle:
            self._phase = _IDLE
            self.deadline = deadline = time.monotonic() + limits.idle_timeout
            if not self.tick or phase != _ANSWERING:
                self.server.lane.deadlines.put(self, deadline)
            if self.server.draining:
                self.server.lane.deadlines.put(self, self.deadline - limits.idle_timeout + _DRAIN)
        elif phase != _IN_HEAD:
            # Absolute: however busily a head trickles, it does not last longer.
            self._phase = _IN_HEAD
            self.server.lane.deadlines.put(self, time.monotonic() + limits.header_timeout)
        self.server.lane.arm(self)

    def go_on(self, worker: Worker) -> None:
        """Goes on after a response."""
        if self.connection.closing:
            self.finish()
        else:
            self.advance(worker)

    # What goes out.

    def _flush(self, worker: Worker) -> None:
        """Sends more of what waits; at its end the connection goes on, unless a call still adds to it."""
        out = self._out
        assert out is not None
        with out.lock:
            out.armed = False
            if out.broken:
                broken = True
            else:
                try:
                    sent, broken = out.flush(), False
                except (OSError, EOFError):
                    out.close()
                    broken = True
            if not broken:
                if sent:
                    out.lock.notify_all()
                self._arm_out(out)
            finished, empty = out.finished, not out.size
        if not finished:
            return
        if broken:
            self.gone()
        elif empty and self.complete():
            self.go_on(worker)

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
        self.status = self.sent = 0
        self._request = self.mounted = None
        return True

    def plain(self, status: int, *fields: tuple[str, str]) -> bool:
        """Answers with a small page that names the status.

        Returns:
            As `complete`.

        Raises:
            Gone: The client gets nothing more.
        """
        text = status_line(status)[1].removeprefix("HTTP/1.1 ").replace("\r", "")
        self.send_whole(status, (_PLAIN, *fields), text.encode())
        return self.complete()

    def refuse(self, refused: Refused) -> None:
        """Answers what the client must not do, and ends the connection."""
        try:
            self.send(self.connection.refusal(refused))
        except Gone:
            self.gone()
            return
        self.status = self.status or refused.status
        if self.complete():
            self.finish()

    # The end.

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
        if self._phase == _LINGERING or self._phase == _CLOSED:
            return
        if self._ended:
            self.close()
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._phase = _LINGERING
        now = time.monotonic()
        self._lingers = now + _LINGER
        self.server.lane.deadlines.put(self, now + _LINGER_READ)
        self.server.lane.arm(self)

    def _linger(self, data: bytes) -> None:
        now = time.monotonic()
        if not data or now > self._lingers:
            self.close()
            return
        self.deadline = now + _LINGER_READ
        self.server.lane.arm(self)

    def expired(self) -> None:
        """The deadline has passed. Called by whoever keeps the deadlines, not by who has the client."""
        if not self.server.lane.disarm(self):
            # Somebody has it, and sets a new deadline when it waits again.
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
        elif self._phase == _IDLE:
            self._end_idle()
        elif self._phase == _LINGERING:
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
            self.server.lane.arm(self)

    def drain(self, ends: float) -> None:
        """Has an idle connection end at a time. A busy one ends with its response."""
        if self._phase == _IDLE:
            self.server.lane.deadlines.put(self, ends)

    def last_if_nothing_waits(self) -> None:
        """Lets the connection end with the response to come, unless the client has sent more already."""
        connection = self.connection
        if not connection.buffered:
            try:
                data = self.sock.recv(_HEAD)
            except OSError:
                data = b""
            if data:
                connection.receive(data)
            else:
                connection.closing = True

    def turn_away(self) -> None:
        """Ends a connection that is one too many."""
        if self.server.lane.disarm(self):
            self.refuse(Refused(503, "too many connections"))

    def abort(self) -> None:
        """Cuts the connection at once, whoever has it; a call notices when it sends."""
        self._reset()
        if self.server.lane.disarm(self):
            self.close()

    def close(self) -> None:
        """Closes the socket."""
        if self._phase == _CLOSED:
            return
        self._phase = _CLOSED
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
        environ["REMOTE_ADDR"] = self.host
        if self.host:
            environ["REMOTE_PORT"] = str(self.port)
        else:
            environ.update(credentials(self.sock))

    def log_fields(self, request: Request) -> dict[str, Value]:
        """The fields of log entries about a request."""
        return fields_of(self.server.name, peer_text(self.host, self.port), request)

    def _log_access(self, status: int) -> None:
        if self._request is not None:
            duration = time.monotonic() - self._began
            answer = answer_of(self._request, status, self.sent, duration, self.host, self.port)
            self.server.access.write(answer, (self.mounted or self.server).access_log, time.time())
