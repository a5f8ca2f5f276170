"""The half of a connection that receives: bytes → frames → events. RFC 9113.

What is most common, a HEADERS frame that begins and ends a request and is known already, is looked at in the loop; all
else goes by the type of the frame to a method. A frame is looked at when all of it is there.
"""

from __future__ import annotations

from appd.http.h2 import frames
from appd.http.h2.blocks import Blocks, Head
from appd.http.h2.codes import Code, Flag, Frame, Setting
from appd.http.h2.events import Event, Kind
from appd.http.h2.faults import ConnectionFault, StreamFault
from appd.http.h2.fields import check_request, check_trailers, content_length
from appd.http.h2.flow import Flow
from appd.http.h2.settings import LARGEST_WINDOW, read_settings
from appd.http.h2.states import Input, State
from appd.http.h2.streams import LARGEST_FRAME, Streams

__all__ = ["PREFACE", "Receiver"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client begins with: RFC 9113, 3.4."""

CONNECTION_WINDOW = 1 << 20
"""How much may come on all streams together."""

# nghttp2 takes 8 CONTINUATION frames, h2 64.
_MOST_PIECES = 64
# Of a head that is whole, and the end: no padding, no priority.
_LOOKED_AT, _SIMPLE = 0x2D, 0x05
# Constants as numbers: an attribute of an enumeration costs more than all else here.
_HEADERS, _CONTINUATION = int(Frame.HEADERS), int(Frame.CONTINUATION)
_REQUEST = int(Kind.REQUEST)


class Receiver(Streams):
    """See above, and `Streams`.

    Args:
        streams: How many may be open at one time.
        most: The largest field list that is taken, in bytes as RFC 9113, 6.5.2 counts them.
        tunnels: Whether CONNECT may name a protocol (RFC 8441).

    Attributes:
        partial: Which frame, or head of several frames, has begun and is not complete: a number that is another one for
            the next; 0 for none.
    """

    __slots__ = (
        "_block",
        "_blocks",
        "_credit",
        "_failed",
        "_greeted",
        "_most_block",
        "_rest",
        "_table_size",
        "_tunnels",
        "_unit",
        "partial",
    )

    def __init__(self, streams: int, most: int, *, tunnels: bool = False) -> None:
        super().__init__(streams)
        self._tunnels = tunnels
        self._blocks = Blocks(most)
        # Compressed it is smaller, or at least not much larger.
        self._most_block = 2 * most
        self._credit = CONNECTION_WINDOW
        self._table_size = 4096
        self._failed = False
        # 0: the preface is not there yet; 1: the first SETTINGS are not; 2: both are.
        self._greeted = 0
        self._rest = b""
        # A head that is not complete: its stream, flags, and pieces.
        self._block: tuple[int, int, list[bytes]] | None = None
        self._unit = self.partial = 1

    def _waiting(self) -> tuple[int, int]:
        """Of a frame of DATA that has begun: its stream, and how many bytes it has; (0, 0) for none."""
        rest = self._rest
        if len(rest) < frames.HEAD_SIZE or rest[3] != Frame.DATA:
            return 0, 0
        high, low, _kind, _flags, stream = frames.HEAD.unpack_from(rest)
        return stream & 0x7FFFFFFF, high << 16 | low

    @property
    def missing(self) -> int:
        """How many bytes of a body are to come before the frame that has begun is complete."""
        size = self._waiting()[1]
        return size + frames.HEAD_SIZE - len(self._rest) if size else 0

    def arrived(self, stream: int) -> int:
        """How many bytes of a body are here that no event has told of yet, as their frame is not complete."""
        return len(self._rest) - frames.HEAD_SIZE if self._waiting()[0] == stream else 0

    def receive(self, data: bytes) -> list[Event]:
        """Takes what has come.

        Args:
            data: That.

        Returns:
            What it means. After a `Kind.FAULT`, which is the last one, nothing is taken any more.
        """
        events: list[Event] = []
        if self._failed:
            return events
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, block = 0, self._block
        try:
            if self._greeted != 2:
                at = self._greet(data)
            at = self._read(data, at, events)
        except ConnectionFault as fault:
            self._failed = True
            events.append((Kind.FAULT, 0, fault.code, fault.reason))
            return events
        if at < len(data):
            self._rest = data[at:]
        if at and (self._block is None or self._block is not block):
            self._unit += 1
        self.partial = self._unit if self._rest or self._block is not None else 0
        return events

    def _greet(self, data: bytes) -> int:
        """Looks at the preface. Returns where the first frame begins."""
        if self._greeted:
            return 0
        if not data.startswith(PREFACE[: len(data)]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the preface of HTTP/2 is missing")
        if len(data) < len(PREFACE):
            return 0
        self._greeted = 1
        return len(PREFACE)

    def _read(self, data: bytes, at: int, events: list[Event]) -> int:
        """Reads the frames that are complete. Returns where the next one begins."""
        if not self._greeted:
            return 0
        end, unpack = len(data), frames.HEAD.unpack_from
        known, add = self._blocks.known, events.append
        while end - at >= 9:
            high, low, kind, flags, stream = unpack(data, at)
            size = high << 16 | low
            start = at + 9
            if size > LARGEST_FRAME:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {size} bytes, more than {LARGEST_FRAME}")
            if end - start < size:
                break
            at = start + size
            # RFC 9113, 4.1: the first bit is nobody's.
            stream &= 0x7FFFFFFF
            if kind == _HEADERS and flags & _LOOKED_AT == _SIMPLE and stream == self.last + 2 and self._block is None:
                head = known.get(data[start:at])
                if head is not None and head.good and len(self.flows) < self._streams:
                    self.last = stream
                    flow = self.flows[stream] = Flow(self._first_window)
                    flow.state = State.REMOTE
                    add((_REQUEST, stream, head, True))
                    continue
            self._take(kind, flags, stream, data[start:at], events)
        return at

    def _take(self, kind: int, flags: int, stream: int, data: bytes, events: list[Event]) -> None:
        """Takes a frame."""
        if self._greeted == 1:
            if kind != Frame.SETTINGS or flags & Flag.ACK:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._greeted = 2
        if self._block is not None and (kind != _CONTINUATION or stream != self._block[0]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "another frame within a head")
        take = _TAKES.get(kind)
        if take is None:
            # RFC 9113, 5.5.
            events.append((Kind.CONTROL, stream, "frames of an unknown type", None))
            return
        try:
            take(self, flags, stream, data, events)
        except StreamFault as fault:
            self._end_stream(stream, fault, events)

    # Frames by their types: flags, stream, what it carries, events.

    def _data(self, flags: int, stream: int, data: bytes, events: list[Event]) -> None:
        flow_size = len(data)
        # RFC 9113, 5.1: it counts for the connection, whatever becomes of it.
        self._credit -= flow_size
        if self._credit < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more than the window of the connection")
        if self._credit < CONNECTION_WINDOW // 2:
            self.say(frames.window_update(0, CONNECTION_WINDOW - self._credit))
            self._credit = CONNECTION_WINDOW
        if not stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA for no stream")
        if flags & Flag.PADDED:
            data = _unpadded(data)
        if not self._arrives(Frame.DATA, stream, events):
            return
        flow = self.flows[stream]
        flow.credit -= flow_size
        if flow.credit < 0:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "more than the window of the stream")
        ended = bool(flags & Flag.END_STREAM)
        flow.count(len(data), ended=ended)
        if data or not ended:
            events.append((Kind.DATA, stream, data, flow_size))
        if ended:
            self._ended(stream, flow, None, events)

    def _ended(self, stream: int, flow: Flow, trailers: Head | None, events: list[Event]) -> None:
        if flow.move(Input.CLIENT_ENDS) is State.ENDED:
            del self.flows[stream]
        events.append((Kind.END, stream, trailers, None))

    def _headers(self, flags: int, stream: int, data: bytes, events: list[Event]) -> None:
        if not stream & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS for no stream, or for one with an even number")
        if flags & Flag.PADDED:
            data = _unpadded(data)
        if flags & Flag.PRIORITY:
            # RFC 9113, 5.3.2: nobody looks at it.
            if len(data) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            data = data[5:]
        if flags & Flag.END_HEADERS:
            self._head(flags, stream, data, events)
        else:
            self._block = (stream, flags, [data])

    def _continuation(self, flags: int, stream: int, data: bytes, events: list[Event]) -> None:
        if self._block is None:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _stream, first, pieces = self._block
        pieces.append(data)
        if len(pieces) > _MOST_PIECES or sum(map(len, pieces)) > self._most_block:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a head without an end")
        if flags & Flag.END_HEADERS:
            self._block = None
            self._head(first, stream, b"".join(pieces), events)

    def _head(self, flags: int, stream: int, block: bytes, events: list[Event]) -> None:
        """Takes a head that is complete. It is decoded, whatever becomes of it: the table has to go along."""
        head = self._blocks.read(block)
        if not self._arrives(Frame.HEADERS, stream, events):
            return
        ended = bool(flags & Flag.END_STREAM)
        flow = self.flows.get(stream)
        if flow is not None:
            if not ended:
                raise StreamFault(Code.PROTOCOL_ERROR, "a second head that does not end the stream")
            check_trailers(head.fields)
            flow.count(0, ended=True)
            self._ended(stream, flow, head, events)
            return
        flow = self._begin(stream)
        if not head.checked:
            head.protocol = check_request(head.fields, tunnels=self._tunnels)
            head.length = content_length(head.fields)
            if head.protocol and head.length >= 0:
                # RFC 9110, 9.3.6: it has no content.
                raise StreamFault(Code.PROTOCOL_ERROR, "CONNECT with a Content-Length")
            head.checked = True
        flow.left = head.length
        if ended:
            flow.count(0, ended=True)
            flow.state = State.REMOTE
            head.good = True
        events.append((Kind.REQUEST, stream, head, ended))

    def _priority(self, _flags: int, stream: int, data: bytes, events: list[Event]) -> None:
        if not stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY for no stream")
        if len(data) != 5:
            fault = ConnectionFault if stream not in self.flows else StreamFault
            raise fault(Code.FRAME_SIZE_ERROR, "PRIORITY of a size other than 5")
        events.append((Kind.CONTROL, stream, "PRIORITY", None))

    def _rst_stream(self, _flags: int, stream: int, data: bytes, events: list[Event]) -> None:
        if len(data) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM of a size other than 4")
        if self._arrives(Frame.RST_STREAM, stream, events):
            del self.flows[stream]
            self.remember(stream, State.RESET_THERE)
            events.append((Kind.RESET, stream, int.from_bytes(data, "big"), None))

    def _settings(self, flags: int, stream: int, data: bytes, events: list[Event]) -> None:
        if stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS for a stream")
        if flags & Flag.ACK:
            if data:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS that carries something")
            events.append((Kind.SETTINGS, 0, None, None))
            return
        for key, value in read_settings(data):
            if key == Setting.INITIAL_WINDOW_SIZE:
                self._shift_windows(value - self._first_window)
                self._first_window = value
            elif key == Setting.MAX_FRAME_SIZE:
                self.largest = value
            elif key == Setting.HEADER_TABLE_SIZE:
                # RFC 9113, 4.3.1: the next block has to say that we know.
                self._shrunk = self._shrunk or value < self._table_size
                self._table_size = value
        self.say(frames.settings(acknowledges=True))
        events.append((Kind.SETTINGS, 0, None, None))

    def _push_promise(self, _flags: int, _stream: int, _data: bytes, _events: list[Event]) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _ping(self, flags: int, stream: int, data: bytes, events: list[Event]) -> None:
        if stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING for a stream")
        if len(data) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING of a size other than 8")
        if not flags & Flag.ACK:
            self.say(frames.ping_answer(data))
        events.append((Kind.CONTROL, 0, "PING", None))

    def _goaway(self, _flags: int, stream: int, data: bytes, events: list[Event]) -> None:
        if stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY for a stream")
        if len(data) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "GOAWAY of less than 8 bytes")
        events.append((Kind.LEAVES, 0, int.from_bytes(data[4:8], "big"), None))

    def _window_update(self, _flags: int, stream: int, data: bytes, events: list[Event]) -> None:
        if len(data) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a size other than 4")
        by = int.from_bytes(data, "big") & 0x7FFFFFFF
        if not by:
            fault = StreamFault if stream in self.flows else ConnectionFault
            raise fault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        if not stream:
            self.window += by
            if self.window > LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window of the connection beyond 2^31-1")
        elif self._arrives(Frame.WINDOW_UPDATE, stream, events):
            flow = self.flows[stream]
            flow.window += by
            if flow.window > LARGEST_WINDOW:
                raise StreamFault(Code.FLOW_CONTROL_ERROR, "a window of a stream beyond 2^31-1")
        events.append((Kind.OPENED, stream, by, None))


def _unpadded(data: bytes) -> bytes:
    """RFC 9113, 6.1."""
    if not data:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    if data[0] >= len(data):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "as much padding as the frame is long, or more")
    return data[1 : len(data) - data[0]]


_TAKES = {
    int(Frame.DATA): Receiver._data,
    int(Frame.HEADERS): Receiver._headers,
    int(Frame.PRIORITY): Receiver._priority,
    int(Frame.RST_STREAM): Receiver._rst_stream,
    int(Frame.SETTINGS): Receiver._settings,
    int(Frame.PUSH_PROMISE): Receiver._push_promise,
    int(Frame.PING): Receiver._ping,
    int(Frame.GOAWAY): Receiver._goaway,
    int(Frame.WINDOW_UPDATE): Receiver._window_update,
    int(Frame.CONTINUATION): Receiver._continuation,
}
