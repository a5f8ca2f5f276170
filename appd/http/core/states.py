"""Where a connection stands: two tables, one for what the client sends and one for what we send; and what `next` says.

An input that a state does not have is a bug of whoever called.
"""

from __future__ import annotations

from appd.http.core.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["CLOSED", "END", "NEED_DATA", "PAUSED", "READING", "WRITING", "Event", "Signal"]


class Signal:
    """An event that is nothing but itself."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


END: Final = Signal("END")
NEED_DATA: Final = Signal("NEED_DATA")
PAUSED: Final = Signal("PAUSED")
CLOSED: Final = Signal("CLOSED")

Event = Request | bytes | Signal

# What the client is sending: (state, what happens) → state. In `closed` nothing is read any more.
READING = {
    "head": {"request": "ended", "length": "length", "chunks": "chunks", "close": "closed"},
    "length": {"end": "ended", "close": "closed"},
    "chunks": {"end": "ended", "close": "closed"},
    "ended": {"again": "head", "close": "closed"},
    "closed": {"close": "closed"},
}
# What we are sending. A response may come before a request: 408, 503. After it the connection ends.
WRITING = {
    "idle": {"request": "due", "head": "sending", "close": "closed"},
    "due": {"interim": "due", "head": "sending", "close": "closed"},
    "sending": {"body": "sending", "end": "ended", "close": "closed"},
    "ended": {"again": "idle", "close": "closed"},
    "closed": {"close": "closed"},
}
