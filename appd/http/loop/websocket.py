"""A WebSocket of an ASGI application: the handshake on the connection of HTTP, then frames by wsproto.

    LoopClient ─▶ Handshake: websocket.connect ─▶ accept ─▶ WebSocket has the transport
                                            └────▶ close, http.response.* ─▶ a response, and HTTP goes on

https://asgi.readthedocs.io/en/latest/specs/www.html#websocket; RFC 6455.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError

from appd.http.loop.frames import Cutter, simple_frame
from appd.http.loop.parting import is_gone, part
from appd.http.loop.pump import Disconnected

if TYPE_CHECKING:
    from appd.http.core.request import Request
    from appd.http.loop.leaver import LoopLeaver

__all__ = ["INTERNAL", "NORMAL", "WebSocket"]

# RFC 6455, 7.4.1, and the registry of close codes.
NORMAL = 1000
GOING_AWAY = 1001
NO_STATUS = 1005
ABNORMAL = 1006
TOO_BIG = 1009
INTERNAL = 1011
SERVICE_RESTART = 1012
# So much waits for an application before the client has to.
_KEPT = 65536
# Compressed bytes grow a thousandfold at most: so many at once, and the limit is looked at in between.
_SLICE = 8192
# How long the client may take to close its side, in seconds; websockets' close_timeout is 10.
_CLOSING = 10.0


class WebSocket(asyncio.Protocol):
    """A connection after the handshake.

    Args:
        client: The connection of HTTP, which is over with it.
        request: The request that asked for it.
        mount: The application's.
        extensions: The extensions of wsproto.

    Attributes:
        blocked: What those wait for who have sent more than the client takes.
        counted: See `Server.lost`.
        host: See `Server.lost`.
        closed: The code of the end; None as long as it is open.

    Resource handling: owns the transport.
    """

    __slots__ = (
        "_began",
        "_client",
        "_connection",
        "_cutter",
        "_heard",
        "_mount",
        "_parts",
        "_paused",
        "_pinged",
        "_queue",
        "_reason",
        "_request",
        "_sent",
        "_size",
        "_sliced",
        "_unheard",
        "_waiter",
        "_waiting",
        "blocked",
        "closed",
        "counted",
        "deadline",
        "host",
        "tick",
        "transport",
    )

    def __init__(self, client: LoopLeaver, request: Request, mount: Any, extensions: list[Any]) -> None:
        self._client = client
        self._request = request
        self._mount = mount
        self._connection = Connection(ConnectionType.SERVER, extensions)
        self._sliced = bool(extensions)
        self._cutter = Cutter()
        self._queue: deque[dict[str, Any]] = deque()
        self._waiting = 0
        self._parts: list[Any] = []
        self._paused = self._pinged = self._heard = False
        self._waiter: asyncio.Future[None] | None = None
        self._reason = ""
        self._began = client.began
        self._sent = self._size = self._unheard = 0
        self.blocked: asyncio.Future[None] | None = None
        self.closed: int | None = None
        self.transport = client.transport
        self.host, self.counted = client.host, client.counted
        self.deadline, self.tick = 0.0, 0
        self._watch(mount.serves.ping_interval)

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._heard = True
        self._unheard = 0
        driver = self._client.driver
        if driver.sleeps:
            driver.wake()
        for one in self._cutter.cut(data):
            if type(one) is memoryview:
                self._read(bytes(one))
            elif self.closed is None:
                self._put_message(one)

    def _read(self, data: bytes) -> None:
        """Has wsproto read."""
        size = _SLICE if self._sliced else len(data)
        for at in range(0, len(data), size):
            connection = self._connection
            if connection.state is ConnectionState.CLOSED or (self.closed is not None and not self._is_closing()):
                return
            with suppress(LocalProtocolError):
                connection.receive_data(data[at : at + size])
            for event in connection.events():
                self._take(event)

    def _put_message(self, message: Any) -> None:
        if len(message) > self._mount.serves.message_size:
            self.close(TOO_BIG, "the message is too big")
        else:
            kind = "text" if type(message) is str else "bytes"
            self._put({"type": "websocket.receive", kind: message}, len(message))

    def _is_closing(self) -> bool:
        return self._connection.state is ConnectionState.LOCAL_CLOSING

    def _take(self, event: Any) -> None:
        kind = type(event)
        if kind is TextMessage or kind is BytesMessage:
            if self.closed is None:
                self._take_part(event)
        elif kind is Ping:
            if self.closed is None:
                self._write(event.response())
        elif kind is CloseConnection:
            self._take_close(event)

    def _take_part(self, event: Any) -> None:
        self._parts.append(event.data)
        size = sum(map(len, self._parts)) if len(self._parts) > 1 else len(event.data)
        if size > self._mount.serves.message_size:
            self._parts.clear()
            self.close(TOO_BIG, "the message is too big")
            return
        if not event.message_finished:
            return
        parts, self._parts = self._parts, []
        if type(event) is TextMessage:
            text = parts[0] if len(parts) == 1 else "".join(parts)
            self._put({"type": "websocket.receive", "text": text}, size)
        else:
            data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
            self._put({"type": "websocket.receive", "bytes": data}, size)

    def _take_close(self, event: Any) -> None:
        state = self._connection.state
        if state is ConnectionState.REMOTE_CLOSING:
            self._end(event.code, event.reason or "")
            self._write(event.response())
            self._finish()
        elif state is ConnectionState.CLOSED:
            # The answer to our own.
            self._end(event.code, event.reason or "")
            self._finish()
        else:
            # The client has broken the rules; the code says which. Nothing that follows can be read, its close neither
            # (RFC 6455, 7.1.7), so our side ends at once; what is unread must not reset what the code says.
            first = self.closed is None
            self.close(event.code, event.reason or "")
            if first and self.transport.can_write_eof():
                self.transport.write_eof()
            elif first:
                self._finish()

    def eof_received(self) -> bool:
        """The client has ended its side: nothing can be agreed upon any more."""
        self._end(ABNORMAL, "")
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        self._end(ABNORMAL, "")
        client = self._client
        client.broken = True
        client.driver.alarm.deadlines.drop(self)
        kind = self._mount.access_log
        if kind != "off":
            client.log_access(self._request, kind, client.accepted, self._sent, self._began)
        client.over(self)
        self.resume_writing()

    def pause_writing(self) -> None:
        """The client takes less than is sent."""
        if self.blocked is None:
            client = self._client
            self.blocked = client.loop.create_future()
            self._size = 1 << 62
            self._watch(client.server.limits.write_timeout)

    def resume_writing(self) -> None:
        """The client has taken what waited."""
        blocked, self.blocked = self.blocked, None
        if blocked is not None and not blocked.done():
            blocked.set_result(None)

    # The application.

    def _put(self, message: dict[str, Any], size: int) -> None:
        self._queue.append(message)
        self._waiting += size
        # Empty messages take room as well.
        if not self._paused and (self._waiting > _KEPT or len(self._queue) > 64):
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def receive(self) -> dict[str, Any]:
        """The next message, or how the connection has ended."""
        while not self._queue:
            if self.closed is not None:
                return {"type": "websocket.disconnect", "code": self.closed, "reason": self._reason}
            if self._waiter is None or self._waiter.done():
                self._waiter = self._client.loop.create_future()
            await asyncio.shield(self._waiter)
        message = self._queue.popleft()
        self._waiting -= len(message.get("text") or message.get("bytes") or "")
        if self._paused and self._waiting <= _KEPT // 2 and len(self._queue) < 32:
            self._paused = False
            if not self._client.broken:
                self.transport.resume_reading()
        return message

    async def send(self, message: Any) -> None:
        """Sends a message, or closes.

        Raises:
            Disconnected: The connection has ended.
            RuntimeError: It is no such message.
        """
        kind = message["type"]
        if kind == "websocket.close":
            if self.closed is None:
                self.close(message.get("code", NORMAL) or NORMAL, message.get("reason") or "")
            return
        if kind != "websocket.send":
            raise RuntimeError(f"{kind!r} is no message for an open WebSocket")
        if self.closed is not None:
            raise Disconnected("the WebSocket is closed")
        text, data = message.get("text"), message.get("bytes")
        if text is None and data is None:
            raise RuntimeError("websocket.send has neither text nor bytes")
        if not self._sliced:
            frame = simple_frame(2, bytes(data)) if text is None else simple_frame(1, text.encode())
            self._write_out(frame)
        elif text is not None:
            self._write(TextMessage(data=text))
        else:
            self._write(BytesMessage(data=data))
        while self.blocked is not None:
            await asyncio.shield(self.blocked)

    # The end.

    def close(self, code: int, reason: str = "") -> None:
        """Begins to close: the client answers, or a moment passes."""
        if self.closed is not None:
            return
        self._end(code, reason)
        self._write(CloseConnection(code=code, reason=_shortened(reason)))
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        self._watch(_CLOSING)

    def _end(self, code: int | None, reason: str) -> None:
        if self.closed is None:
            self.closed, self._reason = NO_STATUS if code is None else int(code), reason
            self._parts.clear()
        self._wake()

    def _finish(self) -> None:
        self._part()

    def _part(self) -> None:
        client = self._client
        client.driver.alarm.deadlines.drop(self)
        part(client.driver.alarm, self.transport, client.server.limits.write_timeout)

    def _write(self, event: Any) -> None:
        if self._client.broken:
            return
        with suppress(LocalProtocolError):  # it is closing already
            self._write_out(self._connection.send(event))

    def _write_out(self, data: bytes) -> None:
        client = self._client
        self._unheard += 1
        if is_gone(self.transport, secure=client.tls is not None, unheard=self._unheard):
            if not client.broken:
                client.broken = True
                self._end(ABNORMAL, "")
                self._part()
            return
        self._sent += len(data)
        self.transport.write(data)

    # Time.

    def _watch(self, wait: float) -> None:
        if wait:
            self._client.driver.alarm.deadlines.put(self, time.monotonic() + wait)

    def expired(self) -> None:
        """The deadline has passed: the client is asked whether it is there, or was."""
        serves = self._mount.serves
        size = self.transport.get_write_buffer_size()
        if self.blocked is not None and size < self._size:
            # It takes something; slowly.
            self._size = size
            self._watch(self._client.server.limits.write_timeout)
            return
        if self.closed is not None or self.blocked is not None or (self._pinged and not self._heard):
            if self.closed is None:
                self._end(INTERNAL, "keepalive ping timeout")
            self.transport.abort()
            return
        self._heard = False
        self._pinged = True
        self._write(Ping())
        self._watch(serves.ping_timeout or serves.ping_interval)
        if not serves.ping_timeout:
            self._pinged = False

    # What other threads ask for.

    def drain(self, _ends: float) -> None:
        """A drain begins. At a stop nobody is waited for; after a reload it goes on until the end of the drain."""
        if not self._client.server.reloading:
            self._client.driver.post(self.close, GOING_AWAY)

    def abort(self) -> None:
        """Ends the connection at once; the client is told why, if it listens."""
        self._client.driver.post(self.leave)

    def leave(self) -> None:
        """As `abort`, in the thread of the loop."""
        if self.closed is None:
            self.close(SERVICE_RESTART if self._client.server.reloading else GOING_AWAY)
        self._part()


def _shortened(reason: str) -> str:
    """A reason that fits into a control frame: RFC 6455, 5.5."""
    return reason.encode()[:123].decode(errors="ignore")
