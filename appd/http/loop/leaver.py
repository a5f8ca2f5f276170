"""The half of a connection on the loop that ends what was begun: nothing is lost that is on its way."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from appd.http.client import DRAIN_LINGER
from appd.http.connection import Connection
from appd.http.errors import Incomplete, Misuse, Refused
from appd.http.leaving import Phase
from appd.http.loop.caller import Caller
from appd.http.peer import peer_text
from appd.http.response import prepare, status_line
from appd.journal import DEBUG, ERROR

if TYPE_CHECKING:
    from appd.http.loop.driver import Driver
    from appd.http.mounted import Mounted
    from appd.http.request import Request

__all__ = ["LoopLeaver", "frames_of"]

# As in the lane: between two reads and as a whole, in seconds.
LINGER_READ, LINGER = 1.0, 10.0
_PLAIN = (("Content-Type", "text/plain; charset=utf-8"),)
# nginx's status for a client that left before the head of the response was out; it is only ever logged.
_CLIENT_GONE = 499
_RESET = struct.pack("ii", 1, 0)


class LoopLeaver(Caller):
    """See `LoopClient`.

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
        self._stuck = 0

    # What the transport calls.

    def connection_made(self, transport: Any) -> None:
        """The transport is there."""
        self.transport = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        self.broken = True
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.lost()
        request = self.request
        if request is not None and exchange is not None:
            self._log(request, self.status or _CLIENT_GONE)
        self.request = None
        self._forget()
        self._free()

    def pause_writing(self) -> None:
        """The client takes less than is sent."""
        if self.blocked is None:
            self.blocked = self.loop.create_future()
            # Looked at again when the socket has taken what it takes at once.
            self.loop.call_soon(self._note_size)
            self.driver.alarm.deadlines.put(self, time.monotonic() + self.server.limits.write_timeout)

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
        self.driver.alarm.deadlines.put(self, now + self.server.limits.write_timeout)
        return False

    def pause(self) -> None:
        """Reads nothing for now."""
        if not self.paused and not self.broken:
            self.paused = True
            self.transport.pause_reading()

    def unpause(self) -> None:
        """Reads again."""
        if self.paused and not self.broken:
            self.paused = False
            self.transport.resume_reading()

    @property
    def sock(self) -> Any:
        """The socket, for questions."""
        return self.transport.get_extra_info("socket")

    @property
    def continue_due(self) -> bool:
        """Whether the client waits before it sends its body."""
        return self.connection.continue_due

    # The end of a response.

    def ended_response(self) -> None:
        """Notes what became of a request."""
        request, self.request = self.request, None
        if request is not None:
            self._log(request, self.status)
        self.mounted = self.claims = None

    def _log(self, request: Request, status: int) -> None:
        kind = (self.mounted or self.server).access_log
        if kind != "off":
            self.log_access(request, kind, status, self.sent, self.began)

    def complete(self, exchange: Any) -> None:
        """A response has ended; the connection goes on, or ends."""
        raise NotImplementedError  # only the half that receives knows: `LoopClient`

    def plain(self, status: int, *fields: tuple[str, str]) -> None:
        """Answers with a small page that names the status."""
        text = status_line(status)[1].removeprefix("HTTP/1.1 ").replace("\r", "") if status != 200 else ""
        shown = (*(_PLAIN if text else ()), *fields)
        self._say(status, self.mounted.with_headers(list(shown)) if self.mounted is not None else shown, text.encode())
        self.complete(None)

    def fail(self) -> None:
        """Tells the client that the application has failed, and nothing else."""
        fields = self.mounted.with_headers(list(_PLAIN)) if self.mounted is not None else _PLAIN
        self._say(500, fields, b"500 Internal Server Error\n")

    def _say(self, status: int, fields: Any, body: bytes) -> None:
        if self.broken:
            return
        if self.server.draining:
            self.connection.closing = True
        self.status, self.sent = status, len(body)
        try:
            self.transport.write(self.connection.whole(status, prepare(fields), body))
        except (Misuse, Incomplete):
            self.cut()

    def refuse(self, refused: Refused) -> None:
        """Answers what the client must not do, and ends the connection."""
        peer = peer_text(*self.far) or "a UNIX peer"
        self.server.log.write(f"{peer} is refused: {refused}", DEBUG, LOGGER="appd.http", APPD_SERVER=self.server.name)
        out = self.connection.refusal(refused)
        if out and not self.broken:
            self.transport.write(out)
        self.status = self.status or refused.status
        self.ended_response()
        self.finish()

    def overdue(self, limit: float) -> None:
        """A call has taken longer than it may: it is cancelled, and the client told, if nothing has begun."""
        exchange = self.exchange
        if exchange is None:
            return
        task = exchange.task
        where = "".join(map(_place, frames_of(task.get_coro()))) if task is not None else ""
        fields = self.log_fields(exchange.request)
        what = f"{fields['HTTP_METHOD']!s} {fields['HTTP_PATH']!s} has taken longer than request-timeout ({limit:g} s)"
        self.server.log.write(f"{what} and is cancelled; it was at:{where}", ERROR, LOGGER="appd.http", **fields)
        self.exchange = None
        exchange.done = True
        exchange.lost()
        if task is not None:
            task.cancel()
        if self.connection.sending:
            self.cut()
        else:
            self.too_late()

    def too_late(self) -> None:
        """Tells the client that a call takes too long."""
        self.connection.closing = True
        self._say(504, _PLAIN, b"504 Gateway Timeout\n")
        self.ended_response()
        self.finish()

    # The end of the connection.

    def cut(self) -> None:
        """Ends a response where it is, so that the client sees that something is missing."""
        request, self.exchange = self.request, None
        self.connection.cut()
        if request is None or not request.minor:
            # The end of the connection would look like the end of the body.
            self.reset()
            return
        self.ended_response()
        self.finish()

    def reset(self) -> None:
        """Ends the connection by a reset."""
        if self.transport is not None:
            self.broken = True
            with suppress(OSError, AttributeError):  # the socket has gone
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    def finish(self) -> None:
        """Ends the connection when all is sent: our side first, then the client's, or a moment has passed.

        Closing a socket that has unread bytes sends a reset, which may destroy the response on its way (RFC 9112, 9.6).
        """
        if self.phase == Phase.LINGERING or self.phase == Phase.CLOSED:
            return
        if self.ended or self.broken or not self.transport.can_write_eof():
            self.close()
            return
        self.phase = Phase.LINGERING
        self.transport.write_eof()
        self.unpause()
        now = time.monotonic()
        self._lingers = now + LINGER
        self.driver.alarm.deadlines.put(self, now + LINGER_READ)

    def linger(self) -> None:
        """Something has come that nobody reads any more."""
        now = time.monotonic()
        if now > self._lingers:
            self.close()
        else:
            self.deadline = now + LINGER_READ

    def close(self) -> None:
        """Closes the connection when all is sent."""
        if self.phase != Phase.CLOSED:
            self.phase = Phase.CLOSED
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self.driver.alarm.deadlines.put(self, time.monotonic() + self.server.limits.write_timeout)

    def _forget(self) -> None:
        self.phase = Phase.CLOSED
        self.driver.alarm.deadlines.drop(self)
        self.connection.cut()
        self.server.lost(self)

    def settle(self, wait: float) -> None:
        """Begins to wait for the first byte.

        Args:
            wait: How long, in seconds.
        """
        self.driver.alarm.deadlines.put(self, time.monotonic() + wait)

    def turn_away(self) -> None:
        """Ends a connection that is one too many."""
        self.refuse(Refused(503, "too many connections"))

    # What other threads ask for.

    def drain(self, _ends: float) -> None:
        """Has an idle connection end in a moment. A busy one ends with its response. Any thread may call."""
        self.driver.post(self._drain)

    def _drain(self) -> None:
        if self.phase == Phase.IDLE and not self.broken:
            self.driver.alarm.deadlines.put(self, time.monotonic() + DRAIN_LINGER)

    def abort(self) -> None:
        """Cuts the connection at once. Any thread may call."""
        self.driver.post(self.reset)


def frames_of(coroutine: Any) -> Iterator[FrameType]:
    """Where a coroutine waits, from the outside in; a task tells the outermost frame alone."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            return
        yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def _place(frame: FrameType) -> str:
    return f"\n{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
