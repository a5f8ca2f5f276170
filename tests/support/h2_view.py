"""What h2 makes of a client's bytes, beside what we make of them.

h2 ends the connection for most of what RFC 9113 lets a server answer with RST_STREAM; to be refused is either here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import h2.events as e
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hyperframe.exceptions import HyperframeError

from appd.http.core.errors import Refused
from appd.http.h2.codes import Frame
from appd.http.h2.events import Kind
from appd.http.h2.requests import read_request
from support.http2 import LIMITS, PREFACE, connection, frames_in

__all__ = ["TAKEN", "Seen", "by_h2", "by_us", "differ"]

TAKEN = {
    "GOAWAY": "h2 takes nothing after a client's GOAWAY; RFC 9113, 6.8 has what was begun go on",
    "PRIORITY": "h2 refuses a stream that depends on itself, as RFC 7540 did; RFC 9113, 5.3.2 has the field ignored",
    "ALTSVC": "hyperframe reads ALTSVC and may find it malformed; RFC 7838, 4 has a server ignore it",
    "HEADERS": "hyperframe refuses HEADERS of nothing but padding; RFC 9113, 6.2 forbids more padding than there is room",
    "WINDOW_UPDATE": "hyperframe takes the reserved bit for a part of the number; RFC 9113, 6.9 and 4.1 have it ignored",
}
"""What is taken though h2 refuses it, and why."""

_ALTSVC = 0xA
_LIST = LIMITS.header_size + LIMITS.request_line


class Seen(NamedTuple):
    """What was made of bytes.

    Attributes:
        events: Requests, parts of bodies (joined), ends, resets.
        refused: Why something was refused; "" when nothing was.
    """

    events: list[Any]
    refused: str


def by_us(pieces: Sequence[bytes]) -> Seen:
    """What our core sees; nothing is answered."""
    core, found, refused = connection(), list[Any](), ""
    for piece in pieces:
        for kind, stream, what, more in core.receive(piece):
            if kind == Kind.REQUEST:
                found.append(("request", stream, what.fields))
                if more:
                    found.append(("end", stream))
                try:
                    read_request(what, LIMITS, ended=more)
                except Refused as error:
                    refused = refused or str(error)
            elif kind == Kind.DATA:
                _add(found, stream, what)
            elif kind == Kind.END:
                if what is not None:
                    found.append(("trailers", stream, what.fields))
                found.append(("end", stream))
            elif kind == Kind.RESET:
                found.append(("reset", stream, what))
            elif kind in (Kind.CLOSED, Kind.FAULT):
                refused = refused or f"{what.name}: {more}"
    return Seen(found, refused)


def by_h2(data: bytes) -> Seen:
    """What h2 sees."""
    h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    values = {SettingCodes.MAX_CONCURRENT_STREAMS: 100, SettingCodes.MAX_HEADER_LIST_SIZE: _LIST}
    h2.local_settings = Settings(client=False, initial_values=values)
    h2.decoder.max_header_list_size = _LIST
    h2.initiate_connection()
    h2.increment_flow_control_window((1 << 20) - 65535)
    found: list[Any] = []
    try:
        events = h2.receive_data(data)
    except (H2Error, HyperframeError) as error:
        return Seen(found, f"{type(error).__name__}: {error}")
    refused = ""
    for event in events:
        if isinstance(event, e.RequestReceived):
            found.append(("request", event.stream_id, _fields(event.headers)))
        elif isinstance(event, e.DataReceived):
            _add(found, event.stream_id, event.data)
        elif isinstance(event, e.TrailersReceived):
            found.append(("trailers", event.stream_id, _fields(event.headers)))
        elif isinstance(event, e.StreamEnded):
            found.append(("end", event.stream_id))
        elif isinstance(event, e.StreamReset):
            if event.remote_reset:
                found.append(("reset", event.stream_id, int(event.error_code)))
            else:
                refused = refused or f"reset with {event.error_code}"
    return Seen(found, refused)


def _fields(headers: Any) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((bytes(name), bytes(value)) for name, value in headers)


def _add(found: list[Any], stream: int, data: bytes) -> None:
    if found and found[-1][:2] == ("data", stream):
        found[-1] = ("data", stream, found[-1][2] + data)
    elif data:
        found.append(("data", stream, data))


def differ(data: bytes) -> str | None:
    """How the two differ where they must not: what h2 refuses is refused, and what both take is the same to both."""
    # Of a frame that is not complete h2 may judge the head already.
    data = data[: len(PREFACE) + sum(9 + len(one[3]) for one in frames_in(data[len(PREFACE) :]))]
    ours, theirs = by_us([data]), by_h2(data)
    if theirs.refused and not ours.refused:
        return None if _excuse(data) in TAKEN else f"taken: {data.hex()}; h2: {theirs.refused}; {ours.events}"
    if not theirs.refused and not ours.refused and ours.events != theirs.events:
        return f"understood differently: {data.hex()}: {ours.events} and {theirs.events}"
    return None


def _excuse(data: bytes) -> str:
    """What in the bytes h2 may have refused for a reason that is listed."""
    for kind, flags, stream, carried in frames_in(data[len(PREFACE) :]):
        if kind == _ALTSVC:
            return "ALTSVC"
        if kind == Frame.GOAWAY:
            return "GOAWAY"
        if kind == Frame.WINDOW_UPDATE and carried[:1] >= b"\x80":
            return "WINDOW_UPDATE"
        if kind == Frame.HEADERS and flags & 0x8 and carried and carried[0] == len(carried) - 1:
            return "HEADERS"
        at = 1 if flags & 0x8 and kind == Frame.HEADERS else 0
        if (kind == Frame.PRIORITY or (kind == Frame.HEADERS and flags & 0x20)) and stream & 0x7FFFFFFF == (
            int.from_bytes(carried[at : at + 4], "big") & 0x7FFFFFFF
        ):
            return "PRIORITY"
    return ""
