"""What carries a WebSocket within a stream of HTTP/2: RFC 8441. To it, it is both transport and connection.

    CONNECT, :protocol websocket ─▶ Stream ─▶ Handshake: websocket.connect ─▶ accept ─▶ 200, and DATA is what TCP was

The end of a side is END_STREAM, a reset is RST_STREAM with CANCEL (RFC 8441, 5). What has come is acknowledged when the
WebSocket reads, so that an application that takes nothing holds up its own stream only.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from appd.http.h2.codes import Code
from appd.http.log.peer import answer_of

if TYPE_CHECKING:
    import asyncio

    from appd.http.core.request import Request
    from appd.http.loop.stream import Stream
    from appd.http.loop.websocket import WebSocket

__all__ = ["Tunnel"]


class Tunnel:
    """One stream, from the request on.

    Args:
        stream: The stream.

    Attributes:
        broken: Whether nothing can be sent any more.
        ended: Whether the client has ended its side.
        accepted: The status of a handshake that was taken up.
        tls: None: what is written does not go to a transport of TLS directly.
        transport: Itself.
    """

    accepted = 200
    tls = None

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._websocket: WebSocket | None = None
        # What has come before anybody reads; no more than the window lets through.
        self._early: list[bytes] = []
        self._paused = self._closing = False
        self._blocked: asyncio.Future[None] | None = None
        self.broken = self.ended = False
        self.transport = self
        self.driver, self.loop, self.server = stream.driver, stream.loop, stream.server
        self.host, self.counted, self.began = stream.host, "", stream.began

    # What the stream calls.

    def feed(self, data: bytes) -> bool:
        """Takes what has come.

        Returns:
            Whether it was read, so that more may come.
        """
        if self._websocket is None or self._paused:
            self._early.append(data)
            return False
        self._websocket.data_received(data)
        return not self._paused

    def end(self) -> None:
        """The client has ended its side."""
        self.ended = True
        if self._websocket is not None and not self._early:
            self._end()

    def _end(self) -> None:
        if self._websocket is not None and not self._websocket.eof_received():
            self.close()

    def lost(self) -> None:
        """The stream is over."""
        self._closing = self.broken = True
        self._early.clear()
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            # As a transport does: not within what somebody has asked of it.
            self.loop.call_soon(websocket.connection_lost, None)

    def drain(self) -> None:
        """A drain begins."""
        if self._websocket is not None:
            self._websocket.drain(0.0)

    def leave(self) -> None:
        """The drain is over: the client is told why, as far as its window goes."""
        if self._websocket is not None:
            self._websocket.leave()

    # What the handshake and the WebSocket ask of a connection.

    def hand_to(self, websocket: WebSocket) -> bytes:
        """Gives it to the WebSocket; see `LoopLeaver.hand_to`."""
        self._websocket = websocket
        early, self._early = b"".join(self._early), []
        self._stream.acknowledge()
        return early

    def over(self, _websocket: WebSocket) -> None:
        """The WebSocket is over; the connection is not."""

    def log_access(self, request: Request, kind: str, status: int, sent: int, began: float) -> None:
        """Writes the access log."""
        answer = answer_of(request, status, sent, time.monotonic() - began, *self._stream.far)
        self.server.access.write(answer._replace(version=b"HTTP/2"), kind, time.time())

    # What it asks of a transport.

    def write(self, data: bytes) -> None:
        """Sends as the windows allow, and keeps the rest."""
        if self._closing:
            return
        stream = self._stream
        stream.data(data)
        blocked = stream.blocked
        if blocked is not None and blocked is not self._blocked and self._websocket is not None:
            self._blocked = blocked
            self._websocket.pause_writing()
            blocked.add_done_callback(self._unblocked)

    def _unblocked(self, _blocked: asyncio.Future[None]) -> None:
        self._blocked = None
        if self._websocket is not None:
            self._websocket.resume_writing()

    def get_write_buffer_size(self) -> int:
        """How much waits for the client."""
        return self._stream.waiting

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        """Nothing: what there is to know is of the connection."""
        return default

    def is_closing(self) -> bool:
        """Whether nothing is sent any more."""
        return self._closing

    def can_write_eof(self) -> bool:
        """When we have ended our side nothing is read any more: the stream is over."""
        return False

    def pause_reading(self) -> None:
        """Has the client wait when its window is used up."""
        self._paused = True

    def resume_reading(self) -> None:
        """Reads again."""
        self._paused = False
        while self._early and not self._paused and self._websocket is not None:
            self._websocket.data_received(self._early.pop(0))
        if self._early or self._closing:
            return
        self._stream.acknowledge()
        if self.ended:
            self._end()

    def close(self) -> None:
        """Ends our side when all is sent, and with it the stream."""
        if not self._closing:
            self._closing = True
            self._stream.end()

    def abort(self) -> None:
        """Resets the stream."""
        self._closing = True
        self._stream.abandon(Code.CANCEL)
