"""A syslog message → its parts: RFC 5424, and RFC 3164 as senders write it.

Whatever comes is a message, and nothing of it is lost: what is not of either form is taken as text, with the priority
that RFC 3164 (4.3.3) gives it. A form is recognized strictly, so that what looks like one by half stays what it was.

    <165>1 2003-10-11T22:14:15.003Z host app 1234 ID47 [id@32473 key="value"] text      RFC 5424
    <34>Oct 11 22:14:15 host su[123]: text      RFC 3164, from another host
    <13>Oct 11 22:14:15 su[123]: text           the same from this one, as syslog(3) writes it to /dev/log
"""

from __future__ import annotations

import re
from typing import NamedTuple

from appd.config.datatypes import size

__all__ = ["Message", "message_size", "parse"]

# RFC 5424, 6.1: every receiver must take 480 bytes.
_LEAST = 480
# user.notice: RFC 3164, 4.3.3.
_UNKNOWN = 13
# More parameters than any sender has; the rest stays in the text of the structured data.
_MOST_PARAMETERS = 64

_PRIORITY = re.compile(rb"<(0|[1-9][0-9]{0,2})>")
# RFC 5424, 6: the lengths are its own.
_HEAD_5424 = re.compile(
    rb"1 (-|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2}))"
    rb" ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) (?=[\[-])"
)
_NAME = rb"[!#-<>-\\^-~]{1,32}"  # printable, but none of = ] and "
_ELEMENT = re.compile(rb"\[(" + _NAME + rb")")
_PARAMETER = re.compile(rb" (" + _NAME + rb')="((?:[^"\\\]]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(rb'\\(["\\\]])')
# The time stamp of RFC 3164, or the ISO 8601 that rsyslog and newer senders have in its place.
_STAMP = re.compile(
    rb"((?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-6][0-9]"
    rb"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})) "
)
# A program: RFC 3164 has 32 letters and digits, programs have more.
_TAG = re.compile(rb"([!-9;-Z\\^-~]{1,64})(?:\[([!-Z\\^-~]{1,128})\])?:(?: |\Z)")
_HOST = re.compile(rb"([!-Z\\^-~]{1,255}) ")
_BOM = b"\xef\xbb\xbf"


class Message(NamedTuple):
    """One message; what it does not say is "".

    Attributes:
        priority: The facility times 8 plus the severity.
        text: What it says; bytes, since senders differ in what they take for text.
        timestamp: When it was made, as written.
        host: Where.
        program: By whom: APP-NAME, or the tag.
        process: PROCID, or what stands in brackets behind the tag.
        kind: MSGID.
        structured: The structured data as written.
        parameters: (element, name, value) of it, the first of them.
    """

    priority: int
    text: bytes
    timestamp: str = ""
    host: str = ""
    program: str = ""
    process: str = ""
    kind: str = ""
    structured: bytes = b""
    parameters: tuple[tuple[str, str, bytes], ...] = ()

    @property
    def severity(self) -> int:
        """0 to 7, as in syslog(3)."""
        return self.priority & 7

    @property
    def facility(self) -> int:
        """0 to 23."""
        return self.priority >> 3


_Structured = tuple[int, tuple[tuple[str, str, bytes], ...]]


def message_size(text: str) -> int:
    """The longest message that is taken, in bytes."""
    found = size(text)
    if not _LEAST <= found <= 16 * 1024**2:
        raise ValueError(f"{text!r} is not between {_LEAST} bytes, which RFC 5424 demands, and 16MB")
    return found


def parse(data: bytes) -> Message:
    """Takes a message apart.

    Args:
        data: The message without its frame.

    Returns:
        Its parts. Nothing is refused: what is of neither form is text.
    """
    data = data.rstrip(b"\r\n\0")
    found = _PRIORITY.match(data)
    if found is None or int(found[1]) > 191:
        return Message(_UNKNOWN, data)
    priority, rest = int(found[1]), data[found.end() :]
    return _of_5424(priority, rest) or _of_3164(priority, rest)


def _of_5424(priority: int, rest: bytes) -> Message | None:
    head = _HEAD_5424.match(rest)
    if head is None:
        return None
    timestamp, host, program, process, kind = ("" if one == b"-" else one.decode("ascii") for one in head.groups())
    begins = head.end()
    if rest[begins : begins + 1] == b"-":
        found: _Structured | None = (begins + 1, ())
    else:
        found = _structured(rest, begins)
    if found is None:
        return None
    ends, parameters = found
    if rest[ends : ends + 1] not in (b"", b" "):
        return None
    structured = rest[begins:ends] if rest[begins:ends] != b"-" else b""
    text = rest[ends + 1 :].removeprefix(_BOM)
    return Message(priority, text, timestamp, host, program, process, kind, structured, parameters)


def _structured(rest: bytes, place: int) -> _Structured | None:
    """Where the structured data ends, and what is in it; None when it is none."""
    parameters: list[tuple[str, str, bytes]] = []
    while element := _ELEMENT.match(rest, place):
        place = element.end()
        name = element[1].decode("ascii")
        while parameter := _PARAMETER.match(rest, place):
            place = parameter.end()
            if len(parameters) < _MOST_PARAMETERS:
                value = _ESCAPED.sub(rb"\1", parameter[2])
                parameters.append((name, parameter[1].decode("ascii"), value))
        if rest[place : place + 1] != b"]":
            return None
        place += 1
    return place, tuple(parameters)


def _of_3164(priority: int, rest: bytes) -> Message:
    timestamp = host = program = process = ""
    stamp = _STAMP.match(rest)
    if stamp is not None:
        timestamp = stamp[1].decode("ascii")
        rest = rest[stamp.end() :]
        named = _HOST.match(rest)
        # A tag ends with a colon; what stands before one and has none is the host.
        if _TAG.match(rest) is None and named is not None:
            host = named[1].decode("ascii")
            rest = rest[named.end() :]
    tag = _TAG.match(rest)
    if tag is not None:
        program = tag[1].decode("ascii")
        process = (tag[2] or b"").decode("ascii")
        rest = rest[tag.end() :]
    return Message(priority, rest, timestamp, host, program, process)
