"""What `frames` takes aside is what wsproto would have read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Ping, TextMessage

from appd.http.loop.frames import Cutter, simple_frame

MESSAGES = st.one_of(
    st.builds(TextMessage, data=st.text(max_size=200), message_finished=st.booleans()),
    st.builds(BytesMessage, data=st.binary(max_size=300), message_finished=st.booleans()),
    st.builds(BytesMessage, data=st.sampled_from([bytes(4095), bytes(4096), bytes(4097), bytes(70000)])),
    st.builds(Ping, payload=st.binary(max_size=125)),
)


def sent(events: list[Any]) -> bytes:
    """What a client sends; a fragment of one kind is not followed by one of the other."""
    client = Connection(ConnectionType.CLIENT)
    data, open_kind = b"", None
    for one in events:
        if isinstance(one, Ping):
            data += client.send(one)
            continue
        if open_kind is not None and type(one) is not open_kind:
            continue
        data += client.send(one)
        open_kind = None if one.message_finished else type(one)
    return data


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(one % (len(data) + 1) for one in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


def joined(events: Any, parts: list[Any], found: list[Any]) -> None:
    """Messages of fragments as one."""
    for one in events:
        if isinstance(one, Ping):
            found.append(("ping", bytes(one.payload)))
        elif hasattr(one, "message_finished"):
            parts.append(one.data)
            if one.message_finished:
                text = isinstance(one, TextMessage)
                found.append("".join(parts) if text else b"".join(parts))
                parts.clear()
        else:
            found.append(("close", one.code))


@given(st.lists(MESSAGES, max_size=8), st.lists(st.integers(0, 10**6), max_size=8), st.binary(max_size=30))
def test_it_reads_what_wsproto_reads(events: list[Any], cuts: list[int], garbage: bytes) -> None:
    """However it is cut, and whatever comes behind."""
    data = sent(events) + garbage
    alone = Connection(ConnectionType.SERVER)
    expected: list[Any] = []
    parts: list[Any] = []
    for piece in pieces(data, cuts):
        alone.receive_data(piece)
        joined(alone.events(), parts, expected)
        if ("close", 1002) in expected or any(isinstance(one, tuple) and one[0] == "close" for one in expected):
            break
    cutter, rest = Cutter(), Connection(ConnectionType.SERVER)
    found: list[Any] = []
    parts = []
    for piece in pieces(data, cuts):
        for one in cutter.cut(piece):
            if any(isinstance(said, tuple) and said[0] == "close" for said in found):
                break
            if isinstance(one, memoryview):
                rest.receive_data(bytes(one))
                joined(rest.events(), parts, found)
            else:
                found.append(one)
    ended = [one for one in expected if isinstance(one, tuple) and one[0] == "close"]
    # A frame that breaks the rules may be told a few bytes later: its head is kept until it is complete.
    assert found == expected or (ended and found == expected[:-1])


@given(st.binary(max_size=70000))
def test_what_is_sent(payload: bytes) -> None:
    """A client reads it."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(simple_frame(2, payload))
    got = list(client.events())
    assert b"".join(one.data for one in got) == payload
    assert got[-1].message_finished
