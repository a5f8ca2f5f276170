"""The half of a connection on the loop that ends what was begun: nothing is lost that is on its way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from appd.http.core.errors import Incomplete, Misuse, Refused
from appd.http.core.response import Fields, prepare, status_line
from appd.http.lane.client import DRAIN_LINGER
from appd.http.lane.leaving import Phase
from appd.http.log.peer import peer_text
from appd.http.loop.parting import part, reset, reset_when_closed
from appd.http.loop.sender import LoopSender
from appd.journal import DEBUG, ERROR

if TYPE_CHECKING:
    from appd.http.core.request import Request

__all__ = ["LoopLeaver", "frames_of"]

# As in the lane: between two reads and as a whole, in seconds.
LINGER_READ, LINGER = 1.0, 10.0
_PLAIN = (("Content-Type", "text/plain; charset=utf-8"),)
# nginx's status for a client that left before the head of the response was out; it is only ever logged.
_CLIENT_GONE = 499


class LoopLeaver(LoopSender):
    """See `LoopClient`.

    Attributes:
        accepted: The status of a handshake that was taken up.
    """

    __slots__ = ()

    accepted = 101

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
        # Of what is no coroutine nobody knows what it waits for.
        where = f"; it was at:{''.join(map(_place, frames_of(task.get_coro())))}" if task is not None else ""
        fields = self.log_fields(exchange.request)
        what = f"{fields['HTTP_METHOD']!s} {fields['HTTP_PATH']!s} has taken longer than request-timeout ({limit:g} s)"
        self.server.log.write(f"{what} and is cancelled{where}", ERROR, LOGGER="appd.http", **fields)
        self.exchange = None
        exchange.done = True
        exchange.lost()
        exchange.cancel()
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
        """Ends a response where it is, so that the client sees that something is missing; once."""
        if self.phase == Phase.LINGERING or self.phase == Phase.CLOSED:
            return
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
            reset(self.transport)

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
            self.driver.alarm.deadlines.drop(self)
            part(self.driver.alarm, self.transport, self.server.limits.write_timeout)

    def accept(self, key: str, fields: Fields) -> LoopLeaver:
        """Takes up the handshake of a WebSocket.

        Args:
            key: The value of Sec-WebSocket-Accept.
            fields: All other fields.

        Raises:
            Misuse: They cannot be sent.
        """
        text = prepare([("Sec-WebSocket-Accept", key), *fields]).text
        about = self.server.origin.fields()
        head = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{about}{text}\r\n"
        self.transport.write(head.encode("latin-1"))
        return self

    def over(self, websocket: Any) -> None:
        """The WebSocket that the connection has become is over."""
        self.server.lost(websocket)

    def hand_to(self, successor: Any) -> bytes:
        """Gives the transport to another protocol, which is the connection from now on.

        Returns:
            What has come and was not read.
        """
        rest = self.connection.rest()
        self.driver.alarm.deadlines.drop(self)
        self.exchange = self.request = None
        self.phase = Phase.CLOSED
        self.server.clients.add(successor)
        self.server.clients.discard(self)
        self.transport.set_protocol(successor)
        self.unpause()
        return rest

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
        self.driver.cut(self)

    def be_reset(self) -> None:
        """Sees to it that the end of the process cuts the connection, when the loop does not come to it any more."""
        if self.transport is not None and self.phase != Phase.LINGERING and self.phase != Phase.CLOSED:
            reset_when_closed(self.transport)

    def cut_now(self) -> None:
        """Cuts the connection; in the thread of the loop."""
        if self.phase == Phase.LINGERING:  # all was said, and may be on its way
            self.close()
        else:
            self.reset()


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
