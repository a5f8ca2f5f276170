"""The core of HTTP driven with bytes: corpora, and what comes out of a connection as text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from appd.http.core.connection import CLOSED, END, NEED_DATA, PAUSED, Connection
from appd.http.core.date import Origin
from appd.http.core.errors import Refused
from appd.http.core.limits import Limits
from appd.http.core.request import Request

__all__ = ["CORPORA", "LIMITS", "ORIGIN", "Case", "accepted", "cases", "connection", "events"]

CORPORA = Path(__file__).parents[1] / "corpora" / "http1"
LIMITS = Limits(body_size=1000)
ORIGIN = Origin("appd", clock=lambda: 784111777)

_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|([rnt0\\]))")
_CONTROLS = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
_REPEAT = re.compile(r"\\\(((?:[^()])*)\*([0-9]+)\)", re.S)


class Case(NamedTuple):
    """One case of a corpus: its title, what must come out, and the bytes."""

    title: str
    expected: list[str]
    data: bytes


def cases(path: Path) -> list[Case]:
    """Reads a file of a corpus; README.md beside it has the format."""
    found = []
    for block in path.read_text("ascii").strip().split("\n\n"):
        title, *lines = block.split("\n")
        expected = [_unescaped(one[3:]) for one in lines if one.startswith("=> ")]
        data = _unescaped("".join(one for one in lines if not one.startswith("=> "))).encode("latin-1")
        found.append(Case(title.strip("[]"), expected, data))
    return found


def _unescaped(text: str) -> str:
    while (repeated := _REPEAT.sub(lambda match: match[1] * int(match[2]), text)) != text:
        text = repeated
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _CONTROLS[match[2]], text)


def connection(limits: Limits = LIMITS) -> Connection:
    """A new connection."""
    return Connection(limits, ORIGIN)


def events(pieces: Iterable[bytes], limits: Limits = LIMITS, *, ended: bool = False) -> list[str]:
    """What comes out of a connection that answers each request with 200 when it has ended.

    Args:
        pieces: The bytes, as they arrive.
        limits: The limits.
        ended: Whether the client ends its side after them.

    Returns:
        Lines as in the corpora.
    """
    taker = _Taker(connection(limits))
    for data in [*pieces, *([b""] if ended else [])]:
        taker.connection.receive(data)
        if taker.take():
            return taker.found
    return [*taker.found, "wait"]


class _Taker:
    """Takes events and answers."""

    def __init__(self, one: Connection) -> None:
        self.connection = one
        self.found: list[str] = []
        self._body: bytes | None = None

    def take(self) -> bool:
        """Takes every event that there is; whether the connection has ended."""
        one = self.connection
        while True:
            try:
                event = one.next()
            except Refused as refused:
                self.found.append(f"{refused.status} {refused.reason}")
                _check_refusal(one, refused)
                return True
            if event is NEED_DATA or event is CLOSED:
                return event is CLOSED
            if isinstance(event, bytes):
                assert event, "an event of nothing"
                self._body += event
                continue
            if isinstance(event, Request):
                self._body = b"" if event.length != 0 else None
            if event is END or event.length == 0:
                assert one.next() is PAUSED
                request = one.request
                one.whole(200, (), b"ok")
                self.found.append(_line(request, self._body, one.closing))


def _check_refusal(one: Connection, refused: Refused) -> None:
    """A refusal is a whole response that says that it is the last, and nothing comes after it."""
    sent = one.refusal(refused)
    assert sent.startswith(b"HTTP/1.1 %d " % refused.status)
    assert b"\r\nConnection: close\r\n" in sent
    assert refused.reason.encode() not in sent
    assert one.closing
    assert one.next() is CLOSED


def _line(request: Request, body: bytes | None, closing: bool) -> str:
    line = f"{request.method} {request.target}"
    if request.host != "a":
        line += f" host={request.host}"
    if body is not None:
        line += f" body={body.decode('latin-1')}"
    if request.trailers:
        line += " trailers=" + ",".join(f"{name}:{value}" for name, value in request.trailers)
    return line + (" close" if closing else "")


def accepted(found: list[str], expected: list[str]) -> bool:
    """Whether lines are as a corpus wants them: exactly, but for reasons, which hold some words."""
    return len(found) == len(expected) and all(map(_same, found, expected))


def _same(found: str, expected: str) -> bool:
    if expected[:3].isdigit():
        return found.startswith(expected[:4]) and expected[4:] in found
    return found == expected
