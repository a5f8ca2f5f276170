"""Syslog messages and their frames."""

from __future__ import annotations

import pytest

from appd.servers.syslog.framing import Frames, FramingError
from appd.servers.syslog.message import Message, message_size, parse
from appd.servers.syslog.syslog import fields_of

# The examples of RFC 5424, 6.5, of RFC 3164, 5.4, and what senders of today write.
CASES = [
    (
        b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \xef\xbb\xbf'su root' failed",
        Message(34, b"'su root' failed", "2003-10-11T22:14:15.003Z", "mymachine.example.com", "su", "", "ID47"),
    ),
    (
        b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time",
        Message(165, b"%% It's time", "2003-08-24T05:14:15.000003-07:00", "192.0.2.1", "myproc", "8710"),
    ),
    (
        b'<165>1 - - - - - [a@1 x="1" y="\\"\\]\\\\"][b@2]',
        Message(
            165,
            b"",
            structured=b'[a@1 x="1" y="\\"\\]\\\\"][b@2]',
            parameters=(("a@1", "x", b"1"), ("a@1", "y", b'"]\\')),
        ),
    ),
    (
        b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
        Message(34, b"'su root' failed", "Oct 11 22:14:15", "mymachine", "su"),
    ),
    (b"<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!", Message(13, b"Use the BFG!", "Feb  5 17:32:18", "10.0.0.99")),
    (
        b"<13>Nov 25 19:00:00 sshd[4711]: Accepted publickey\n",
        Message(13, b"Accepted publickey", "Nov 25 19:00:00", "", "sshd", "4711"),
    ),
    (
        b"<86>2026-11-25T19:00:00.123456+01:00 host CRON[1]: (root) CMD",
        Message(86, b"(root) CMD", "2026-11-25T19:00:00.123456+01:00", "host", "CRON", "1"),
    ),
    (b"<0>kernel: panic", Message(0, b"panic", program="kernel")),
    (b"no priority at all", Message(13, b"no priority at all")),
    (b"<192>too much", Message(13, b"<192>too much")),
    (b"<013>a zero in front", Message(13, b"<013>a zero in front")),
    (b"<13>1 2003-13-11 bad stamp of 5424", Message(13, b"1 2003-13-11 bad stamp of 5424")),
    (b'<13>1 - - - - - [a x="never ends', Message(13, b'1 - - - - - [a x="never ends')),
    (b"<13>1 - - - - - -no space", Message(13, b"1 - - - - - -no space")),
    (b"", Message(13, b"")),
]


@pytest.mark.parametrize(("data", "expected"), CASES, ids=range(len(CASES)))
def test_parse(data, expected):
    """What is of neither form is text; the text is never less than what was said."""
    assert parse(data) == expected


def test_fields():
    """The names of journald, and one for each parameter; what is of two parameters is the first's."""
    message = parse(b'<165>1 - h app 1 M [id@32473 key-1="a" key.1="b"] x')
    assert fields_of(message, "s", "192.0.2.1") == {
        "SYSLOG_IDENTIFIER": "app",
        "SYSLOG_FACILITY": 20,
        "SYSLOG_HOSTNAME": "h",
        "SYSLOG_PID": "1",
        "SYSLOG_MSGID": "M",
        "SYSLOG_STRUCTURED_DATA": b'[id@32473 key-1="a" key.1="b"]',
        "SYSLOG_SD_ID_32473_KEY_1": b"a",
        "APPD_SERVER": "s",
        "APPD_PEER": "192.0.2.1",
    }
    assert message.severity == 5


def test_frames_of_both_kinds():
    """Each message by itself, whatever the pieces."""
    frames = Frames(1000)
    assert frames.feed(b"5 <1>ab<2>line\n7 <3>a\nbc<4>nul\0\n\n<5>part") == [
        b"<1>ab",
        b"<2>line",
        b"<3>a\nbc",
        b"<4>nul",
    ]
    assert frames.partial
    assert frames.feed(b"ial\n1") == [b"<5>partial"]
    assert frames.feed(b"2 <6>abc") == [] and frames.feed(b"defghi") == [b"<6>abcdefghi"]
    assert not frames.partial and frames.end() == []


def test_a_line_without_an_end():
    """Is a message when the sender has gone; half a counted one is none."""
    frames = Frames(1000)
    assert frames.feed(b"<1>last") == [] and frames.end() == [b"<1>last"]
    assert frames.feed(b"10 <1>la") == [] and frames.end() == []


def test_a_line_that_is_too_long():
    """Its beginning is one message, and the next line is the next."""
    frames = Frames(480)
    assert frames.feed(b"<1>" + b"x" * 1000) == [b"<1>" + b"x" * 477]
    assert frames.feed(b"y" * 1000) == [] and frames.partial
    assert frames.feed(b"z\n<2>next\n" + b"<3>" + b"x" * 500 + b"\n") == [b"<2>next", b"<3>" + b"x" * 477]


@pytest.mark.parametrize("data", [b"481 x", b"999999999", b"12x <1>", b"1" * 100])
def test_lengths_that_are_none(data):
    """The stream ends there; what came before is not lost."""
    with pytest.raises(FramingError) as raised:
        Frames(480).feed(b"<1>before\n" + data)
    assert raised.value.before == [b"<1>before"]


def test_sizes():
    """RFC 5424, 6.1."""
    assert message_size("480") == 480 and message_size("16MB") == 16 * 1024**2
    for text in ("479", "17MB", "x"):
        with pytest.raises(ValueError, match=r"size|480"):
            message_size(text)
