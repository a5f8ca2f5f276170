"""One connection with its socket: what comes in is read and answered, what goes out is sent as the client takes it.

At any time a client is in one of three hands: the poller's (it waits for the socket), a thread's (it is being read or
answered), or the queue's. Who takes it out of `lane.armed` has it; whoever has it gives it on or closes it.
"""

from __future__ import annotations

import time

from appd.http.core.connection import CLOSED, END, NEED_DATA, Connection
from appd.http.core.errors import Refused
from appd.http.core.request import Request
from appd.http.handover import Driver, Handed
from appd.http.lane.deadlines import PER_SECOND
from appd.http.lane.leaving import Leaver, Phase
from appd.http.lane.sending import NOTHING
from appd.http.log.entrylog import tell_failure
from appd.http.upload import Upload
from appd.startup.bare import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from appd.http.lane.crew import Worker
    from appd.http.lane.door import Door

__all__ = ["DRAIN_LINGER", "Client"]

# Bytes for one recv(2): most requests fit, and a body has larger ones.
_HEAD, _BODY = 16384, 262144
# How a connection of HTTP/2 begins: RFC 9113, 3.4.
_HTTP2 = b"PRI * HTTP/2.0\r\n"
_IDLE, _ANSWERING = Phase.IDLE, Phase.ANSWERING
# Connections that a server keeps for whoever is asked for something next.
_MOST_SPARE = 64
# Kestrel's MinRequestBodyDataRate comes with 5 seconds of grace.
_GRACE = 5.0
# How long an idle connection stays open when a drain has begun, in seconds: longer than a request is on its way from
# most clients, and short enough that nobody notices when a service stops.
DRAIN_LINGER = 0.2


class Client(Leaver):
    """A connection; see `Leaver`.

    Attributes:
        body_length: The length of the body of the last request that had one.
    """

    __slots__ = ("_preface", "body_length")

    def __init__(self, door: Door, sock: socket.socket, host: str, port: int) -> None:
        super().__init__(door, sock, host, port)
        self.body_length = 0
        self._preface = b""
        if door.server.proxy_protocol:
            self._phase = Phase.PREFACE

    def settle(self, wait: float) -> None:
        """Begins to wait for the first byte.

        Args:
            wait: How long, in seconds.
        """
        lane = self.server.lane
        lane.deadlines.put(self, time.monotonic() + wait)
        lane.admit(self)

    @property
    def patience(self) -> float:
        """How long the first step may take, in seconds."""
        limits = self.server.limits
        return limits.header_timeout if self._phase == Phase.PREFACE else limits.idle_timeout

    # What comes in.

    def handle(self, worker: Worker) -> None:
        """Does what the socket is ready for."""
        if self._out is not None:
            self._flush(worker)
            return
        size = _HEAD if self._phase != Phase.BODY else _BODY
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            self._wait()
            return
        except OSError:
            self.gone()
            return
        if len(data) == size:
            self.server.lane.read_more(self.fd)
        if self._phase == Phase.LINGERING:
            self._linger(data)
            return
        if self._phase == Phase.PREFACE:
            data = self._read_preface(data)
            if not data:
                return
        connection = self.connection or self.awake()
        request = connection.take(data)
        if request is not None:
            self._answer(request, worker)
        elif self.server.http2 and not connection.requests and connection.begins_with(_HTTP2):
            self._give(self.server.driver, None)
        else:
            self.advance(worker)

    def _read_preface(self, data: bytes) -> bytes:
        """Takes what the proxy in front says of the connection; gives what the client has sent behind it."""
        from appd.http.core.proxyprotocol import read_proxy_header

        self._preface += data
        try:
            proxied = read_proxy_header(self._preface) if data else None
        except Refused:
            self.close()
            return b""
        if proxied is None:
            if data:
                self.server.lane.arm(self)
            else:
                self.close()
            return b""
        rest, self._preface = self._preface[proxied.used :], b""
        if not self.server.introduce(self, proxied):
            self.refuse(Refused(503, "too many connections"))
            return b""
        self._phase = Phase.IDLE
        if not rest:
            self._wait()
        return rest

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
                if self.server.elsewhere and self._hand_over(event):
                    return
                if event.length == 0:
                    self._phase = _ANSWERING
                    if not self.server.answer(self, event, None, worker):
                        return
                    if connection.is_as_new():
                        self._sleep(connection)
                        return
                    if connection.closing:
                        self.finish()
                        return
                    continue
                if not self._begin_body(event, worker):
                    return
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

    def _answer(self, request: Request, worker: Worker) -> None:
        """As `advance` from a request without a body on."""
        server = self.server
        self._began = time.monotonic()
        self._request = request
        if server.elsewhere and self._hand_over(request):
            return
        self._phase = _ANSWERING
        if server.answer(self, request, None, worker):
            self.go_on(worker)

    def _hand_over(self, request: Request) -> bool:
        """Gives the connection to another driver, if the request is for one of its mounts."""
        server = self.server
        try:
            found = server.find_for(self, request)
        except Refused as refused:
            self.refuse(refused)
            return True
        if found is None or found.mounted.driver is None:
            return False
        self._give(found.mounted.driver, request)
        return True

    def _give(self, driver: Driver, request: Request | None) -> None:
        self._phase = Phase.CLOSED
        self.server.lane.forget(self)
        peer = (self.host, self.port, self.secure, self.is_beyond, self.counted)
        # With all that the library gives a socket; see `Door.begin`.
        import socket

        sock = socket.socket(self.sock.family, self.sock.type, self.sock.proto, self.sock.detach())
        self.server.replace(self, driver.take(Handed(self.door, sock, self.connection, request, *peer)))

    def _begin_body(self, request: Request, worker: Worker) -> bool:
        """Lets the body come, unless the answer is there without it."""
        wanted = self.server.wants_body(self, request)
        if not wanted and self.connection.continue_due:
            # Nothing has been sent of it, and with the answer the connection ends.
            self._phase = Phase.ANSWERING
            if self.server.answer(self, request, None, worker):
                self.finish()
            return False
        self._phase = Phase.BODY
        self._upload = Upload(self.server.limits.upload_memory, self._began, keep=wanted)
        if self.connection.continue_due:
            # A client that has no room for these few bytes sees no 100, and may send without it.
            with suppress(OSError):
                self.sock.send(self.connection.go_on())
        return True

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
        self._phase = Phase.ANSWERING
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
        if phase >= Phase.LINGERING:
            # Or before the header of a proxy: what was told of the descriptor was of the connection that had it before.
            self.server.lane.arm(self)
            return
        if phase == Phase.BODY:
            upload = self._upload
            assert upload is not None
            rate = limits.body_rate
            deadline = upload.began + _GRACE + upload.length / rate if rate else time.monotonic() + limits.idle_timeout
            self.server.lane.deadlines.put(self, deadline)
        elif connection is None or connection.idle:
            self._wait_idle()
            return
        elif phase != Phase.HEAD:
            # Absolute: however busily a head trickles, it does not last longer.
            self._phase = Phase.HEAD
            self.server.lane.deadlines.put(self, time.monotonic() + limits.header_timeout)
        self.server.lane.arm(self)

    def _wait_idle(self) -> None:
        connection = self.connection
        self._sleep(connection if connection is not None and connection.is_as_new() else None)

    def _sleep(self, spare: Connection | None) -> None:
        """Polls for the next request, and gives back what nothing need be kept of."""
        server = self.server
        self._phase = _IDLE
        if spare is not None and server.forgets:
            if len(server.spare) < _MOST_SPARE:
                server.spare.append(spare)
            self.connection = NOTHING
        now = time.monotonic()
        self.deadline = deadline = now + server.idle_timeout
        # Where it is kept already, and not for later, it is found in time, and moved then.
        if not 0 < self.tick <= deadline * PER_SECOND:
            server.lane.deadlines.put(self, deadline)
        if server.draining:
            server.lane.deadlines.put(self, now + DRAIN_LINGER)
        server.lane.arm(self)

    def go_on(self, worker: Worker) -> None:
        """Goes on after a response."""
        connection = self.connection
        if connection.is_as_new():
            # Nearly always.
            self._sleep(connection)
        elif connection.closing:
            self.finish()
        elif connection.idle:
            self._wait_idle()
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
