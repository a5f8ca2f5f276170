"""Syslog: whatever comes is a message, and frames do not depend on how the bytes arrive."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from appd.journal.entry import is_field_name
from appd.servers.syslog.framing import Frames, FramingError
from appd.servers.syslog.message import parse
from appd.servers.syslog.syslog import fields_of

SPECIAL = [
    b"<13>",
    b"<191>",
    b"1 ",
    b"- ",
    b"-",
    b"[",
    b"]",
    b'[a b="',
    b'"',
    b"\\",
    b"host ",
    b"tag[1]: ",
    b"\n",
    b"\0",
]
PIECES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([*SPECIAL, b"Oct 11 22:14:15 ", b"2003-10-11T22:14:15.003Z "]),
    ),
    max_size=12,
).map(b"".join)
WORD = st.from_regex(r"[!-,.-~][!-~]{0,20}", fullmatch=True)
NAME = st.from_regex(r"[A-Za-z0-9@._-]{1,32}", fullmatch=True)


@given(PIECES)
def test_nothing_is_lost(data):
    """The text is the end of what came, and every field may go to the journal."""
    message = parse(data)
    assert data.rstrip(b"\r\n\0").endswith(message.text)
    assert 0 <= message.priority <= 191
    assert all(is_field_name(name) for name in fields_of(message, "s", "p"))


@given(
    st.integers(0, 191),
    st.tuples(WORD, WORD, WORD, WORD),
    st.lists(st.tuples(NAME, st.lists(st.tuples(NAME, st.binary(max_size=20)), max_size=4)), max_size=4),
    st.binary(max_size=50),
)
def test_what_rfc_5424_writes_is_read(priority, words, elements, text):
    """Round trip, with every byte that a value may have."""

    def escaped(value):
        return re.sub(rb'(["\\\]])', rb"\\\1", value)

    structured = b"".join(
        b"[%b%b]" % (name.encode(), b"".join(b' %b="%b"' % (key.encode(), escaped(value)) for key, value in pairs))
        for name, pairs in elements
    )
    head = b"<%d>1 2003-10-11T22:14:15Z %b %b " % (priority, " ".join(words).encode(), structured or b"-")
    message = parse(head + b"t" + text + b"t")
    assert message.priority == priority
    assert (message.host, message.program, message.process, message.kind) == words
    assert message.parameters == tuple((name, key, value) for name, pairs in elements for key, value in pairs)
    assert message.structured == structured and message.text == b"t" + text + b"t"


def fed(pieces):
    frames, found = Frames(480), []
    try:
        for piece in pieces:
            found += frames.feed(piece)
    except FramingError as error:
        return found + error.before, "refused"
    return found, frames.end()


@given(
    st.lists(
        st.one_of(PIECES, st.binary(min_size=400, max_size=600), PIECES.map(lambda one: b"%d %b" % (len(one), one))),
        max_size=6,
    ),
    st.lists(st.integers(0, 3000), max_size=6),
)
def test_frames_do_not_depend_on_the_pieces(parts, cuts):
    """Cut anywhere, the messages are the same."""
    data = b"".join(parts)
    places = sorted({min(one, len(data)) for one in cuts})
    pieces = [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]
    assert fed(pieces) == fed([data])


def test_no_input_is_slow():
    """Not even one that is almost something, many times over."""
    began = time.process_time()
    for data in (
        b'<13>1 - - - - - [a b="' + b"\\" * 65000,
        b"<13>1 - - - - - " + b"[a]" * 20000 + b"x",
        b"<13>" + b"a" * 65000,
    ):
        parse(data)
    frames = Frames(65536)
    for _ in range(2000):
        frames.feed(b"<1>x\n" * 10)
    assert time.process_time() - began < 8
