"""The head of a response: status and fields in, text out; and the response of a mount that knows all of it at once.

Names come from a small set, and most fields are what they were a response ago: each is judged once and remembered.
"""

from __future__ import annotations

from appd.http.core.errors import Misuse
from appd.http.core.fields import OF_THE_CONNECTION, is_secret, is_token
from appd.http.core.grammar import VTEXT
from appd.startup.bare import Sequence
from appd.startup.patterns import compiled, pattern
from appd.startup.records import NamedTuple

__all__ = [
    "BARE",
    "NOTHING",
    "TO_THE_END",
    "Fields",
    "Parts",
    "Prepared",
    "Response",
    "frame",
    "prepare",
    "status_line",
    "without_length",
]

Fields = Sequence[tuple[str, str]]

# RFC 9110, 15.3.5 and 15.3.6: no content. A 204 has no length either.
BARE = (204, 205)
# How much of a body is to be sent, where that is no number.
TO_THE_END = -1
NOTHING = -2

_VALUE = compiled(rf"[{VTEXT}]*+")
# PEP 3333: a status is three digits, a space and a reason. RFC 9112, 4 allows the reason to be empty.
_STATUS = pattern(r"([2-5][0-9][0-9])(?: ([\t \x21-\x7e\x80-\xff]*+))?")
# Status lines that were made, by number or by text. Any thread may write; whoever finds it full empties it.
_STATUS_LINES: dict[int | str, tuple[int, str]] = dict.fromkeys((200, "200 OK"), (200, "HTTP/1.1 200 OK\r\n"))
_MOST = 512

# What a name means to the head: nothing, or one of these.
_ORDINARY, _SECRET, _LENGTH, _DATE, _SERVER = range(5)
_KINDS: dict[str, int] = {}
_SPECIAL = {"content-length": _LENGTH, "date": _DATE, "server": _SERVER}
# Lines that were made. A response has mostly the fields that the one before it had.
_LINES: dict[tuple[str, str], tuple[str, int, int]] = {}
_LONGEST_LINE = 256


class Parts(NamedTuple):
    """A body that is, in part at least, in a file.

    Attributes:
        descriptor: Of the file. Whoever sends the body closes it, also when nothing of it is sent.
        pieces: Bytes as they are, and (offset, length) for those of the file.
    """

    descriptor: int
    pieces: Sequence[bytes | tuple[int, int]]


class Response(NamedTuple):
    """A response that is known as a whole.

    Attributes:
        status: The status.
        fields: Header fields without Server, Date, Connection and Content-Length.
        body: The body, if there is one.
        length: The length to announce where there is no body: of HEAD and 304.
    """

    status: int
    fields: Fields = ()
    body: bytes | Parts | None = None
    length: int | None = None


class Prepared:
    """Field lines that may be sent.

    Args:
        text: The lines.
        length: What Content-Length among them says, or None.
        date: Whether there is a Date.
        server: Whether there is a Server.

    Attributes:
        kept: The head that was made of them last: of what, and its bytes. Any thread may replace it.
    """

    __slots__ = ("date", "kept", "length", "server", "text")

    def __init__(self, text: str, length: int | None, date: bool, server: bool) -> None:
        self.text = text
        self.length = length
        self.date = date
        self.server = server
        self.kept: tuple[int | str, str, bytes] = (0, "", b"")


def status_line(status: int | str) -> tuple[int, str]:
    """The number of a status, and its line.

    Args:
        status: A number, or number and reason as WSGI has it (`404 Not Found`).

    Raises:
        Misuse: It is no final status.
    """
    found = _STATUS_LINES.get(status)
    return found if found is not None else _make_status_line(status)


def _make_status_line(status: int | str) -> tuple[int, str]:
    match = _STATUS.fullmatch(str(status))
    if match is None:
        raise Misuse(f"{status!r} is no status: three digits from 200 to 599, a space and a reason")
    number, reason = int(match[1]), match[2]
    if reason is None:
        # Not with the module: most processes never send a status that is not in the table yet.
        from http import HTTPStatus

        reason = HTTPStatus(number).phrase if number in HTTPStatus._value2member_map_ else ""
    if len(_STATUS_LINES) >= _MOST:
        _STATUS_LINES.clear()
    made = _STATUS_LINES[status] = (number, f"HTTP/1.1 {number} {reason}\r\n")
    return made


def prepare(fields: Fields) -> Prepared:
    """Looks at the fields of a response and makes lines of them.

    Args:
        fields: Names and values; latin-1, a character a byte.

    Raises:
        Misuse: One cannot be sent, or is not the application's to send.
    """
    known = _LINES.get
    text = ""
    length: int | None = None
    date = server = False
    for field in fields:
        try:
            found = known(field)
        except TypeError:
            raise Misuse(f"{field!r} is no field: a tuple of two str is") from None
        line, kind, number = found or _read(field)
        text += line
        if not kind:
            continue
        if kind == _LENGTH:
            if length is not None:
                raise Misuse("more than one Content-Length")
            length = number
        elif kind == _DATE:
            date = True
        elif kind == _SERVER:
            server = True
    return Prepared(text, length, date, server)


def without_length(prepared: Prepared) -> Prepared:
    """The same without a Content-Length, which some statuses must not have."""
    lines = prepared.text.splitlines(keepends=True)
    text = "".join([one for one in lines if not one.lower().startswith("content-length:")])
    return Prepared(text, None, prepared.date, prepared.server)


def _read(field: tuple[str, str]) -> tuple[str, int, int]:
    """Judges a field: its line, what it means, and the number that a Content-Length is."""
    if not isinstance(field, tuple) or len(field) != 2 or not isinstance(field[1], str):
        raise Misuse(f"{field!r} is no field: a tuple of two str is")
    name, value = field
    kind = _KINDS.get(name)
    if kind is None:
        kind = _learn(name)
    if _VALUE.fullmatch(value) is None:
        raise Misuse(f"the value of {name} has characters that it must not have: controls, or some beyond latin-1")
    found = f"{name}: {value}\r\n", kind, _read_length(value) if kind == _LENGTH else 0
    # What is short and no secret is remembered.
    if kind != _SECRET and len(found[0]) <= _LONGEST_LINE:
        if len(_LINES) >= _MOST:
            _LINES.clear()
        _LINES[field] = found
    return found


def _learn(name: str) -> int:
    """What a name means, found out the first time that it is seen."""
    if not isinstance(name, str) or not is_token(name):
        raise Misuse(f"{name!r} is no name of a field")
    lower = name.lower()
    if lower in OF_THE_CONNECTION:
        # PEP 3333, Other HTTP Features; RFC 9110, 7.6.1.
        raise Misuse(f"{name} is of the connection, which is not the application's")
    kind = _SPECIAL.get(lower, _SECRET if is_secret(lower) else _ORDINARY)
    if len(_KINDS) >= _MOST:
        _KINDS.clear()
    _KINDS[name] = kind
    return kind


def _read_length(value: str) -> int:
    if not value.isdecimal() or not value.isascii() or len(value) > 18:
        raise Misuse(f"Content-Length {value!r}: one number of bytes is allowed")
    return int(value)


def frame(
    status: int, given: int | None, length: int | None, *, head_only: bool, chunks: bool
) -> tuple[str, int | None]:
    """Decides how a body ends: RFC 9112, 6; RFC 9110, 8.6.

    Args:
        status: The status.
        given: What Content-Length among the fields says.
        length: What the driver knows; `given` goes before.
        head_only: Whether the method is HEAD.
        chunks: Whether the client takes chunks.

    Returns:
        The field line that says so, or none; and how many bytes of a body are to be sent: None for chunks, TO_THE_END
        of the connection, or NOTHING.
    """
    if status in BARE:
        return ("Content-Length: 0\r\n" if status == 205 else ""), NOTHING
    text = ""
    if given is None and length is not None:
        given, text = length, f"Content-Length: {length}\r\n"
    if status == 304 or head_only:
        return text, NOTHING
    if given is not None:
        return text, given
    return ("Transfer-Encoding: chunked\r\n", None) if chunks else ("", TO_THE_END)
