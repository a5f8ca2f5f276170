"""What a connection keeps of each of its streams: the state, and both windows (RFC 9113, 5.2)."""

from __future__ import annotations

from appd.http.h2.codes import Code
from appd.http.h2.faults import StreamFault
from appd.http.h2.states import NEXT, Input, State

__all__ = ["WINDOW", "Flow"]

WINDOW = 65535
"""The window that a stream begins with, of ours as of theirs: RFC 9113, 6.9.2."""


class Flow:
    """A stream that is open, or half of it.

    Args:
        window: How much may be sent.

    Attributes:
        state: Where it is.
        window: How much may be sent; below 0 after a change of the client's settings (RFC 9113, 6.9.2).
        credit: How much may come.
        taken: How much was taken of what came and is not given back yet.
        left: How much of the body is to come, as its Content-Length says; -1 where it does not.
    """

    __slots__ = ("credit", "left", "state", "taken", "window")

    def __init__(self, window: int) -> None:
        self.state = State.OPEN
        self.window = window
        self.credit = WINDOW
        self.taken = 0
        self.left = -1

    def move(self, what: Input) -> State:
        """Goes to the next state.

        Returns:
            That.

        Raises:
            KeyError: There is no such way, which is our fault.
        """
        state = self.state = NEXT[self.state, what]
        return state

    def count(self, size: int, *, ended: bool) -> None:
        """Counts a part of the body against Content-Length: RFC 9113, 8.1.1.

        Raises:
            StreamFault: They differ.
        """
        left = self.left
        if left >= 0:
            self.left = left = left - size
            if left < 0 or (ended and left):
                raise StreamFault(Code.PROTOCOL_ERROR, "the body is not as long as its Content-Length")
