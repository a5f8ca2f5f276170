"""Compared with the h2 library: as the judge of what a client sends, and as the client."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import h2.events as e
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from support.h2_view import by_us, differ
from support.http2 import connection, frame, greeting, literal

from appd.http.h2.encoding import encode_fields
from appd.http.h2.events import Kind

STREAMS = st.sampled_from([0, 1, 1, 1, 3, 3, 5, 2, 7])
NUMBERS = st.sampled_from([0, 1, 8, 100, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1])
BLOCKS = st.lists(
    st.sampled_from(
        [
            *(b"\x82\x86\x84\x01\x01a",) * 6,
            *(b"\x83\x86\x84\x41\x01a",) * 4,
            b"\x82\x86\x84",
            b"\xbe",
            b"\x40\x01x\x01y",
            b"\x3f\xe1\x1f",
            b"\x20",
            b"\x00\x01x\x02 y",
            b"\x00\x01X\x01y",
            b"\x0f\x0d\x013",
            b"\x0f\x0d\x010",
            literal("te", "trailers"),
            literal("connection", "close"),
            literal("host", "a"),
            literal(":status", "200"),
        ]
    ),
    min_size=1,
    max_size=3,
).map(b"".join)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A frame that is good more often than not."""
    kind = draw(st.sampled_from([0, 0, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 0x16]))
    stream = draw(STREAMS)
    flags = draw(st.sampled_from([0, 1, 4, 4, 5, 5, 5, 8, 0xD, 0x20, 0x25, 0x2D]))
    if kind in (1, 5, 9):
        data = draw(BLOCKS)
        if flags & 0x20:
            data = draw(NUMBERS).to_bytes(4, "big") + b"\x10" + data
        if flags & 8:
            data = b"\x02" + data + bytes(2)
    elif kind == 0:
        data = bytes(draw(st.sampled_from([0, 1, 3, 3, 100, 16384])))
    elif kind == 2:
        data = draw(NUMBERS).to_bytes(4, "big") + b"\x10"
    elif kind in (3, 8):
        data = draw(NUMBERS).to_bytes(4, "big")
    elif kind == 4:
        each = st.tuples(st.sampled_from([1, 2, 3, 4, 5, 6, 8, 99]), NUMBERS)
        data = b"".join(
            key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in draw(st.lists(each, max_size=2))
        )
        stream = draw(st.sampled_from([0, 0, 0, 0, 1]))
    elif kind == 6:
        data, stream = bytes(8), draw(st.sampled_from([0, 0, 0, 1]))
    elif kind == 7:
        data, stream = bytes(8), 0
    else:
        data = bytes(4)
    return frame(kind, flags, stream, data)


@st.composite
def talks(draw: st.DrawFn) -> bytes:
    """What a client may send, with a byte that is another one, or one too few, now and then."""
    data = bytearray(greeting() + b"".join(draw(st.lists(frames(), max_size=8))))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data) - 1))
        if draw(st.booleans()):
            data[at] = draw(st.integers(0, 255))
        else:
            del data[at]
    return bytes(data)


@settings(max_examples=400)
@given(talks())
def test_what_a_client_sends(data):
    """We take nothing that h2 refuses, but for what is listed; and understand the same."""
    assert differ(data) is None


@settings(max_examples=200)
@given(talks(), st.lists(st.integers(0, 400), max_size=6))
def test_cuts(data, cuts):
    """However it arrives, it means the same."""
    edges = sorted({one % (len(data) + 1) for one in cuts} | {0, len(data)})
    assert by_us([data[start:end] for start, end in pairwise(edges)]) == by_us([data])


NAMES = st.sampled_from(["x-a", "x-b", "accept", "user-agent", "authorization", "referer"])
VALUES = st.text(alphabet=[chr(one) for one in range(33, 127)], max_size=30)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
BODIES = st.one_of(st.just(0), st.integers(0, 40), st.integers(0, 100_000))
EXCHANGES = st.lists(
    st.tuples(st.sampled_from(["/", "/a", "/b?c"]), FIELDS, BODIES, FIELDS, BODIES, st.booleans()),
    min_size=1,
    max_size=6,
)


class Server:
    """Answers each request when its end has come, with what was planned for its stream."""

    def __init__(self, answers: dict[int, tuple[list[tuple[str, str]], int, bool]]) -> None:
        self.core = connection()
        self.answers = answers
        self.requests: dict[int, Any] = {}
        self.bodies: dict[int, int] = {}
        self.ended: dict[int, Any] = {}
        self.left: dict[int, int] = {}

    def receive(self, data: bytes) -> None:
        for kind, stream, what, more in self.core.receive(data):
            if kind == Kind.REQUEST:
                self.requests[stream] = what.fields
                self.bodies[stream] = 0
                if more:
                    self.answer(stream, ())
            elif kind == Kind.DATA:
                self.bodies[stream] += len(what)
                self.core.give_back(stream, more)
            elif kind == Kind.END:
                self.answer(stream, what.fields if what is not None else ())
            else:
                assert kind in (Kind.OPENED, Kind.SETTINGS), (kind, what, more)
        for stream in list(self.left):
            self.go_on(stream)

    def answer(self, stream: int, trailers: Any) -> None:
        self.ended[stream] = trailers
        fields, size, _trailers = self.answers[stream]
        block = encode_fields([(":status", "200"), *fields])
        if _trailers or not self.core.send_whole(stream, block, b"b" * size):
            self.core.send_head(stream, block)
            self.left[stream] = size
            self.go_on(stream)

    def go_on(self, stream: int) -> None:
        left, trailers = self.left[stream], self.answers[stream][2]
        while left and (room := self.core.room(stream)) > 0:
            part = min(room, left)
            left -= part
            self.core.send_data(stream, b"b" * part, end=not left and not trailers)
        if not left:
            del self.left[stream]
            if trailers:
                self.core.send_head(stream, encode_fields([("x-sum", "1")]), end=True)
            elif not self.answers[stream][1]:
                self.core.send_data(stream, b"", end=True)
        else:
            self.left[stream] = left


@settings(max_examples=60, deadline=None)
@given(EXCHANGES, st.sampled_from([1000, 16384, 65535, 1 << 20]), st.integers(1, 5000), st.booleans())
def test_exchanges(exchanges, window, cut, table):
    """Requests and answers of any size, in windows of any size, cut anywhere: both sides get what the other has sent."""
    client = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
    client.initiate_connection()
    client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
    if table:
        client.update_settings({SettingCodes.HEADER_TABLE_SIZE: 100})
    server = Server({2 * at + 1: one[3:] for at, one in enumerate(exchanges)})
    left: dict[int, int] = {}
    asked: dict[int, Any] = {}
    for path, fields, size, *_rest in exchanges:
        stream = client.get_next_available_stream_id()
        pseudo = [(":method", "POST" if size else "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)]
        asked[stream] = tuple((one.encode(), two.encode()) for one, two in [*pseudo, *fields])
        client.send_headers(stream, [*pseudo, *fields], end_stream=not size)
        if size:
            left[stream] = size
    got: dict[int, Any] = {}
    bodies: dict[int, int] = dict.fromkeys(asked, 0)
    done: set[int] = set()
    trailers: set[int] = set()
    for _turn in range(1000):
        for stream, size in list(left.items()):
            part = min(size, client.local_flow_control_window(stream), client.max_outbound_frame_size)
            if part > 0:
                client.send_data(stream, b"a" * part, end_stream=part == size, pad_length=None if part % 3 else 0)
                left[stream] = size - part
                if part == size:
                    del left[stream]
        data = client.data_to_send()
        step = max(cut, len(data) // 500)
        for at in range(0, len(data), step):
            server.receive(data[at : at + step])
        data = server.core.take_out()
        if not data and not client.data_to_send(0) and len(done) == len(asked):
            break
        for event in client.receive_data(data):
            if isinstance(event, e.ResponseReceived):
                got[event.stream_id] = [(one, two) for one, two in event.headers]
            elif isinstance(event, e.DataReceived):
                bodies[event.stream_id] += len(event.data)
                client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, e.TrailersReceived):
                trailers.add(event.stream_id)
            elif isinstance(event, e.StreamEnded):
                done.add(event.stream_id)
    assert server.requests == asked
    assert done == set(asked)
    for number, (_path, _fields, size, fields, answer, tail) in enumerate(exchanges):
        stream = 2 * number + 1
        assert server.bodies[stream] == size
        assert got[stream] == [(":status", "200"), *fields]
        assert bodies[stream] == answer
        assert (stream in trailers) == tail
    assert not server.core.flows
