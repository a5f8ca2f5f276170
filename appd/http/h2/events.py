"""What has come, as tuples: kind, stream (0 for the connection), and what belongs to it."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any

__all__ = ["Event", "Kind"]

Event = tuple[int, int, Any, Any]


class Kind(IntEnum):
    """Kinds of events, and what follows the stream.

    Attributes:
        REQUEST: A stream has begun: `Head`, whether it has ended, too.
        DATA: A part of a body: bytes, what it counts for in the windows.
        END: The end of a body: the `Head` of its trailers, or None.
        RESET: The client has reset a stream: the code; None.
        OPENED: A window was opened; of a stream, or for 0 of the connection: by how much; None.
        SETTINGS: The client has said something of itself, or has acknowledged what we said; None; None.
        CONTROL: A frame that costs the client nothing: what it is, for people; None.
        LEAVES: The client begins no further stream: GOAWAY: the code; None.
        CLOSED: We have reset a stream for what the client has done: the code; the reason.
        FAULT: The connection is over for what the client has done: the code; the reason. The last one.
    """

    REQUEST = 0
    DATA = auto()
    END = auto()
    RESET = auto()
    OPENED = auto()
    SETTINGS = auto()
    CONTROL = auto()
    LEAVES = auto()
    CLOSED = auto()
    FAULT = auto()
