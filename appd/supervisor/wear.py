"""When a worker has served or grown enough to be replaced by a fresh one: max-requests and max-memory.

What leaks a little with each request is bounded so, whatever leaks. The worker only asks; the supervisor starts a new
one beside it and has this one drain when that serves.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["INTERVAL", "Wear", "resident_memory"]

# How often to look, in seconds. Each time costs a read of /proc/self/statm, some ten microseconds.
INTERVAL = 1.0
# Each worker draws its own limit of requests from this part of max-requests up to the whole, so that workers that share
# the load evenly do not all ask at once.
_JITTER = 0.9
_MB = 1 << 20


def resident_memory(pid: int | str = "self") -> int:
    """The resident memory of a process in bytes, proc(5); 0 when it has gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _draw(low: float, high: float) -> float:
    from random import uniform  # the supervisor has no use for it

    return uniform(low, high)


class Wear:
    """Watches one worker and asks once, in words for the journal.

    Args:
        max_requests: How many requests are enough; None for never.
        max_memory: How much resident memory is too much, in bytes; None for any.
        requests: Says how many requests there have been.
        ask: Called with the reason.
        warn: Called with one line when a limit makes no sense.
        resident: Says how much memory is resident, in bytes.
        draw: Draws a number between two.

    Attributes:
        asked: Whether it has asked.
    """

    def __init__(
        self,
        max_requests: int | None,
        max_memory: int | None,
        requests: Callable[[], int],
        ask: Callable[[str], None],
        warn: Callable[[str], None],
        resident: Callable[[], int] = resident_memory,
        draw: Callable[[float, float], float] = _draw,
    ) -> None:
        self.asked = False
        self._max_requests = max_requests
        self._enough = round(draw(_JITTER * max_requests, max_requests)) if max_requests is not None else None
        self._max_memory = max_memory
        self._requests = requests
        self._ask = ask
        self._resident = resident
        memory = resident() if max_memory is not None else 0
        if max_memory is not None and memory >= max_memory:
            # The fresh one would be as large: there would be no end of replacing.
            warn(f"max-memory {_mb(max_memory)} has no effect: a worker has {_mb(memory)} before its first request")
            self._max_memory = None

    @property
    def pointless(self) -> bool:
        """Whether there is nothing to look for, or not any more."""
        return self.asked or (self._enough is None and self._max_memory is None)

    def look(self) -> None:
        """Asks when it is time; to be called every `INTERVAL` seconds."""
        if self.pointless:
            return
        requests = self._requests() if self._enough is not None else 0
        memory = self._resident() if self._max_memory is not None else 0
        if self._enough is not None and requests >= self._enough:
            self._say(f"it has served {requests} requests (max-requests {self._max_requests})")
        elif self._max_memory is not None and memory > self._max_memory:
            self._say(f"it has grown to {_mb(memory)} (max-memory {_mb(self._max_memory)})")

    def _say(self, reason: str) -> None:
        self.asked = True
        self._ask(reason)


def _mb(size: int) -> str:
    return f"{size / _MB:.0f} MB"
