"""The half of a stream of HTTP/2 that sends, as its window and the transport allow. What does not go out is kept."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from appd.http.core.errors import Incomplete
from appd.http.core.response import BARE, Fields, Prepared, prepare
from appd.http.h2.encoding import encode_fields, encode_head
from appd.http.loop.caller import Caller

if TYPE_CHECKING:
    from appd.http.core.request import Request
    from appd.http.lane.mounted import Mounted
    from appd.http.loop.http2 import Http2
    from appd.http.loop.tunnel import Tunnel

__all__ = ["StreamSender"]

# So much waits in a stream before the application does; and when it goes on.
_HIGH, _LOW = 65536, 16384
# Parts of a body below this are put together where they wait.
_SMALL = 4096


class StreamSender(Caller):
    """See `Stream`."""

    __slots__ = (
        "_began_body",
        "_body_by",
        "_connection",
        "_ended",
        "_ending",
        "_left",
        "_number",
        "_parts",
        "_received",
        "_trailers",
        "_unacknowledged",
        "_waiting",
        "_writes_by",
        "began",
        "blocked",
        "body_comes",
        "broken",
        "continue_due",
        "deadline",
        "driver",
        "exchange",
        "loop",
        "mounted",
        "protocol",
        "request",
        "sent",
        "status",
        "tick",
        "tunnel",
    )

    def __init__(self, connection: Http2, number: int, request: Request, protocol: str) -> None:
        client = connection.client
        super().__init__(client.door, client.host, client.port)
        self.secure, self.is_beyond = client.secure, client.is_beyond
        self.tls, self.variables = client.tls, client.variables
        self.driver, self.loop = client.driver, client.loop
        self.request = request
        self.protocol = protocol
        self.tunnel: Tunnel | None = None
        self.exchange: Any = None
        self.mounted: Mounted | None = None
        self.blocked: asyncio.Future[None] | None = None
        self.broken = self.body_comes = self.continue_due = False
        self.began = self._began_body = time.monotonic()
        self.deadline = 0.0
        self.tick = self.status = self.sent = 0
        self._connection = connection
        self._number = number
        # What is to be sent, and how many bytes that are.
        self._parts: list[memoryview] = []
        self._waiting = 0
        self._ending = self._ended = False
        self._trailers = b""
        self._left: int | None = None
        self._received = self._unacknowledged = 0
        # When more of the body has to be here, and when the client has to have taken something; 0 for never.
        self._body_by = self._writes_by = 0.0

    # What goes out.

    def begin(self, status: int, prepared: Prepared, length: int | None) -> None:
        """Begins a response."""
        if self.broken:
            return
        # RFC 9110, 15.2: from here on nothing is interim.
        self.continue_due = False
        about = self.server.origin.fields(server=not prepared.server, date=not prepared.date)
        self.status = status
        self._left = prepared.length if prepared.length is not None else length
        self._connection.say_head(self._number, encode_head(status, prepared, about, length))

    def data(self, data: bytes) -> None:
        """A part of its body."""
        if not self._keep(data):
            return
        self.flush()
        if self._waiting > _HIGH and self.blocked is None:
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
        if data:
            parts = self._parts
            if parts and len(data) < _SMALL and len(parts[-1]) < _SMALL:
                # A frame for each of many small ones would be mostly heads of frames.
                parts[-1] = memoryview(bytes(parts[-1]) + data)
            else:
                parts.append(memoryview(data))
            self._waiting += len(data)
        return True

    def end(self, trailers: Fields = ()) -> None:
        """Its end."""
        if self._left and self.request.method != "HEAD" and self.status not in BARE and self.status != 304:
            self.cut()
            raise Incomplete(f"the body is {self._left} bytes shorter than its Content-Length")
        self._ending = True
        self._trailers = encode_fields(trailers)
        self.flush()
        if not self._ended and not self.broken:
            self._watch_writing()

    def whole(self, status: int, prepared: Prepared, body: bytes) -> None:
        """A response in one go."""
        if self.request.method != "HEAD" and status not in BARE and status != 304 and not self.broken:
            length = prepared.length
            if length is None or length == len(body):
                about = self.server.origin.fields(server=not prepared.server, date=not prepared.date)
                if self._connection.say_whole(self._number, encode_head(status, prepared, about, len(body)), body):
                    self.status, self.sent = status, len(body)
                    self._ended = True
                    self._over()
                    return
        bare = not body and (self.request.method == "HEAD" or status == 304)
        self.begin(status, prepared, None if bare else len(body))
        self._keep(body)
        self.end()

    def hint(self, fields: Fields) -> None:
        """103, before a response: RFC 8297."""
        prepare(fields)
        if not self.broken:
            self._connection.say_head(self._number, encode_fields([(":status", "103"), *fields]))

    def flush(self) -> None:
        """Sends what the window and the transport let through."""
        if self.broken or self._ended:
            return
        if self._waiting:
            end = self._ending and not self._trailers
            taken = self._connection.say_data(self._number, self._parts, self._waiting, end=end)
            if taken:
                self._waiting -= taken
                if not self._waiting:
                    self._writes_by = 0.0
                elif self._writes_by:
                    self._watch_writing()
        elif self._ending and not self._trailers:
            self._connection.say_end(self._number)
        if not self._waiting and self._ending:
            if self._trailers:
                self._connection.say_head(self._number, self._trailers, end=True)
            self._ended = True
            self._over()
        if self.blocked is not None and self._waiting <= _LOW:
            self._free()

    @property
    def waiting(self) -> int:
        """How many bytes of the response wait."""
        return self._waiting

    def _free(self) -> None:
        blocked, self.blocked = self.blocked, None
        if blocked is not None and not blocked.done():
            blocked.set_result(None)

    async def drained(self) -> None:
        """Waits until the client has taken most of what was sent, or has left."""
        while self.blocked is not None:
            await asyncio.shield(self.blocked)

    def _watch_writing(self) -> None:
        self._writes_by = time.monotonic() + self.server.limits.write_timeout
        self.watch()

    def watch(self) -> None:
        """Sets the deadline: the earliest of those that there are."""
        raise NotImplementedError  # what a stream waits for is another's to know: `Stream`

    def cut(self) -> None:
        """Ends a response where it is."""
        raise NotImplementedError  # how a stream ends is another's: `Stream`

    def _over(self) -> None:
        """All is sent."""
        raise NotImplementedError  # as above
