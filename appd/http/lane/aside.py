"""Doors that are left to other processes for a moment."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appd.http.lane.door import Door

__all__ = ["Aside"]


class Aside:
    """The doors, and until when each is left alone. Any thread may call."""

    def __init__(self) -> None:
        # Of dicts CPython does each operation in one piece; nothing else is shared.
        self._ends: dict[Door, float] = {}

    def put(self, door: Door, seconds: float) -> None:
        """Leaves a door alone, which is shut."""
        self._ends[door] = time.monotonic() + seconds

    def drop(self, door: Door) -> None:
        """Forgets a door."""
        self._ends.pop(door, None)

    def bring_back(self, now: float, wait: float | None) -> float | None:
        """Has the doors come back that were left alone for long enough.

        Args:
            now: The time.
            wait: How long there is nothing else to do, in seconds; None for ever.

        Returns:
            How long there is nothing to do.
        """
        for door, ends in list(self._ends.items()):
            if ends <= now:
                if self._ends.pop(door, None) is not None:
                    door.come_back()
            elif wait is None or ends - now < wait:
                wait = ends - now
        return wait
