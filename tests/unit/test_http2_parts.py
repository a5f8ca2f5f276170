"""The parts of HTTP/2 by themselves: the table of states, field blocks in and out, windows."""

from __future__ import annotations

import logging

import pytest
from hpack import Decoder, Encoder
from support.http2 import LIMITS, connection, frame, frames_in, greeting, literal

from appd.http.core.response import prepare
from appd.http.h2.blocks import Blocks
from appd.http.h2.codes import Code, Frame, Setting
from appd.http.h2.connection import Connection
from appd.http.h2.encoding import encode_fields, encode_head
from appd.http.h2.events import Kind
from appd.http.h2.faults import ConnectionFault
from appd.http.h2.flow import Flow
from appd.http.h2.requests import read_request
from appd.http.h2.states import ARRIVES, NEXT, Input, State, Verdict

GET, POST = b"\x82\x86\x84\x01\x01a", b"\x83\x86\x84\x01\x01a"


def begun(*frames: bytes) -> Connection:
    """A connection that was greeted and has had these."""
    core = connection()
    core.receive(greeting() + b"".join(frames))
    core.take_out()
    return core


def test_the_table_of_states() -> None:
    """Each state says what becomes of each frame of a stream; nothing leads out of those that are an end."""
    assert set(ARRIVES) == set(State)
    for verdicts in ARRIVES.values():
        assert set(verdicts) == {Frame.DATA, Frame.HEADERS, Frame.PRIORITY, Frame.RST_STREAM, Frame.WINDOW_UPDATE}
        # RFC 9113, 6.3: in any state.
        assert verdicts[Frame.PRIORITY] is Verdict.IGNORE
    ends = set(State) - {state for state, _input in NEXT}
    assert ends == {State.ENDED, State.RESET_HERE, State.RESET_THERE, State.SKIPPED}
    assert all(ARRIVES[state][Frame.DATA] is Verdict.TAKE for state in (State.OPEN, State.LOCAL))


def test_a_way_that_there_is_not() -> None:
    """To end a stream twice is our fault, and no silence."""
    flow = Flow(10)
    assert flow.move(Input.WE_END) is State.LOCAL
    with pytest.raises(KeyError):
        flow.move(Input.WE_END)


# Field blocks.


def test_a_block_that_came_before() -> None:
    """It gives the same head, until the table changes."""
    encoder, blocks = Encoder(), Blocks(10_000)
    first = blocks.read(encoder.encode([("x-a", "1"), ("x-b", "2")]))
    again = encoder.encode([("x-a", "1"), ("x-b", "2")])
    known = blocks.read(again)
    assert blocks.read(again) is known
    assert known is not first
    assert known.fields == ((b"x-a", b"1"), (b"x-b", b"2"))
    # The same bytes name others behind this.
    blocks.read(encoder.encode([("x-c", "3")]))
    other = blocks.read(again)
    assert other.fields == ((b"x-b", b"2"), (b"x-c", b"3"))


def test_a_table_that_is_emptied_between() -> None:
    """A change of its size is a change of the table, too."""
    blocks = Blocks(10_000)
    blocks.read(b"\x40\x01a\x01b")
    assert blocks.read(b"\xbe").fields == ((b"a", b"b"),)
    blocks.read(b"\x20\x82")
    with pytest.raises(ConnectionFault) as caught:
        blocks.read(b"\xbe")
    assert caught.value.code is Code.COMPRESSION_ERROR


def test_a_table_that_is_emptied_within_a_block() -> None:
    """A size of 0 and the old one again: what a block named before is gone (RFC 7541, 4.3)."""
    blocks = Blocks(10_000)
    blocks.read(b"\x40\x03x-a\x011")
    named = b"\xbe"
    assert blocks.read(named).fields == ((b"x-a", b"1"),)
    assert blocks.read(named) is blocks.read(named)
    emptied = b"\x20\x3f\xe1\x1f\x82"
    assert blocks.read(emptied).fields == ((b":method", b"GET"),)
    assert emptied not in blocks.known
    with pytest.raises(ConnectionFault) as caught:
        blocks.read(named)
    assert caught.value.code is Code.COMPRESSION_ERROR


def test_fields_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """hpack would write all of them down at DEBUG, passwords and cookies too."""
    block = Encoder().encode([("authorization", "Basic c2VjcmV0"), ("x-a", "1")])
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    logging.getLogger(__name__).debug("so it is on")
    fields = Blocks(10_000).read(block).fields
    assert fields[0] == (b"authorization", b"Basic c2VjcmV0")
    assert "so it is on" in caplog.text
    assert "c2VjcmV0" not in caplog.text


def test_heads_of_responses() -> None:
    """hpack reads them in any order and on any connection, and its table stays empty."""
    decoder = Decoder()
    prepared = prepare([("Content-Type", "text/html"), ("Set-Cookie", "id=1; Secure"), ("X", "\xfc")])
    for _ in range(2):
        found = decoder.decode(encode_head(404, prepared, "Server: appd\r\n", 12), raw=True)
        assert [(bytes(one[0]), bytes(one[1])) for one in found] == [
            (b":status", b"404"),
            (b"content-type", b"text/html"),
            (b"set-cookie", b"id=1; Secure"),
            (b"x", b"\xfc"),
            (b"server", b"appd"),
            (b"content-length", b"12"),
        ]
    assert not decoder.header_table.dynamic_entries
    # RFC 7541, 7.1.3: nobody in between may keep it.
    assert type(found[2]).__name__ == "NeverIndexedHeaderTuple"


@pytest.mark.parametrize("size", [0, 1, 14, 15, 126, 127, 128, 254, 255, 300, 20000])
def test_lengths_of_strings(size: int) -> None:
    """Of every number of bytes that their lengths take."""
    found = Decoder(max_header_list_size=100_000).decode(encode_fields([("x-y", "v" * size), ("n" * (size or 1), "1")]))
    assert [(one[0], one[1]) for one in found] == [("x-y", "v" * size), ("n" * (size or 1), "1")]


def test_a_long_head() -> None:
    """Of as many frames as it takes: HEADERS, CONTINUATION."""
    core = begun(frame(Frame.HEADERS, 5, 1, GET))
    core.send_head(1, encode_fields([(":status", "200"), ("x", "v" * 40_000)]), end=True)
    kinds = [(kind, flags, len(data)) for kind, flags, _stream, data in frames_in(core.take_out())]
    assert [(kind, flags) for kind, flags, _size in kinds] == [(1, 1), (9, 0), (9, 4)]
    assert max(size for _kind, _flags, size in kinds) == 16384
    assert not core.flows


def test_a_client_that_makes_its_table_smaller() -> None:
    """RFC 9113, 4.3.1: the next head begins with the size that we use, once."""
    core = begun(frame(Frame.HEADERS, 5, 1, GET), frame(Frame.SETTINGS, 0, 0, b"\0\1\0\0\0\x10"))
    core.receive(frame(Frame.HEADERS, 5, 3, GET))
    block = encode_fields([(":status", "200")])
    assert not core.send_whole(1, block, b"x")
    core.send_head(1, block, end=True)
    core.send_head(3, block, end=True)
    assert [data for kind, *_rest, data in frames_in(core.take_out()) if kind == 1] == [b"\x20" + block, block]


# Windows.


def test_a_window_below_zero() -> None:
    """RFC 9113, 6.9.2: after a change of the settings; nothing is sent until it is above again."""
    core = begun(frame(Frame.HEADERS, 5, 1, GET))
    core.send_head(1, b"\x88")
    core.send_data(1, b"x" * 1000, end=False)
    core.receive(frame(Frame.SETTINGS, 0, 0, b"\0\4\0\0\0\x64"))
    assert core.flows[1].window == 100 - 1000
    assert core.room(1) < 0
    core.receive(frame(Frame.WINDOW_UPDATE, 0, 1, (900).to_bytes(4, "big")))
    assert core.room(1) == 0
    core.receive(frame(Frame.WINDOW_UPDATE, 0, 1, (7).to_bytes(4, "big")))
    assert core.room(1) == 7


def test_the_window_of_the_connection() -> None:
    """It is the bound of all streams together."""
    core = begun(frame(Frame.HEADERS, 5, 1, GET), frame(Frame.HEADERS, 5, 3, GET))
    for _ in range(3):
        core.send_data(1, b"x" * 16384, end=False)
    core.send_data(1, b"x" * 16000, end=False)
    assert core.room(3) == 65535 - 3 * 16384 - 16000
    assert not core.send_whole(3, b"\x88", b"y" * (core.room(3) + 1))
    assert core.send_whole(3, b"\x88", b"y" * core.room(3))
    assert core.room(1) == 0


def test_what_was_taken_is_given_back() -> None:
    """By half windows, of the stream when somebody has taken it, and with the padding."""
    core = begun(frame(Frame.HEADERS, 4, 1, POST))
    for _ in range(2):
        ((_kind, _stream, data, size),) = core.receive(frame(Frame.DATA, 8, 1, b"\x0a" + b"x" * 15989 + bytes(10)))
        assert (len(data), size) == (15989, 16000)
        core.give_back(1, size)
    assert not core.take_out()
    core.receive(frame(Frame.DATA, 0, 1, b"x" * 1000))
    core.give_back(1, 1000)
    assert [(kind, stream, data) for kind, _flags, stream, data in frames_in(core.take_out())] == [
        (Frame.WINDOW_UPDATE, 1, (33000).to_bytes(4, "big"))
    ]
    assert core.flows[1].credit == 65535


def test_a_stream_that_is_gone_takes_nothing() -> None:
    """Whoever answers has not heard of it yet."""
    core = begun(frame(Frame.HEADERS, 5, 1, GET), frame(Frame.RST_STREAM, 0, 1, bytes(4)))
    assert core.room(1) == 0
    assert not core.send_whole(1, b"\x88", b"x")
    core.send_head(1, b"\x88")
    core.send_data(1, b"x", end=True)
    core.give_back(1, 10)
    core.reset(1, Code.CANCEL)
    assert not core.take_out()


def test_only_so_much_is_remembered() -> None:
    """Of streams that are over: a client cannot have us keep more and more."""
    core = begun()
    for stream in range(1, 4001, 4):
        core.receive(frame(Frame.HEADERS, 5, stream, GET) + frame(Frame.RST_STREAM, 0, stream, bytes(4)))
    assert not core.flows
    assert len(core._over) <= 256
    assert len(core._skipped) <= 16


def test_what_is_partial() -> None:
    """A number for each frame, and one for a head of several; 0 between them."""
    core = begun()
    assert core.partial == 0
    head = frame(Frame.HEADERS, 0, 1, b"\x82")
    core.receive(head[:5])
    first = core.partial
    assert first
    core.receive(head[5:])
    whole = core.partial
    assert whole not in (0, first)
    core.receive(frame(Frame.CONTINUATION, 0, 1, b"\x86"))
    assert core.partial == whole
    core.receive(frame(Frame.CONTINUATION, 4, 1, b"\x84" + literal("host", "a")))
    assert core.partial == 0
    core.receive(frame(Frame.DATA, 0, 1, bytes(1000))[:109])
    assert (core.missing, core.arrived(1), core.arrived(3)) == (900, 100, 0)


def test_the_greeting() -> None:
    """SETTINGS first (RFC 9113, 3.4), and what they say."""
    kind, flags, stream, data = next(frames_in(connection().take_out()))
    assert (kind, flags, stream) == (Frame.SETTINGS, 0, 0)
    assert data[:6] == bytes((0, Setting.MAX_CONCURRENT_STREAMS, 0, 0, 0, 100))


def test_nothing_is_taken_after_a_fault() -> None:
    """The connection is over."""
    core = begun()
    assert core.receive(frame(Frame.PING, 0, 1, bytes(8)))[-1][0] == Kind.FAULT
    assert core.receive(frame(Frame.HEADERS, 5, 1, GET)) == []


def test_requests_of_the_same_head() -> None:
    """Without a body they are one; with one each is by itself; a head may have begun both kinds."""
    core = begun(frame(Frame.HEADERS, 4, 1, POST), frame(Frame.HEADERS, 5, 3, POST))
    head = core._blocks.read(POST)
    opened = read_request(head, LIMITS, ended=False)
    whole = read_request(head, LIMITS, ended=True)
    assert (opened.length, whole.length) == (None, 0)
    assert read_request(head, LIMITS, ended=False) is not opened
    other = core._blocks.read(b"\x82" + POST[1:])
    assert read_request(other, LIMITS, ended=True) is read_request(other, LIMITS, ended=True)
    assert read_request(other, LIMITS, ended=False).length is None
    sized = core._blocks.read(POST + literal("content-length", "7") + literal("expect", "100-continue"))
    core.receive(frame(Frame.HEADERS, 4, 5, POST + literal("content-length", "7") + literal("expect", "100-continue")))
    for _ in range(2):
        request = read_request(sized, LIMITS, ended=False)
        assert (request.length, request.expects_continue) == (7, True)


_TUNNEL = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":path": "/", ":authority": "x"}


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, True),
        ({":authority": None, "host": "x"}, True),
        ({":method": "GET"}, False),
        ({":path": None}, False),
        ({":scheme": None}, False),
        ({":protocol": ""}, False),
        ({"content-length": "0"}, False),
        ({"content-length": "5"}, False),
    ],
)
@pytest.mark.parametrize("tunnels", [False, True])
def test_a_tunnel(tunnels: bool, changes: dict[str, str | None], taken: bool) -> None:
    """CONNECT that names a protocol is taken where we have said so, and malformed elsewhere: RFC 8441."""
    core = Connection(100, 16384, tunnels=tunnels)
    said = core.take_out()
    assert (b"\0\x08\0\0\0\x01" in said) is tunnels
    block = b"".join(literal(name, value) for name, value in (_TUNNEL | changes).items() if value is not None)
    (settings, event) = core.receive(greeting() + frame(Frame.HEADERS, 4, 1, block))
    assert settings[0] == Kind.SETTINGS
    if tunnels and taken:
        assert event[0] == Kind.REQUEST
        assert event[2].protocol == b"websocket"
        request = read_request(event[2], LIMITS, ended=event[3])
        assert (request.method, request.path, request.host, request.length) == ("GET", "/", "x", None)
    else:
        assert event[:3] == (Kind.CLOSED, 1, Code.PROTOCOL_ERROR)
