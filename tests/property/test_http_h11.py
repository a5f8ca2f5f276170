"""Compared with h11: where both take a request they understand the same; what h11 refuses is refused, or is in a table.

Responses are read by h11's client.
"""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.h11_view import TAKEN, Seen, by_h11, by_us, differ
from support.http1 import CORPORA, LIMITS, cases, connection

from appd.http.core.connection import END, NEED_DATA
from appd.http.core.request import Request

TOKENS = st.text(alphabet="abcXYZ019-_!#$%&'*+.^`|~", min_size=1, max_size=12)
VALUES = st.text(alphabet=[chr(one) for one in (9, *range(32, 127), *range(128, 256))], max_size=20)
TARGETS = st.text(alphabet=[chr(one) for one in range(33, 127)], max_size=20).map(lambda one: f"/{one}")
SPECIAL = st.sampled_from(
    [
        *(("Host", "a"), ("Host", "b:80"), ("Host", ""), ("Host", "a b"), ("host", "[::1]"), ("Host", "\xe4")),
        *(
            ("Content-Length", "3"),
            ("Content-Length", "03"),
            ("Content-Length", "3,3"),
            ("Content-Length", "+3"),
            ("Content-Length", ""),
        ),
        *(
            ("content-length", "99999999999999999999"),
            ("Transfer-Encoding", "chunked"),
            ("Transfer-Encoding", "Chunked"),
        ),
        *(("Transfer-Encoding", "gzip"), ("Transfer-Encoding", "gzip, chunked"), ("Transfer-Encoding", "identity")),
        *(
            ("Connection", "close"),
            ("Connection", "keep-alive"),
            ("Expect", "100-continue"),
            ("Expect", "x"),
            ("TE", "trailers"),
        ),
    ]
)
BODIES = st.sampled_from(
    [
        b"",
        b"abc",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that may be good, or have some of the faults that h11 knows."""
    fields = draw(st.lists(st.one_of(st.tuples(TOKENS, VALUES), SPECIAL), max_size=5))
    if draw(st.booleans()):
        fields.insert(0, ("Host", "a"))
    end = draw(st.sampled_from(["\r\n"] * 8 + ["\n", "\r\n ", "\r"]))
    line = f"{draw(st.sampled_from(['GET', 'POST', 'PUT', 'get']))} {draw(TARGETS)} HTTP/{draw(st.sampled_from(['1.1', '1.1', '1.0', '1.2', '2.0']))}"
    colon = draw(st.sampled_from([":", ": ", ":\t", " :"]))
    head = end.join([line, *(f"{name}{colon}{value}" for name, value in fields)])
    return f"{head}\r\n\r\n".encode("latin-1") + draw(BODIES)


@settings(max_examples=500)
@given(requests())
def test_generated_requests(data):
    """Both understand the same, and we take nothing that h11 refuses."""
    assert differ(data) is None


@pytest.mark.parametrize("path", sorted(CORPORA.glob("*.cases")), ids=lambda path: path.stem)
def test_the_corpora(path):
    """The same for what the corpora have."""
    for case in cases(path):
        assert differ(case.data) is None


@pytest.mark.parametrize("words", TAKEN)
def test_the_table_is_true(words):
    """Each difference in it exists."""
    examples = [
        case.data for path in CORPORA.glob("*.cases") for case in cases(path) if isinstance(by_us(case.data), Seen)
    ]
    of_that_kind, _why = TAKEN[words]
    assert [data for data in examples if of_that_kind(data) and words in by_h11(data)]


FIELDS = st.lists(
    st.tuples(
        TOKENS.filter(lambda one: one.lower() not in ("te", "content-length")), VALUES.map(lambda one: one.strip("\t "))
    ),
    max_size=4,
)


@settings(max_examples=300)
@given(
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.sampled_from([200, 204, 205, 304, 404, "299 Odd", 500]),
    FIELDS,
    st.lists(st.binary(max_size=30), max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_h11_reads_our_responses(method, status, fields, parts, has_length, kept):
    """Status, fields and body arrive; and both agree on whether the connection stays."""
    client = h11.Connection(h11.CLIENT)
    asked = h11.Request(
        method=method, target="/", headers=[("Host", "a"), *([] if kept else [("Connection", "close")])]
    )
    one = connection(LIMITS)
    one.receive(client.send(asked) + client.send(h11.EndOfMessage()))
    assert isinstance(one.next(), Request)
    body = b"".join(parts)
    sent = one.head(status, fields, len(body) if has_length else None)
    sent += b"".join([one.body(part) for part in parts])
    client.receive_data(sent + one.end())
    response, received = client.next_event(), b""
    assert isinstance(response, h11.Response)
    while isinstance(event := client.next_event(), h11.Data):
        received += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert response.status_code == int(str(status)[:3])
    assert received == (b"" if method == "HEAD" or response.status_code in (204, 205, 304) else body)
    pairs = [(name.decode(), value.decode("latin-1")) for name, value in response.headers]
    assert [one for one in pairs if one in [(name.lower(), value) for name, value in fields]] == [
        (name.lower(), value) for name, value in fields
    ]
    assert (client.our_state is h11.MUST_CLOSE) == one.closing == (not kept)


EXCHANGES = st.lists(
    st.tuples(
        st.sampled_from(["GET", "HEAD", "POST"]),
        st.lists(st.binary(min_size=1, max_size=20), max_size=3),  # the body of the request, in chunks
        st.booleans(),  # whether its length is known
        st.lists(st.binary(max_size=20), max_size=3),  # the body of the response
        st.sampled_from(["whole", "length", "chunks"]),
        st.sampled_from([200, 204, 304, 404]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200)
@given(EXCHANGES, st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_conversations(exchanges, steps):
    """Requests that h11 writes, pipelined and cut anywhere, each with its response, which h11 reads as the answer to it."""
    sent, wanted = b"", []
    for method, parts, known, *_ in exchanges:
        body = b"".join(parts)
        framing = ("Content-Length", str(len(body))) if known or not parts else ("Transfer-Encoding", "chunked")
        # A new one each time: h11 does not pipeline.
        writer = h11.Connection(h11.CLIENT)
        sent += writer.send(h11.Request(method=method, target="/", headers=[("Host", "a"), framing]))
        sent += b"".join(writer.send(h11.Data(data=one)) for one in parts) + writer.send(h11.EndOfMessage())
        wanted.append(body)
    one, answers, bodies, at, turn = connection(LIMITS), [], [], 0, 0
    while len(answers) < len(exchanges):
        event = one.next()
        if event is NEED_DATA:
            step = steps[turn % len(steps)]
            turn, at = turn + 1, at + step
            one.receive(sent[at - step : at])
        elif isinstance(event, bytes):
            bodies[-1] += event
        elif isinstance(event, Request):
            bodies.append(b"")
        if event is END or (isinstance(event, Request) and event.length == 0):
            answers.append(respond(one, exchanges[len(answers)]))
    assert bodies == wanted
    assert one.idle and not one.closing and at >= len(sent)
    for (method, _parts, _known, parts, _how, status), answer in zip(exchanges, answers, strict=True):
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answer)
        response, received = client.next_event(), b""
        while isinstance(event := client.next_event(), h11.Data):
            received += bytes(event.data)
        assert response.status_code == status and isinstance(event, h11.EndOfMessage)
        assert received == (b"" if method == "HEAD" or status in (204, 304) else b"".join(parts))
        assert client.trailing_data == (b"", False), "bytes behind a response"


def respond(one, exchange) -> bytes:
    """A response, in one of the ways in which one can be made."""
    *_, parts, how, status = exchange
    if how == "whole":
        return one.whole(status, (), b"".join(parts))
    sent = one.head(status, (), sum(map(len, parts)) if how == "length" else None)
    return sent + b"".join([one.body(part) for part in parts]) + one.end()
