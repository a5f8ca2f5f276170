"""One stream of HTTP/2: a request and its response. To an exchange it is a line, as a connection of HTTP/1.1 is.

A stream sends as its window and the transport allow; what does not go out yet is kept, and beyond a size the
application waits. What comes in is acknowledged when the application has taken it, so that a slow one holds up its own
stream only.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes

from appd.http.errors import Incomplete, Refused
from appd.http.loop.caller import Caller
from appd.http.loop.h2fields import response_fields
from appd.http.peer import answer_of, peer_text
from appd.http.response import BARE, Fields, Prepared, prepare, status_line
from appd.journal import DEBUG, ERROR

if TYPE_CHECKING:
    from appd.http.loop.http2 import Http2
    from appd.http.mounted import Mounted
    from appd.http.request import Request

__all__ = ["Stream"]

# So much waits in a stream before the application does; and when it goes on.
_HIGH, _LOW = 65536, 16384
_GRACE = 5.0
_PLAIN = (("Content-Type", "text/plain; charset=utf-8"),)


class Stream(Caller):
    """See above.

    Args:
        connection: What it is a stream of.
        number: Its identifier.
        request: The request.
    """

    __slots__ = (
        "_began_body",
        "_buffer",
        "_connection",
        "_ended",
        "_ending",
        "_left",
        "_number",
        "_received",
        "_trailers",
        "_unacknowledged",
        "began",
        "blocked",
        "body_comes",
        "broken",
        "deadline",
        "driver",
        "exchange",
        "loop",
        "mounted",
        "request",
        "sent",
        "status",
        "tick",
    )

    def __init__(self, connection: Http2, number: int, request: Request) -> None:
        client = connection.client
        super().__init__(client.door, client.host, client.port)
        self.secure, self.is_beyond = client.secure, client.is_beyond
        self.tls, self.variables = client.tls, client.variables
        self.driver, self.loop = client.driver, client.loop
        self.request = request
        self.exchange: Any = None
        self.mounted: Mounted | None = None
        self.blocked: asyncio.Future[None] | None = None
        self.broken = self.body_comes = False
        self.began = self._began_body = time.monotonic()
        self.deadline = 0.0
        self.tick = self.status = self.sent = 0
        self._connection = connection
        self._number = number
        self._buffer = bytearray()
        self._ending = self._ended = False
        self._trailers: list[tuple[str, str]] = []
        self._left: int | None = None
        self._received = self._unacknowledged = 0

    # What comes in.

    def begin_request(self) -> None:
        """Finds what answers and has it begin."""
        request, server = self.request, self.server
        self.body_comes = request.length != 0
        try:
            found = server.find_for(self, request)
        except Refused as refused:
            self.refuse(refused)
            return
        limits = server.limits
        if found is None:
            server.requests += 1
            self.plain(200 if request.path == "*" else 404)
            return
        if self.body_comes:
            self._watch_body()
        self.mounted = mounted = found.mounted
        if mounted.driver is None:
            self._connection.visit(self, request, mounted)
            return
        server.requests += 1
        if limits.request_timeout:
            self.driver.alarm.deadlines.put(self, self.began + limits.request_timeout)
        mounted.begin(self, request)

    def feed(self, data: bytes, flow: int) -> None:
        """Takes a part of the body.

        Args:
            data: The part.
            flow: What it counts for in the window.
        """
        self._received += len(data)
        most = self.server.limits.body_size
        if most and self._received > most:
            self._refuse_body(Refused(413, f"a body of more than {most} bytes"))
            return
        self._unacknowledged += flow
        if self.exchange is None or self.exchange.done or self.exchange.feed(data):
            self.acknowledge()
        if self.body_comes and not self._unacknowledged:
            self._watch_body()

    def end_body(self, trailers: Any = ()) -> None:
        """The body is complete."""
        self.body_comes = False
        if self.exchange is not None:
            self.exchange.end_body()

    def took(self, _size: int) -> None:
        """The application has taken what there was of a body."""
        if self._unacknowledged:
            # From here on the client is measured anew: it was we who did not read.
            self._began_body = time.monotonic()
            self.acknowledge()
            if self.body_comes:
                self._watch_body()

    def acknowledge(self) -> None:
        """Opens the window for what was taken."""
        size, self._unacknowledged = self._unacknowledged, 0
        if size and not self.broken and self.body_comes:
            self._connection.open_window(self._number, size)

    def wants_body(self) -> None:
        """Somebody waits for the body; it comes by itself."""

    @property
    def continue_due(self) -> bool:
        """Nobody waits for a 100: a window of the body comes at once."""
        return False

    @property
    def sock(self) -> Any:
        """The socket, for questions."""
        return self._connection.client.sock

    def http_version(self, _request: Request) -> str:
        """For the scope."""
        return "2"

    # What goes out.

    def begin(self, status: int, prepared: Prepared, length: int | None) -> None:
        """Begins a response."""
        if self.broken:
            return
        about = self.server.origin.fields(server=not prepared.server, date=not prepared.date)
        self.status = status
        self._left = prepared.length if prepared.length is not None else length
        self._connection.say_head(self._number, response_fields(status, prepared, about, length))

    def data(self, data: bytes) -> None:
        """A part of its body."""
        if not self._keep(data):
            return
        self.flush()
        if len(self._buffer) > _HIGH and self.blocked is None:
            self.blocked = self.loop.create_future()
            self._watch_writing()

    def _keep(self, data: bytes) -> bool:
        """Puts a part of the body where it is sent from, if it is sent at all."""
        self.sent += len(data)
        if self.broken or self.request.method == "HEAD" or self.status in BARE or self.status == 304:
            return False
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        self._buffer += data
        return True

    def end(self, trailers: Fields = ()) -> None:
        """Its end."""
        if self._left and self.request.method != "HEAD" and self.status not in BARE and self.status != 304:
            self.cut()
            raise Incomplete(f"the body is {self._left} bytes shorter than its Content-Length")
        self._ending = True
        self._trailers = [(name.lower(), value) for name, value in trailers]
        self.flush()
        if not self._ended and not self.broken:
            self._watch_writing()

    def whole(self, status: int, prepared: Prepared, body: bytes) -> None:
        """A response in one go."""
        self.begin(status, prepared, None if self.request.method == "HEAD" and not body else len(body))
        self._keep(body)
        self.end()

    def hint(self, fields: Fields) -> None:
        """103, before a response: RFC 8297."""
        prepare(fields)
        if not self.broken:
            self._connection.say_head(self._number, [(":status", "103"), *((n.lower(), v) for n, v in fields)])

    def flush(self) -> None:
        """Sends what the window and the transport let through."""
        if self.broken or self._ended:
            return
        buffer = self._buffer
        if buffer:
            taken = self._connection.say_data(self._number, buffer, end=self._ending and not self._trailers)
            if taken:
                del buffer[:taken]
                if self.tick and buffer:
                    self._watch_writing()
        elif self._ending and not self._trailers:
            self._connection.say_end(self._number)
        if not buffer and self._ending:
            if self._trailers:
                self._connection.say_head(self._number, self._trailers, end=True)
            self._ended = True
            self._over()
        if self.blocked is not None and len(buffer) <= _LOW:
            self._free()

    def _free(self) -> None:
        blocked, self.blocked = self.blocked, None
        if blocked is not None and not blocked.done():
            blocked.set_result(None)

    async def drained(self) -> None:
        """Waits until the client has taken most of what was sent, or has left."""
        while self.blocked is not None:
            await asyncio.shield(self.blocked)

    # The end.

    def _over(self) -> None:
        """All is sent: the rest of the request, if there is one, is not waited for."""
        if self.exchange is None:
            self._leave()

    def complete(self, exchange: Any) -> None:
        """A response has ended."""
        self.exchange = None
        self._log(self.status)
        if self._ended or self.broken:
            self._leave()

    def _leave(self) -> None:
        self.driver.alarm.deadlines.drop(self)
        if not self.broken:
            self.broken = True
            self._connection.done_with(self._number, complete=not self.body_comes)
        self._free()

    def lost(self) -> None:
        """The client has reset the stream, or has left."""
        if self.broken:
            return
        self.broken = True
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.lost()
            self._log(self.status or 499)
        self.driver.alarm.deadlines.drop(self)
        self._free()

    def _log(self, status: int) -> None:
        kind = (self.mounted or self.server).access_log
        if kind != "off":
            answer = answer_of(self.request, status, self.sent, time.monotonic() - self.began, *self.far)
            self.server.access.write(answer._replace(version=b"HTTP/2"), kind, time.time())

    def plain(self, status: int, *fields: tuple[str, str]) -> None:
        """Answers with a small page that names the status."""
        text = status_line(status)[1].removeprefix("HTTP/1.1 ").replace("\r", "") if status != 200 else ""
        shown = (*(_PLAIN if text else ()), *fields)
        self.whole(status, self._prepared(shown), text.encode())
        self.complete(None)

    def _prepared(self, fields: Any) -> Prepared:
        return prepare(self.mounted.with_headers(list(fields)) if self.mounted is not None else fields)

    def fail(self) -> None:
        """Tells the client that the application has failed, and nothing else."""
        self.whole(500, self._prepared(_PLAIN), b"500 Internal Server Error\n")

    def refuse(self, refused: Refused) -> None:
        """Answers what the client must not do."""
        peer = peer_text(*self.far) or "a UNIX peer"
        self.server.log.write(f"{peer} is refused: {refused}", DEBUG, LOGGER="appd.http", APPD_SERVER=self.server.name)
        self.plain(refused.status)

    def _refuse_body(self, refused: Refused) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.done = True
            exchange.lost()
            if exchange.task is not None:
                exchange.task.cancel()
        if self.status:
            self.cut()
        else:
            self.refuse(refused)

    def too_late(self) -> None:
        """Tells the client that a call takes too long."""
        self.whole(504, prepare(_PLAIN), b"504 Gateway Timeout\n")
        self.complete(None)

    def cut(self) -> None:
        """Ends a response where it is, so that the client sees that something is missing."""
        if self.broken:
            return
        self.exchange = None
        self.broken = True
        self._log(self.status)
        self.driver.alarm.deadlines.drop(self)
        self._connection.reset(self._number, ErrorCodes.INTERNAL_ERROR)
        self._free()

    # Time.

    def _watch_body(self) -> None:
        limits = self.server.limits
        rate = limits.body_rate
        deadline = self._began_body + _GRACE + self._received / rate if rate else time.monotonic() + limits.idle_timeout
        self.driver.alarm.deadlines.put(self, deadline)

    def _watch_writing(self) -> None:
        self.driver.alarm.deadlines.put(self, time.monotonic() + self.server.limits.write_timeout)

    def expired(self) -> None:
        """The deadline has passed."""
        limit = self.server.limits.request_timeout
        if self.broken:
            return
        if self._buffer or self._ending:
            # The client opens no window, or a byte at a time for ever.
            self._stuck()
        elif self.body_comes and not self._unacknowledged:
            self._refuse_body(Refused(408, "too slow"))
        elif limit and self.exchange is not None and self.exchange.task is not None:
            now = time.monotonic()
            if now < self.began + limit:
                self.driver.alarm.deadlines.put(self, self.began + limit)
                return
            fields = self.log_fields(self.request)
            what = f"{fields['HTTP_METHOD']!s} {fields['HTTP_PATH']!s} has taken longer than request-timeout"
            self.server.log.write(f"{what} ({limit:g} s) and is cancelled", ERROR, LOGGER="appd.http", **fields)
            exchange, self.exchange = self.exchange, None
            exchange.done = True
            exchange.task.cancel()
            if self.status:
                self.cut()
            else:
                self.too_late()

    def _stuck(self) -> None:
        exchange = self.exchange
        self._connection.reset(self._number, ErrorCodes.CANCEL)
        self.lost()
        if exchange is not None and exchange.task is not None:
            exchange.lost()
