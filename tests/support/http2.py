"""HTTP/2 for tests: the corpus of rules, frames by hand, and what a server's frames say."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hpack import Decoder

from appd.http.core.errors import Refused
from appd.http.core.limits import Limits
from appd.http.h2.codes import Code, Frame
from appd.http.h2.connection import Connection
from appd.http.h2.encoding import encode_fields
from appd.http.h2.events import Event, Kind
from appd.http.h2.requests import read_request

__all__ = [
    "CORPUS",
    "LIMITS",
    "PREFACE",
    "Case",
    "cases",
    "connection",
    "frame",
    "frames_in",
    "greeting",
    "literal",
    "outcome_of_bytes",
    "outcome_of_core",
]

CORPUS = Path(__file__).parents[1] / "corpora" / "http2" / "rules.cases"
LIMITS = Limits()
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FLAGS = {"E": 0x1, "A": 0x1, "H": 0x4, "P": 0x8, "R": 0x20, "-": 0}
_EMPTY_SETTINGS = bytes.fromhex("000000040000000000")


class Case(NamedTuple):
    """One rule: its section and title, what a client sends, and what becomes of it."""

    title: str
    data: bytes
    expected: str


def frame(kind: int, flags: int, stream: int, data: bytes = b"") -> bytes:
    """A frame."""
    return struct.pack(">L", len(data))[1:] + bytes((kind, flags)) + struct.pack(">L", stream) + data


def literal(name: str, value: str) -> bytes:
    """A field, literal and without indexing: RFC 7541, 6.2.2."""
    assert max(len(name), len(value)) < 127
    return bytes((0, len(name))) + name.encode("latin-1") + bytes((len(value),)) + value.encode("latin-1")


def greeting() -> bytes:
    """What a client begins with."""
    return PREFACE + _EMPTY_SETTINGS


_BLOCKS = {
    "get": b"\x82\x86\x84\x01\x01a",
    "post": b"\x83\x86\x84\x01\x01a",
    "head": b"\x02\x04HEAD\x86\x84\x01\x01a",
}


def _carried(word: str) -> bytes:
    if word in _BLOCKS:
        return _BLOCKS[word]
    kind, _, value = word.partition(":")
    if kind == "hex":
        return bytes.fromhex(value)
    if kind == "zero":
        return bytes(int(value))
    if kind == "n":
        return struct.pack(">L", int(value))
    if kind == "set":
        key, _, number = value.partition("=")
        return struct.pack(">HL", int(key), int(number))
    name, _, value = word.partition("=")
    return literal(name, value)


def cases() -> list[Case]:
    """The corpus."""
    found = []
    for block in CORPUS.read_text("ascii").split("\n## ")[1:]:
        title, *lines = block.strip().split("\n")
        data = PREFACE if "!bare" in lines else greeting()
        expected = ""
        for line in lines:
            if line.startswith("= "):
                expected = line[2:]
            elif line.startswith("raw "):
                data += bytes.fromhex(line[4:])
            elif line != "!bare":
                kind, stream, flags, *carried = line.split()
                number = sum({_FLAGS[one] for one in flags})
                data += frame(Frame[kind], number, int(stream), b"".join(map(_carried, carried)))
        assert expected, title
        found.append(Case(title, data, expected))
    return found


def connection() -> Connection:
    """A new connection."""
    return Connection(100, LIMITS.header_size + LIMITS.request_line)


def outcome_of_core(pieces: Sequence[bytes]) -> str:
    """What becomes of what a client sends, as the corpus says it. Requests are answered when all has come."""
    core = connection()
    events: list[Event] = []
    for piece in pieces:
        events += core.receive(piece)
    status = 0
    number = 0
    for kind, stream, what, more in events:
        if kind == Kind.FAULT:
            return f"connection {what.name}"
        if kind == Kind.CLOSED:
            return f"stream {stream} {what.name}"
        if kind == Kind.REQUEST and stream >= number:
            number = stream
            try:
                status = 200 if read_request(what, LIMITS, ended=more).path == "*" else 404
            except Refused as refused:
                status = refused.status
    if status and number in core.flows:
        core.send_head(number, encode_fields([(":status", str(status))]), end=True)
        return f"request {number} {status}"
    return "taken"


def frames_in(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The frames that are complete: type, flags, stream, what they carry."""
    at = 0
    while len(data) - at >= 9:
        size = int.from_bytes(data[at : at + 3], "big")
        if len(data) - at < 9 + size:
            return
        kind, flags = data[at + 3], data[at + 4]
        yield kind, flags, int.from_bytes(data[at + 5 : at + 9], "big"), data[at + 9 : at + 9 + size]
        at += 9 + size


def outcome_of_bytes(data: bytes) -> str:
    """What a server's frames say, as the corpus says it."""
    decoder, status, reset = Decoder(), "", ""
    for kind, _flags, stream, carried in frames_in(data):
        if kind == Frame.GOAWAY and (code := int.from_bytes(carried[4:8], "big")):
            return f"connection {Code(code).name}"
        if kind == Frame.RST_STREAM and (code := int.from_bytes(carried, "big")):
            reset = reset or f"stream {stream} {Code(code).name}"
        if kind == Frame.HEADERS:
            fields = [(bytes(one[0]), bytes(one[1])) for one in decoder.decode(carried, raw=True)]
            status = f"request {stream} {dict(fields)[b':status'].decode()}"
    return reset or status or "taken"
