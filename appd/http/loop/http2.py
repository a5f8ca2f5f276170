"""A connection of HTTP/2 on the loop: events of `h2.connection` become streams, what those say goes to the transport.

    LoopClient ─▶ (ALPN h2, or the preface) ─▶ Http2 ─▶ Stream ─▶ mount ─▶ exchange, or the lane

The protocol is `appd.http.h2`'s; here is what takes time or costs something: deadlines, how many frames that cost a
client nothing it may send (`abuse`), and when the transport is written to. What is said within a turn of the loop goes
out at once, at its end.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appd.http.core.errors import Refused
from appd.http.core.response import prepare
from appd.http.h2.codes import Code
from appd.http.h2.encoding import encode_head
from appd.http.h2.events import Event, Kind
from appd.http.h2.requests import read_request
from appd.http.loop.abuse import Bucket, Budget
from appd.http.loop.http2leaver import HELD, Http2Leaver
from appd.http.loop.stream import Stream
from appd.http.loop.visit import Visit

if TYPE_CHECKING:
    from appd.http.core.request import Request
    from appd.http.h2.blocks import Head
    from appd.http.lane.mounted import Mounted
    from appd.http.loop.leaver import LoopLeaver


__all__ = ["Http2"]

# nghttp2's stream_reset_rate_limit and glitch_rate_limit: 1000 at once and 33 a second; a reset costs a call here.
_RESETS = Budget(200, 33.0)
_CONTROLS = Budget(1000, 33.0)
# An update of a window by less is no help to anybody.
_SMALL_UPDATE = 256
_REQUEST = int(Kind.REQUEST)
_BARE = prepare(())


class Http2(Http2Leaver):
    """One connection.

    Args:
        client: The connection as HTTP/1.1 had it, which is over with it.

    Resource handling: owns the transport.
    """

    __slots__ = ("_controls", "_resets")

    def __init__(self, client: LoopLeaver) -> None:
        super().__init__(client)
        now = time.monotonic()
        self._resets, self._controls = Bucket(_RESETS, now), Bucket(_CONTROLS, now)
        self._begin_turn()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._closing:
            return
        self._unheard = 0
        client, core = self.client, self.core
        if client.driver.sleeps:
            client.driver.wake()
        events = core.receive(data)
        self._begin_turn()
        for event in events:
            if event[0] == _REQUEST:
                self._begin(event[1], event[2], event[3])
            else:
                self._take(event)
            if self._is_over():
                return
        if core.partial or self._rest_until:
            self._watch_rest()

    def eof_received(self) -> bool:
        """The client has ended its side, and with it the connection: RFC 9113 has no half of one."""
        self._abandon()
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        self._abandon()
        self.client.driver.alarm.deadlines.drop(self)
        self.client.server.lost(self)

    def pause_writing(self) -> None:
        """The client takes less than is sent."""
        self.is_full = True
        # Looked at again when the socket has taken what it takes at once.
        self.client.loop.call_soon(self._note_size)
        self._arm(time.monotonic() + self.client.server.limits.write_timeout)

    def _note_size(self) -> None:
        self._stuck = self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """The client has taken what waited."""
        self.is_full = False
        if self._closing:
            return
        self._flush_all()
        self._begin_turn()
        if self._rest_until:
            self._arm(self._rest_until)

    # What has come.

    def _take(self, event: Event) -> None:
        kind, number, what, more = event
        stream = self._streams.get(number)
        if kind == Kind.DATA:
            self._take_data(stream, event)
        elif kind == Kind.END:
            if stream is not None:
                stream.end_body(what.fields if what is not None else ())
        elif kind == Kind.OPENED:
            free = what >= _SMALL_UPDATE or self._is_tunnelling(stream)
            if free or self._allow(self._controls, "windows opened byte by byte"):
                self._flush(stream, number)
        elif kind == Kind.SETTINGS:
            if self._allow(self._controls, "SETTINGS"):
                self._flush_all()
        elif kind == Kind.CONTROL:
            self._allow(self._controls, f"frames that do nothing, the last: {what}")
        elif kind == Kind.RESET or kind == Kind.CLOSED:
            if kind == Kind.CLOSED:
                self._tell(f"{more} (stream {number}: {what.name})")
            self._streams.pop(number, None)
            if stream is not None:
                stream.lost()
            self._allow(self._resets, "streams that are reset")
        elif kind == Kind.LEAVES:
            # What was asked for before is answered.
            self._leaves = True
        else:
            self._fail(what, more)

    def _is_tunnelling(self, stream: Stream | None) -> bool:
        """Whether small messages are sent, of which each may open the windows by its size, and none waits."""
        return bool(self._tunnels()) and (stream is None or not stream.waiting)

    def _allow(self, bucket: Bucket, what: str) -> bool:
        if bucket.take(time.monotonic()):
            return True
        self._fail(Code.ENHANCE_YOUR_CALM, f"too many {what}")
        return False

    def _begin(self, number: int, head: Head, ended: bool) -> None:
        if self._draining:
            self.core.reset(number, Code.REFUSED_STREAM)
            return
        self._asked = True
        client = self.client
        try:
            request = read_request(head, client.server.limits, ended=ended)
        except Refused as refused:
            self._refuse(number, head, refused)
            return
        protocol = head.protocol.decode("latin-1") if head.protocol else ""
        stream = self._streams[number] = Stream(self, number, request, protocol)
        if client.forbidden:
            stream.refuse(Refused(403, "its certificate has none of the names (client-names)"))
            return
        stream.begin_request()

    def _refuse(self, number: int, head: Head, refused: Refused) -> None:
        """Answers what is no request for anybody."""
        self._tell(str(refused))
        core, text = self.core, b"%d\n" % refused.status
        about = self.client.server.origin.fields()
        block = encode_head(refused.status, _BARE, about, len(text))
        if (b":method", b"HEAD") in head.fields or not core.send_whole(number, block, text):
            core.send_head(number, encode_head(refused.status, _BARE, about, None), end=True)
        # RFC 9113, 8.1: the rest, if there is one, is not wanted.
        core.reset(number, Code.NO_ERROR)

    def _take_data(self, stream: Stream | None, event: Event) -> None:
        _kind, _number, data, size = event
        if not data and not self._allow(self._controls, "empty frames"):
            return
        if stream is not None and not stream.broken:
            stream.feed(data, size)

    # What streams ask for.

    def visit(self, stream: Stream, request: Request, mounted: Mounted) -> None:
        """Has the lane answer."""
        visit = stream.exchange = Visit(stream, request, mounted)
        visit.begin()

    def open_window(self, number: int, size: int) -> None:
        """Lets a stream bring so many bytes more."""
        self.core.give_back(number, size)
        self._write()

    def say_whole(self, number: int, block: bytes, body: bytes) -> bool:
        """Sends a response in one go, if the windows let it.

        Returns:
            Whether they did; else nothing has happened.
        """
        if self.is_full or not self.core.send_whole(number, block, body):
            return False
        self._write()
        return True

    def say_head(self, number: int, block: bytes, *, end: bool = False) -> None:
        """Sends a head, or trailers."""
        self.core.send_head(number, block, end=end)
        self._write()

    def say_data(self, number: int, parts: list[memoryview], size: int, *, end: bool) -> int:
        """Sends what may be sent of a body.

        Args:
            number: Whose.
            parts: The body, as far as it is there; what is sent of it is taken out.
            size: How many bytes that are.
            end: Whether nothing follows them.

        Returns:
            How much was sent.
        """
        core, sent = self.core, 0
        while parts and not self.is_full:
            # No more at once than the transport is given at once.
            room = min(core.room(number), HELD)
            if room <= 0:
                break
            part = parts[0]
            if len(part) > room:
                part, parts[0] = part[:room], part[room:]
            else:
                del parts[0]
            sent += len(part)
            core.send_data(number, part, end=end and sent == size)
            self._write()
        return sent

    def say_end(self, number: int) -> None:
        """Ends a response."""
        self.core.send_data(number, b"", end=True)
        self._write()

    def reset(self, number: int, code: Code) -> None:
        """Resets a stream."""
        self._streams.pop(number, None)
        self.core.reset(number, code)
        self._write()

    def done_with(self, number: int, *, complete: bool) -> None:
        """A stream is over."""
        if not complete:
            # RFC 9113, 8.1: the rest of the body is not wanted.
            self.reset(number, Code.NO_ERROR)
            return
        self._streams.pop(number, None)

    def _flush(self, stream: Stream | None, number: int) -> None:
        if not number:
            self._flush_all()
        elif stream is not None:
            stream.flush()

    def _flush_all(self) -> None:
        for one in list(self._streams.values()):
            if self.is_full:
                return
            one.flush()
