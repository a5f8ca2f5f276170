"""The access log."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from support.entries import EntriesKept

from appd.http.log.accesslog import AccessLog, Answer, combined_line, journal_line

ANSWER = Answer(
    b"GET", b"/x?secret=1", b"HTTP/1.1", 200, 1234, 0.0051, "192.0.2.1", "192.0.2.1:4711", b"http://r/", b"curl"
)


def test_journal_line() -> None:
    """Short, and without the query."""
    assert journal_line(ANSWER) == "GET /x 200 1234 5.1ms"


def test_combined_line() -> None:
    """NCSA's combined log format."""
    assert combined_line(ANSWER, 971211336.9) == (
        '192.0.2.1 - - [10/Oct/2000:20:55:36 +0000] "GET /x?secret=1 HTTP/1.1" 200 1234 "http://r/" "curl"'
    )


def test_combined_line_without() -> None:
    """A dash for what is not there: address, bytes, referer, agent."""
    bare = ANSWER._replace(host="", sent=0, referer=b"", agent=b"")
    assert combined_line(bare, 0) == '- - - [01/Jan/1970:00:00:00 +0000] "GET /x?secret=1 HTTP/1.1" 200 - "-" "-"'


def test_escapes() -> None:
    """As Apache has them."""
    evil = ANSWER._replace(target=b'/"\\\n\x1b[2J\xff', agent=b'a" 200 "b')
    assert '"GET /\\"\\\\\\x0a\\x1b[2J\\xff HTTP/1.1"' in combined_line(evil, 0)
    assert '"a\\" 200 \\"b"' in combined_line(evil, 0)
    assert journal_line(evil) == 'GET /"\\\\\\x0a\\x1b[2J\\xff 200 1234 5.1ms'


@given(st.binary(), st.binary(), st.binary())
def test_nobody_adds_a_line_or_a_field(target: bytes, referer: bytes, agent: bytes) -> None:
    """The line can be taken apart again, whatever the client sent."""
    line = combined_line(ANSWER._replace(target=target, referer=referer, agent=agent), 0)
    assert line.isascii()
    assert line.isprintable()
    quoted = r'"((?:[^"\\]|\\.)*)"'
    assert re.fullmatch(rf"\S+ - - \[[^]]+\] {quoted} 200 1234 {quoted} {quoted}", line)


def test_entry() -> None:
    """The parts are fields."""
    log = EntriesKept()
    AccessLog("shop", log).write(ANSWER, "journal", 0)
    AccessLog("shop", log).write(ANSWER._replace(peer=""), "journal", 0)
    first, second = log.entries
    assert first.fields == {
        "LOGGER": "appd.access",
        "APPD_SERVER": "shop",
        "APPD_PEER": "192.0.2.1:4711",
        "HTTP_METHOD": "GET",
        "HTTP_PATH": "/x",
        "HTTP_STATUS": 200,
        "HTTP_BYTES": 1234,
        "DURATION_USEC": 5100,
    }
    assert "APPD_PEER" not in second.fields


def test_a_sample() -> None:
    """One of so many; what is not to be logged does not count."""
    entries = EntriesKept()
    log = AccessLog("shop", entries, 3)
    for number in range(7):
        log.write(ANSWER._replace(status=200 + number), "combined", 0)
        log.write(ANSWER, "off", 0)
    assert [entry.fields["HTTP_STATUS"] for entry in entries.entries] == [200, 203, 206]
