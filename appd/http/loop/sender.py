"""The half of a connection on the loop that sends: what the core makes of a response goes to the transport."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from appd.http.core.connection import Connection
from appd.http.core.errors import Incomplete
from appd.http.core.response import Fields, Prepared
from appd.http.lane.leaving import Phase
from appd.http.loop.caller import Caller
from appd.http.loop.parting import is_gone, part

if TYPE_CHECKING:
    from appd.http.core.request import Request
    from appd.http.lane.mounted import Mounted
    from appd.http.loop.driver import Driver

__all__ = ["LoopSender"]

_PIECE = 65536


class LoopSender(Caller):
    """The half of a connection that sends; see `LoopClient`.

    Attributes:
        transport: The transport.
        connection: The core.
        exchange: What is being answered: an `Exchange` or a `Visit`.
        request: The request that is being answered.
        mounted: The mount that answers it.
        postponed: A request that waits until the client takes what it was sent.
        blocked: What those wait for who have sent more than the client takes; None when there is room.
        broken: Whether nothing can be sent any more.
        ended: Whether the client has ended its side.
        paused: Whether nothing is read.
        phase: What it is at.
        began: When the request began.
        status: The status of the response.
        sent: The bytes of its body.
        counted: The address that the connection is counted for.
        deadline: See `Deadlines`.
        tick: See `Deadlines`.
        loop: The loop.
        driver: What has all connections of the loop.
    """

    __slots__ = (
        "_body_comes",
        "_lingers",
        "_stuck",
        "_unheard",
        "_writes_by",
        "began",
        "blocked",
        "broken",
        "connection",
        "counted",
        "deadline",
        "driver",
        "ended",
        "exchange",
        "loop",
        "mounted",
        "paused",
        "phase",
        "postponed",
        "request",
        "sent",
        "status",
        "tick",
        "transport",
    )

    def __init__(self, driver: Driver, door: Any, host: str, port: int, connection: Connection | None) -> None:
        super().__init__(door, host, port)
        server = door.server
        self.driver = driver
        self.loop: asyncio.AbstractEventLoop = driver.loop
        self.connection = connection or Connection(server.limits, server.origin)
        self.exchange: Any = None
        self.request: Request | None = None
        self.mounted: Mounted | None = None
        self.postponed: Request | None = None
        self.blocked: asyncio.Future[None] | None = None
        self.broken = self.ended = self.paused = False
        self.phase = Phase.IDLE
        self.began = self.deadline = 0.0
        self.tick = self.status = self.sent = 0
        self.counted = ""
        self.transport: Any = None
        self._body_comes = False
        self._lingers = 0.0
        self._stuck = self._unheard = 0
        self._writes_by = 0.0

    # How much the client takes.

    def pause_writing(self) -> None:
        """The client takes less than is sent."""
        if self.blocked is None:
            self.blocked = self.loop.create_future()
            # Looked at again when the socket has taken what it takes at once.
            self.loop.call_soon(self._note_size)
            self._watch_writing(time.monotonic())

    def _watch_writing(self, now: float) -> None:
        """Gives the client time to take something; the call may have less."""
        deadline = self._writes_by = now + self.server.limits.write_timeout
        limit = self.call_limit
        if limit and self.exchange is not None:
            deadline = min(deadline, self.began + limit)
        self.driver.alarm.deadlines.put(self, deadline)

    def _note_size(self) -> None:
        self._stuck = self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """The client has taken what waited."""
        self._free()

    def _free(self) -> None:
        blocked, self.blocked = self.blocked, None
        if blocked is not None and not blocked.done():
            blocked.set_result(None)

    async def drained(self) -> None:
        """Waits until the client has taken most of what was sent, or has left."""
        while self.blocked is not None:
            await asyncio.shield(self.blocked)

    def is_stuck(self, now: float) -> bool:
        """Whether the client has taken nothing since that was asked last; if it has, it is given time again."""
        size = self.transport.get_write_buffer_size()
        if size >= self._stuck:
            return True
        self._stuck = size
        self._watch_writing(now)
        return False

    # What goes out; called by the exchange. Its client may have left: then nothing happens.

    def _claim(self) -> None:
        """Before the first byte of a response: decides whether it is the last on the connection."""
        if self.server.draining and not self.connection.buffered:
            self.connection.closing = True

    def begin(self, status: int, prepared: Prepared, length: int | None) -> None:
        """Begins a response."""
        self._claim()
        self._write(self.connection.head(status, prepared, length))
        self.status = status

    def data(self, data: bytes) -> None:
        """A part of its body."""
        self.sent += len(data)
        out = self.connection.body(data)
        if out:
            self._write(out)

    def _write(self, out: bytes) -> None:
        """Gives bytes to the transport.

        Of one long write a transport of TLS says that all is sent: it lies with the one below, and nobody is told that
        the client takes nothing. So that is done in pieces.
        """
        secure = self.tls is not None
        self._unheard += 1
        if is_gone(self.transport, secure=secure, unheard=self._unheard):
            if not self.broken:
                self.broken = True
                # What was written before is still sent.
                part(self.driver.alarm, self.transport, self.server.limits.write_timeout)
            return
        if not secure or len(out) <= _PIECE:
            self.transport.write(out)
            return
        view = memoryview(out)
        for at in range(0, len(out), _PIECE):
            self.transport.write(view[at : at + _PIECE])

    def end(self, trailers: Fields = ()) -> None:
        """Its end."""
        try:
            out = self.connection.end(trailers)
        except Incomplete:
            self.cut()
            raise
        if out:
            self._write(out)

    def whole(self, status: int, prepared: Prepared, body: bytes) -> None:
        """A response in one go."""
        if self.server.draining:
            self._claim()
        self.status, self.sent = status, len(body)
        if prepared.length is not None and prepared.length > len(body):
            self._write(self.connection.head(status, prepared))
            self.sent = 0
            self.data(body)
            self.end()
            return
        self._write(self.connection.whole(status, prepared, body))

    def hint(self, fields: Fields) -> None:
        """103, before a response: RFC 8297."""
        out = self.connection.early(fields)
        if out:
            self.transport.write(out)

    def cut(self) -> None:
        """Ends a response where it is."""
        raise NotImplementedError  # how a connection ends is another's: `LoopLeaver`
