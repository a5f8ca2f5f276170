"""What happens often and is told once in a while."""

from __future__ import annotations

import time

from appd.startup.bare import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Seldom"]

# How long one telling stands for those that follow, in seconds.
_TELL_AGAIN = 60.0


class Seldom:
    """When each of several things was told. Any thread may ask.

    Args:
        clock: Seconds of a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}
        self._lock = Lock()

    def is_due(self, about: str) -> bool:
        """Whether a thing is to be told now; then it is not for a minute.

        Args:
            about: What it is called here.
        """
        now = self._clock()
        with self._lock:
            due = now >= self._told.get(about, now)
            if due:
                self._told[about] = now + _TELL_AGAIN
        return due
