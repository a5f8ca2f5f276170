"""The core of HTTP with generated input: however bytes are cut they mean the same, and nothing breaks it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.http1 import CORPORA, LIMITS, cases, connection, events

from appd.http.core.errors import Refused
from appd.http.core.framing import Chunked
from appd.http.core.grammar import REQUEST_LINE
from appd.http.core.head import read_head, scan

CASES = [case.data for path in sorted(CORPORA.glob("*.cases")) for case in cases(path) if len(case.data) < 2000]
# Words that requests are made of, and some that they must not be made of.
WORDS = [
    *(
        b"GET / HTTP/1.1\r\n",
        b"POST /x?y HTTP/1.1\r\n",
        b"HEAD / HTTP/1.0\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"Host: a\r\n",
    ),
    *(
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
    ),
    *(
        b"Expect: 100-continue\r\n",
        b"X: y\r\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"3;a=b\r\n",
        b"0\r\n",
        b"T: u\r\n",
        b"\r\n",
    ),
    *(b"\r", b"\n", b" ", b"\t", b":", b"\0", b"\xff", b"chunked", b"5", b",", b";", b"GET", b" HTTP/1.1"),
]
STREAMS = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=14).map(b"".join),
    st.lists(st.sampled_from(CASES), min_size=1, max_size=3).map(b"".join),
    st.tuples(st.sampled_from(CASES), st.integers(0, 300), st.binary(max_size=3), st.integers(0, 2)).map(
        lambda one: one[0][: one[1]] + one[2] + one[0][one[1] + one[3] :]
    ),
    st.binary(max_size=100),
)


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Bytes, and the same in pieces."""
    data = draw(STREAMS)
    cuts = sorted(set(draw(st.lists(st.integers(1, max(1, len(data) - 1)), max_size=6))))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return data, [one for one in pieces if one]


@settings(max_examples=500)
@given(cut_streams(), st.booleans())
def test_any_split_means_the_same(cut, ended):
    """Requests, bodies, trailers, refusals and their reasons."""
    data, pieces = cut
    assert events(pieces, ended=ended) == events([data] if data else [], ended=ended)


@settings(max_examples=300)
@given(STREAMS)
def test_the_quick_way_and_the_slow_way_agree(data):
    """A head that is taken is one that the scan finds nothing wrong with; one that the scan refuses is not taken."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return
    head = data[: end + 4]
    try:
        scan(head, 0, LIMITS)
    except Refused as refused:
        slow = (refused.status, refused.reason)
    else:
        slow = None
    try:
        read_head(head[:-4].decode("latin-1").split("\r\n"), len(head) - 2, LIMITS)
    except Refused as refused:
        # What the fields mean together is not the scan's business.
        assert slow in (None, (refused.status, refused.reason))
    else:
        assert slow is None


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.booleans()), max_size=8), st.integers(1, 50))
def test_chunked_bodies_come_out_as_they_went_in(parts, step):
    """However they are cut."""
    data = (
        b"".join((b"%x" if small else b"%X;a=b") % len(one) + b"\r\n" + one + b"\r\n" for one, small in parts)
        + b"0\r\nT: u\r\n\r\nrest"
    )
    chunked, body, buffer = Chunked(LIMITS._replace(body_size=0)), b"", b""
    for at in range(0, len(data), step):
        buffer += data[at : at + step]
        content, used = chunked.take(buffer, 0)
        body, buffer = body + content, buffer[used:]
    assert body == b"".join(one for one, _ in parts)
    assert chunked.ended and chunked.trailers == [("t", "u")]
    assert buffer == b"rest"


@settings(max_examples=300)
@given(STREAMS)
def test_a_fault_ends_the_connection(data):
    """After a refusal nothing is read, whatever comes."""
    one = connection()
    one.receive(data)
    try:
        for _ in range(30):
            one.next()
    except Refused as refused:
        one.refusal(refused)
        one.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert repr(one.next()) == "CLOSED"


@given(st.text(alphabet=[chr(one) for one in range(256)], max_size=30))
def test_a_request_line_has_three_parts(text):
    """What the pattern takes can be taken apart by anybody in one way only."""
    match = REQUEST_LINE.fullmatch(text)
    if match is not None:
        assert text.split(" ") == text.split() == [match[1], match[2], f"HTTP/1.{match[3]}"]
        assert text.isascii() and text.isprintable()
