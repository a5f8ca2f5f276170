"""The head of a request: lines in, a `Request` out.

Most heads are made of lines that were seen before: a client says in every request what it accepts and who it is. A line
that was found good is kept with what it means, and looked up as a whole the next time. Lines with secrets are not kept.
A head of nothing but such lines is kept as a whole, too: who asks again and again mostly asks for the same.

The common case is quick: split, look up, a few questions. Whatever is wrong with a head makes the slow way be taken,
`scan`, which goes through the lines in order and names the first fault. `scan` is also what looks at a head that is not
complete yet, so that nobody has to wait for the end of what cannot become a head; and as it judges a line when it is
complete, the verdict is the same however the bytes arrive.
"""

from __future__ import annotations

from itertools import islice

from appd.http.core.errors import Refused
from appd.http.core.fields import is_secret
from appd.http.core.grammar import FIELD, REQUEST_LINE, VERSION
from appd.http.core.limits import Limits
from appd.http.core.request import Request
from appd.http.core.target import known_host, read_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["check_field", "keep_head", "read_fields", "read_head", "scan", "seen_head"]

# Field lines that were read. Any thread may write; whoever finds it full empties it.
_LINES: dict[str, tuple[str, str]] = {}
_MOST_LINES = 2048
_LONGEST_LINE = 256
# Whole heads that were read, without bodies, and for which limits. As above.
_HEADS: dict[bytes, tuple[Limits, Request]] = {}
_MOST_HEADS = 512
_LONGEST_HEAD = 1024
# What is never the same twice. Nor are secrets kept.
_NOT_KEPT = frozenset({"content-length", "x-forwarded-for", "x-request-id", "traceparent"})
# Fields that exist once: a second one is a second opinion on where a body ends or whose request it is.
_SINGLE = frozenset({"content-length", "host", "transfer-encoding"})

# What says how the message is framed or what becomes of the connection.
_OF_THE_MESSAGE = frozenset({"connection", "content-length", "expect", "transfer-encoding"})
_TCHARS = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def read_head(lines: list[str], size: int, limits: Limits) -> Request:
    """Reads a head.

    Args:
        lines: Its lines without line ends, and without the empty one at the end.
        size: Their bytes, with the line ends.
        limits: What it may take.

    Raises:
        Refused: It is none, or asks for what is not served here.
    """
    first = lines[0]
    match = REQUEST_LINE.fullmatch(first)
    if (
        match is None
        or len(first) > limits.request_line
        or len(lines) - 1 > limits.header_count
        or size - len(first) - 2 > limits.header_size
    ):
        _explain(lines, limits)
    known = _LINES.get
    try:
        fields = [known(one) or _read_field(one) for one in islice(lines, 1, None)]
    except ValueError:
        _explain(lines, limits)
    method, target, digit = match.groups()
    minor = 1 if digit == "1" else 0
    named = dict(fields)
    if len(named) != len(fields):
        named = _joined(fields)
    authority = named.get("host")
    host = None if authority is None else known_host(authority)
    if authority is not None and host is not None and target[0] == "/" and method != "CONNECT":
        path, _, query = target.partition("?")
        request = Request(method, target, minor, fields, named, (authority, host, path, query))
    else:
        request = _aimed(method, target, minor, fields, named)
    if not _OF_THE_MESSAGE.isdisjoint(named):
        _frame(request, limits)
    return request


def seen_head(data: bytes, limits: Limits) -> Request | None:
    """What a whole head was found to be before.

    Args:
        data: The head, with its line ends.
        limits: What it may take.

    Returns:
        The request, which is shared and stays as it is; None for a head that is not known.
    """
    found = _HEADS.get(data)
    return found[1] if found is not None and found[0] is limits else None


def keep_head(data: bytes, limits: Limits, lines: list[str], request: Request) -> None:
    """Keeps what a whole head means, if it has no body, and every line of it is kept.

    Args:
        data: The head, with its line ends.
        limits: What it was judged by.
        lines: Its lines, as `read_head` took them.
        request: What it was found to be.
    """
    if len(data) > _LONGEST_HEAD or request.length != 0 or request.expects_continue or "cookie" in request.named:
        return
    if all(map(_LINES.__contains__, islice(lines, 1, None))):
        if len(_HEADS) >= _MOST_HEADS:
            _HEADS.clear()
        request.is_plain = bool(
            request.keep_alive and request.minor and request.method != "HEAD" and not limits.requests_per_connection
        )
        _HEADS[data] = (limits, request)


def read_fields(lines: list[str]) -> list[tuple[str, str]]:
    """Reads field lines.

    Args:
        lines: Each without its line end.

    Returns:
        Names, in lower case, and values.

    Raises:
        ValueError: One is none.
    """
    known = _LINES.get
    return [known(one) or _read_field(one) for one in lines]


def _read_field(line: str) -> tuple[str, str]:
    match = FIELD.fullmatch(line)
    if match is None:
        raise ValueError
    name = match[1].lower()
    field = (name, match[2].rstrip("\t "))
    if len(line) <= _LONGEST_LINE and name not in _NOT_KEPT and not is_secret(name):
        if len(_LINES) >= _MOST_LINES:
            _LINES.clear()
        _LINES[line] = field
    return field


def _joined(fields: list[tuple[str, str]]) -> dict[str, str]:
    named: dict[str, str] = {}
    for name, value in fields:
        before = named.get(name)
        if before is None:
            named[name] = value
        elif name in _SINGLE:
            raise Refused(400, f"more than one {name} field")
        else:
            # RFC 9110, 5.3; RFC 6265, 5.4 for cookies.
            named[name] = f"{before}{'; ' if name == 'cookie' else ', '}{value}"
    return named


def _aimed(method: str, target: str, minor: int, fields: list[tuple[str, str]], named: dict[str, str]) -> Request:
    """A request that is for anything else than a path on a host that is well known."""
    host = named.get("host")
    aim = read_target(method, target, minor, () if host is None else (host,))
    if host is not None and aim.authority != host:
        # As RFC 9112, 3.2.2 wants a proxy to do it: applications look at Host.
        named["host"] = aim.authority
        fields = [(name, aim.authority) if name == "host" else (name, value) for name, value in fields]
    return Request(method, target, minor, fields, named, aim)


def _frame(request: Request, limits: Limits) -> None:
    """Fills in how the body is framed (RFC 9112, 6) and whether the connection stays (9.3)."""
    named = request.named
    length, coding = named.get("content-length"), named.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            # RFC 9112, 6.1 leaves a choice; whoever sends both means somebody to believe the other one.
            raise Refused(400, "both Content-Length and Transfer-Encoding")
        _check_coding(request.minor, coding)
        request.length = None
    elif length is not None:
        # isdecimal takes other scripts' digits, which latin-1 has none of.
        if not length.isdecimal() or len(length) > 18:
            raise Refused(400, "Content-Length is no number of bytes")
        request.length = int(length)
        if limits.body_size and request.length > limits.body_size:
            raise Refused(413, f"a body of {request.length} bytes, more than body-size {limits.body_size}")
    connection = named.get("connection")
    if connection is not None and not (connection == "keep-alive" and request.minor):
        options = [one.strip("\t ") for one in connection.lower().split(",")]
        # RFC 9112, 9.3: close wins; HTTP/1.0 asks for it to stay.
        request.keep_alive = "close" not in options and (request.minor == 1 or "keep-alive" in options)
    expect = named.get("expect")
    if expect is not None and request.minor:
        # RFC 9110, 10.1.1: the only one there is; HTTP/1.0 has none.
        if expect.lower() != "100-continue":
            raise Refused(417, "an expectation other than 100-continue")
        request.expects_continue = request.length != 0


def _check_coding(minor: int, value: str) -> None:
    if minor == 0:
        # RFC 9112, 6.1: such framing is faulty.
        raise Refused(400, "Transfer-Encoding in HTTP/1.0")
    codings = [one.strip("\t ") for one in value.lower().split(",")]
    if codings == ["chunked"]:
        return
    if codings[-1] == "chunked" and codings.count("chunked") == 1 and all(codings):
        raise Refused(501, "a transfer coding other than chunked")
    # RFC 9112, 6.3: where chunked is not last the end of the body cannot be told.
    raise Refused(400, "Transfer-Encoding is not chunked, once and last")


def _explain(lines: list[str], limits: Limits) -> NoReturn:
    scan("\r\n".join([*lines, "", ""]).encode("latin-1"), 0, limits)
    raise AssertionError(f"refused without a reason: {lines!r}")


def scan(data: bytes, at: int, limits: Limits) -> int:
    """Looks at the lines of a head in order, as far as there are any.

    Args:
        data: The head, from its first byte on, as far as it has come.
        at: What was returned before for the same head: so much of it is known to be good.
        limits: What it may take.

    Returns:
        Where the first incomplete line begins.

    Raises:
        Refused: This is no head, whatever comes.
    """
    if data and chr(data[0]) not in _TCHARS:
        raise Refused(400, "no request line: the first byte begins no method")
    count = data.count(b"\n", 0, at)
    start = data.find(b"\n") + 1 if at else 0
    while True:
        end = data.find(b"\n", at)
        size = (end + 1 if end >= 0 else len(data)) - at
        if not at:
            if size > limits.request_line + 2:
                has_target = b" " in data[: limits.request_line]
                raise Refused(414 if has_target else 400, "the request line is longer than request-line")
        elif at + size - start > limits.header_size + 2:
            raise Refused(431, "the header fields are longer than header-size")
        if end < 0:
            return at
        _check_line(data[at : end + 1].decode("latin-1"), count, limits)
        at = end + 1
        count += 1


def _check_line(line: str, count: int, limits: Limits) -> None:
    """Judges a complete line of a head, the `count`th of it: the request line is number 0."""
    if not line.endswith("\r\n"):
        raise Refused(400, "a line that ends with LF alone")
    line = line[:-2]
    if not count:
        _check_request_line(line)
    elif line:
        if count > limits.header_count:
            raise Refused(431, "more header fields than header-count")
        check_field(line)


def _check_request_line(line: str) -> None:
    if REQUEST_LINE.fullmatch(line):
        return
    parts = line.split(" ")
    if len(parts) == 2:
        raise Refused(400, "a request line without a version, as in HTTP/0.9")
    if len(parts) != 3:
        raise Refused(400, "a request line of other than three parts")
    method, target, version = parts
    if VERSION.fullmatch(version) and version not in ("HTTP/1.0", "HTTP/1.1"):
        # HTTP/2 begins with "PRI * HTTP/2.0" (RFC 9113, 3.4).
        raise Refused(505, f"{version} is not spoken here")
    if not REQUEST_LINE.fullmatch(f"GET / {version}"):
        raise Refused(400, "the version is none")
    if not REQUEST_LINE.fullmatch(f"{method} / HTTP/1.1"):
        # RFC 9112, 3: a method longer than any that is implemented.
        long = len(method) > 64 and all(one in _TCHARS for one in method)
        raise Refused(501 if long else 400, "the method is longer than 64" if long else "the method is no token")
    raise Refused(400, "the request target has characters that it must not have" if target else "no request target")


def check_field(line: str) -> None:
    """Judges a field line.

    Args:
        line: Without its line end.

    Raises:
        Refused: It is none.
    """
    if FIELD.fullmatch(line):
        return
    name, colon, value = line.partition(":")
    if line[0] in " \t":
        raise Refused(400, "a folded field line, which RFC 9112 has done away with")
    if not colon:
        raise Refused(400, "a field line without a colon")
    if name.endswith((" ", "\t")):
        raise Refused(400, "space before the colon of a field")
    if not name or not all(one in _TCHARS for one in name):
        raise Refused(400, "a field name that is no token")
    raise Refused(400, "a carriage return within a line" if "\r" in value else "a control character in a field value")
