"""A connection of HTTP/2 (RFC 9113), by the h2 library: frames in, streams out.

    LoopClient ─▶ (ALPN h2, or the preface) ─▶ Http2 ─▶ Stream ─▶ mount ─▶ exchange, or the lane

The library keeps the protocol; the driver keeps what it leaves open: how many control frames a client may send, how
long it may hold a window closed, and when it is idle. See `abuse` for the attacks.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    UnknownFrameReceived,
    WindowUpdated,
)
from h2.exceptions import FlowControlError, H2Error, StreamClosedError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from appd.http.client import DRAIN_LINGER
from appd.http.errors import Refused
from appd.http.loop.abuse import Bucket, Budget
from appd.http.loop.h2request import read_fields
from appd.http.loop.stream import Stream
from appd.http.loop.visit import Visit
from appd.http.peer import peer_text
from appd.journal import DEBUG

if TYPE_CHECKING:
    from appd.http.loop.leaver import LoopLeaver
    from appd.http.mounted import Mounted
    from appd.http.request import Request

__all__ = ["PREFACE", "Http2"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# nginx http2_max_concurrent_streams 128, Apache H2MaxSessionStreams 100, the least that RFC 9113, 6.5.2 recommends.
_STREAMS = 100
# nghttp2's stream_reset_rate_limit and glitch_rate_limit: 1000 at once and 33 a second; a reset costs a call here.
_RESETS = Budget(200, 33.0)
_CONTROLS = Budget(1000, 33.0)
# An update of a window by less is no help to anybody.
_SMALL_UPDATE = 256


class Http2(asyncio.Protocol):
    """One connection.

    Args:
        client: The connection as HTTP/1.1 had it, which is over with it.

    Attributes:
        client: That: who it is.
        counted: See `Server.lost`.
        host: See `Server.lost`.

    Resource handling: owns the transport.
    """

    __slots__ = (
        "_closing",
        "_controls",
        "_draining",
        "_h2",
        "_in_turn",
        "_last",
        "_resets",
        "_streams",
        "_transport_full",
        "client",
        "counted",
        "deadline",
        "host",
        "tick",
        "transport",
    )

    def __init__(self, client: LoopLeaver) -> None:
        self.client = client
        self.transport = client.transport
        self.host, self.counted = client.host, client.counted
        self.deadline, self.tick = 0.0, 0
        limits, now = client.server.limits, time.monotonic()
        self._streams: dict[int, Stream] = {}
        self._resets, self._controls = Bucket(_RESETS, now), Bucket(_CONTROLS, now)
        self._last = 0
        self._closing = self._draining = self._transport_full = self._in_turn = False
        config = H2Configuration(client_side=False, header_encoding=None, validate_outbound_headers=False)
        h2 = self._h2 = H2Connection(config)
        h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: _STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.header_size + limits.request_line,
            },
        )
        h2.decoder.max_header_list_size = limits.header_size + limits.request_line
        h2.initiate_connection()
        # The connection's window is opened as bytes come; each stream's as its application takes them.
        h2.increment_flow_control_window((1 << 20) - 65535)
        self._write()
        self._wait_idle()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._closing:
            return
        driver = self.client.driver
        if driver.sleeps:
            driver.wake()
        try:
            events = self._h2.receive_data(data)
        except H2Error as error:
            # h2 has made the GOAWAY that says why.
            self._tell(f"{type(error).__name__}: {error}")
            self._write()
            self._close()
            return
        self._in_turn = True
        try:
            for event in events:
                if not self._is_over():
                    self._take(event)
        except H2Error as error:
            self._fail(ErrorCodes.PROTOCOL_ERROR, f"{type(error).__name__}: {error}")
        finally:
            self._in_turn = False
        self._write()

    def _is_over(self) -> bool:
        return self._closing

    def eof_received(self) -> bool:
        """The client has ended its side, and with it the connection: RFC 9113 has no half of one."""
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        self._closing = True
        self.client.broken = True
        self.client.driver.alarm.deadlines.drop(self)
        streams, self._streams = list(self._streams.values()), {}
        for one in streams:
            one.lost()
        self.client.server.lost(self)

    def pause_writing(self) -> None:
        """The client takes less than is sent."""
        self._transport_full = True
        limits = self.client.server.limits
        self.client.driver.alarm.deadlines.put(self, time.monotonic() + limits.write_timeout)

    def resume_writing(self) -> None:
        """The client has taken what waited."""
        self._transport_full = False
        self._flush_all()
        if not self._streams:
            self._wait_idle()

    # What has come.

    def _take(self, event: Any) -> None:
        kind = type(event)
        if kind is RequestReceived:
            self._begin(event)
        elif kind is DataReceived:
            self._take_data(event)
        elif kind is StreamEnded or kind is TrailersReceived:
            stream = self._streams.get(event.stream_id)
            if stream is not None and kind is StreamEnded:
                stream.end_body()
        elif kind is WindowUpdated:
            if event.delta < _SMALL_UPDATE and not self._allow(self._controls, "windows opened byte by byte"):
                return
            self._flush(event.stream_id)
        elif kind is RemoteSettingsChanged:
            if self._allow(self._controls, "SETTINGS"):
                self._flush(0)
        elif kind is PingReceived or kind is PriorityUpdated or kind is UnknownFrameReceived:
            self._allow(self._controls, "PING, PRIORITY or unknown frames")
        elif kind is StreamReset:
            stream = self._streams.pop(event.stream_id, None)
            if self._allow(self._resets, "streams that are reset") and stream is not None:
                stream.lost()
                self._wait_if_idle()
        elif kind is ConnectionTerminated:
            # The library lets nothing out after it, what was asked for included.
            self._write()
            self._close()

    def _allow(self, bucket: Bucket, what: str) -> bool:
        if bucket.take(time.monotonic()):
            return True
        self._fail(ErrorCodes.ENHANCE_YOUR_CALM, f"too many {what}")
        return False

    def _begin(self, event: Any) -> None:
        number = event.stream_id
        self._last = max(self._last, number)
        if self._draining:
            with suppress(H2Error):
                self._h2.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            return
        limits = self.client.server.limits
        try:
            request = read_fields(event.headers, limits, ended=event.stream_ended is not None)
        except Refused as refused:
            self._refuse(number, refused)
            return
        self._streams[number] = stream = Stream(self, number, request)
        if len(self._streams) == 1 and not self._transport_full:
            self.client.driver.alarm.deadlines.drop(self)
        if self.client.forbidden:
            stream.refuse(Refused(403, "its certificate has none of the names (client-names)"))
            return
        stream.begin_request()

    def _refuse(self, number: int, refused: Refused) -> None:
        self._tell(str(refused))
        text = f"{refused.status}\n".encode()
        fields = [(":status", str(refused.status)), ("server", "appd"), ("content-length", str(len(text)))]
        with suppress(H2Error):
            self._h2.send_headers(number, fields)
            self._h2.send_data(number, text, end_stream=True)
            self._h2.reset_stream(number, ErrorCodes.NO_ERROR)

    def _take_data(self, event: Any) -> None:
        size = event.flow_controlled_length
        if not event.data and event.stream_ended is None and not self._allow(self._controls, "empty frames"):
            return
        if size:
            self._h2.increment_flow_control_window(size)
        stream = self._streams.get(event.stream_id)
        if stream is not None and not stream.broken:
            stream.feed(event.data, size)

    # What streams ask for.

    def visit(self, stream: Stream, request: Request, mounted: Mounted) -> None:
        """Has the lane answer."""
        visit = stream.exchange = Visit(stream, request, mounted)
        visit.begin()

    def open_window(self, number: int, size: int) -> None:
        """Lets a stream bring so many bytes more."""
        with suppress(H2Error):
            self._h2.increment_flow_control_window(size, number)
        self._write()

    def say_head(self, number: int, fields: list[tuple[str, str]], *, end: bool = False) -> None:
        """Sends a head, or trailers."""
        with suppress(StreamClosedError):
            self._h2.send_headers(number, fields, end_stream=end)
        self._write()

    def say_data(self, number: int, data: bytearray, *, end: bool) -> int:
        """Sends what may be sent of a body.

        Returns:
            How much that was.
        """
        h2, at, size = self._h2, 0, len(data)
        try:
            while at < size and not self._transport_full:
                most = min(h2.local_flow_control_window(number), h2.max_outbound_frame_size)
                if most <= 0:
                    break
                part = bytes(data[at : at + most])
                at += len(part)
                h2.send_data(number, part, end_stream=end and at == size)
                self._write(always=at % (1 << 18) < most)
        except (StreamClosedError, FlowControlError):
            pass
        self._write()
        return at

    def say_end(self, number: int) -> None:
        """Ends a response."""
        with suppress(StreamClosedError):
            self._h2.end_stream(number)
        self._write()

    def reset(self, number: int, code: ErrorCodes) -> None:
        """Resets a stream."""
        self._streams.pop(number, None)
        with suppress(H2Error):
            self._h2.reset_stream(number, code)
        self._write()
        self._wait_if_idle()

    def done_with(self, number: int, *, complete: bool) -> None:
        """A stream is over."""
        if not complete:
            # RFC 9113, 8.1: the rest of the body is not wanted.
            self.reset(number, ErrorCodes.NO_ERROR)
            return
        self._streams.pop(number, None)
        self._wait_if_idle()

    def _flush(self, number: int) -> None:
        if number:
            stream = self._streams.get(number)
            if stream is not None:
                stream.flush()
        else:
            self._flush_all()

    def _flush_all(self) -> None:
        for one in list(self._streams.values()):
            if self._transport_full:
                return
            one.flush()

    def _write(self, *, always: bool = False) -> None:
        """Gives the transport what there is; within a turn once, at its end."""
        if (self._in_turn and not always) or self.client.broken:
            return
        data = self._h2.data_to_send()
        if data:
            self.transport.write(data)

    # The end.

    def _tell(self, reason: str) -> None:
        peer = peer_text(self.client.host, self.client.port) or "a UNIX peer"
        log, name = self.client.server.log, self.client.server.name
        log.write(f"{peer} is refused: {reason}", DEBUG, LOGGER="appd.http", APPD_SERVER=name)

    def _fail(self, code: ErrorCodes, reason: str) -> None:
        """Ends the connection for what the client does."""
        self._tell(reason)
        self._in_turn = False
        with suppress(H2Error):
            self._h2.close_connection(code)
        self._write()
        self._close()

    def _close(self) -> None:
        if not self._closing:
            self._closing = True
            self.transport.close()
            limits = self.client.server.limits
            self.client.driver.alarm.deadlines.put(self, time.monotonic() + min(1.0, limits.write_timeout))

    def _wait_if_idle(self) -> None:
        if not self._streams and not self._closing:
            self._wait_idle()

    def _wait_idle(self) -> None:
        wait = DRAIN_LINGER if self._draining else self.client.server.limits.idle_timeout
        self.client.driver.alarm.deadlines.put(self, time.monotonic() + wait)

    def expired(self) -> None:
        """The deadline has passed."""
        if self._closing or self._transport_full:
            self.transport.abort()
        elif not self._streams:
            if not self._draining:
                self._say_goodbye()
            self._close()

    def _say_goodbye(self) -> None:
        """GOAWAY by hand: after the library's own it sends nothing any more, not even what is asked for already."""
        self._draining = True
        frame = GoAwayFrame(0, last_stream_id=self._last, error_code=ErrorCodes.NO_ERROR)
        self._write()
        if not self.client.broken:
            self.transport.write(frame.serialize())

    def drain(self, _ends: float) -> None:
        """A drain begins: no further stream is taken, those that are open are answered. Any thread may call."""
        self.client.driver.post(self._drain)

    def _drain(self) -> None:
        if not self._draining and not self._closing:
            self._say_goodbye()
            self._wait_if_idle()

    def abort(self) -> None:
        """Cuts the connection at once. Any thread may call."""
        self.client.driver.post(self.transport.abort)
