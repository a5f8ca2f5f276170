"""The states of a stream as a server sees it, and what a frame means in each: RFC 9113, 5.1.

Two tables. `NEXT` says where a stream goes; what is not in it cannot happen. `ARRIVES` says what becomes of a frame.
Streams that are over are not kept: a number below the last one that was begun is `ENDED`, unless it is remembered how
else it came to its end, or that it was never begun.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto

from appd.http.h2.codes import Frame

__all__ = ["ARRIVES", "NEXT", "Input", "State", "Verdict"]


class State(IntEnum):
    """Where a stream is.

    Attributes:
        IDLE: Not begun.
        OPEN: Both sides send.
        REMOTE: The client has ended its side: half-closed (remote).
        LOCAL: We have ended ours: half-closed (local).
        ENDED: Both have: closed.
        RESET_HERE: We have reset it; what the client sent before it knew may still come.
        RESET_THERE: The client has reset it.
        SKIPPED: A later one was begun first, so that it never will be (RFC 9113, 5.1.1).
    """

    IDLE = 0
    OPEN = auto()
    REMOTE = auto()
    LOCAL = auto()
    ENDED = auto()
    RESET_HERE = auto()
    RESET_THERE = auto()
    SKIPPED = auto()


class Input(IntEnum):
    """What moves a stream.

    Attributes:
        BEGINS: The client's HEADERS.
        CLIENT_ENDS: END_STREAM from the client.
        WE_END: END_STREAM to it.
        CLIENT_RESETS: RST_STREAM from it.
        WE_RESET: RST_STREAM to it.
    """

    BEGINS = 0
    CLIENT_ENDS = auto()
    WE_END = auto()
    CLIENT_RESETS = auto()
    WE_RESET = auto()


class Verdict(Enum):
    """What becomes of a frame.

    Attributes:
        TAKE: It is taken.
        IGNORE: Nothing; it was on its way, or says nothing.
        STREAM_CLOSED: The stream is reset with STREAM_CLOSED.
        CONNECTION_CLOSED: The connection ends with STREAM_CLOSED.
        PROTOCOL: The connection ends with PROTOCOL_ERROR.
    """

    TAKE = auto()
    IGNORE = auto()
    STREAM_CLOSED = auto()
    CONNECTION_CLOSED = auto()
    PROTOCOL = auto()


NEXT: dict[tuple[State, Input], State] = {
    (State.IDLE, Input.BEGINS): State.OPEN,
    (State.OPEN, Input.CLIENT_ENDS): State.REMOTE,
    (State.OPEN, Input.WE_END): State.LOCAL,
    (State.REMOTE, Input.WE_END): State.ENDED,
    (State.LOCAL, Input.CLIENT_ENDS): State.ENDED,
    **{(one, Input.CLIENT_RESETS): State.RESET_THERE for one in (State.OPEN, State.REMOTE, State.LOCAL)},
    **{(one, Input.WE_RESET): State.RESET_HERE for one in (State.OPEN, State.REMOTE, State.LOCAL)},
}

_TAKEN = {Frame.PRIORITY: Verdict.IGNORE, Frame.RST_STREAM: Verdict.TAKE, Frame.WINDOW_UPDATE: Verdict.TAKE}
_LATE = dict.fromkeys((Frame.PRIORITY, Frame.RST_STREAM, Frame.WINDOW_UPDATE), Verdict.IGNORE)
_BOTH = (Frame.DATA, Frame.HEADERS)

ARRIVES: dict[State, dict[Frame, Verdict]] = {
    State.IDLE: {
        Frame.DATA: Verdict.PROTOCOL,
        Frame.HEADERS: Verdict.TAKE,
        Frame.PRIORITY: Verdict.IGNORE,
        Frame.RST_STREAM: Verdict.PROTOCOL,
        Frame.WINDOW_UPDATE: Verdict.PROTOCOL,
    },
    State.OPEN: _TAKEN | dict.fromkeys(_BOTH, Verdict.TAKE),
    State.LOCAL: _TAKEN | dict.fromkeys(_BOTH, Verdict.TAKE),
    State.REMOTE: _TAKEN | dict.fromkeys(_BOTH, Verdict.STREAM_CLOSED),
    State.ENDED: _LATE | dict.fromkeys(_BOTH, Verdict.CONNECTION_CLOSED),
    State.RESET_HERE: _LATE | dict.fromkeys(_BOTH, Verdict.IGNORE),
    State.RESET_THERE: _LATE | dict.fromkeys(_BOTH, Verdict.STREAM_CLOSED),
    State.SKIPPED: _LATE | dict.fromkeys(_BOTH, Verdict.PROTOCOL),
}
