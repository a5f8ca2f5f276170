"""Deadlines of many connections, kept so that those which nothing happens to cost nothing.

A deadline that moves later, as it does with each request, is an attribute that is set: the connection is looked at when
its old time has come, and put where it belongs by then. Time runs in ticks of a quarter of a second, and a deadline
passes in the tick after its own.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol
else:
    Protocol = object

__all__ = ["PER_SECOND", "Deadlines", "Timed"]

# Ticks.
PER_SECOND = 4


class Timed(Protocol):
    """What has a deadline.

    Attributes:
        deadline: When something is done about it, in seconds of the clock; it may be set later at any time.
        tick: Where it is kept; 0 for nowhere. Not for others to touch.
    """

    deadline: float
    tick: int


class Deadlines:
    """Things by the time at which somebody has to look at them. Any thread may call.

    Args:
        sooner: Called when something has to be looked at earlier than all else.
    """

    def __init__(self, sooner: Callable[[], None] = lambda: None) -> None:
        # Of dicts and attributes CPython does each operation in one piece; nothing else is shared. Dicts as sets: there
        # are as many entries as connections, and a set takes up to three times as much for one.
        self._ticks: dict[int, dict[Any, None]] = {}
        self._sooner = sooner
        self._first = float("inf")
        self._last = 0

    def put(self, one: Timed, deadline: float, *, sets: bool = True) -> None:
        """Sets a deadline, which may be earlier than the one before.

        Args:
            one: What has it.
            deadline: The time.
            sets: Whether it is the deadline; else one only looks by then, and the deadline is another's to set.
        """
        if sets:
            one.deadline = deadline
        tick = int(deadline * PER_SECOND) + 1
        kept = one.tick
        if 0 < kept <= tick:
            return
        if kept:
            self.drop(one)
        # Whoever has the same tick shares the number.
        last = self._last
        if tick == last:
            tick = last
        else:
            self._last = tick
        one.tick = tick
        while True:
            those = self._ticks.setdefault(tick, {})
            those[one] = None
            # Unless it was taken away in between.
            if self._ticks.get(tick) is those:
                break
        if tick < self._first:
            self._first = tick
            self._sooner()

    def drop(self, one: Timed) -> None:
        """Forgets a deadline."""
        those = self._ticks.get(one.tick)
        one.tick = 0
        if those is not None:
            those.pop(one, None)

    def due(self, now: float) -> list[Any]:
        """Takes out what is past its deadline. One thread calls this.

        Args:
            now: The time.
        """
        passed: list[Any] = []
        this = int(now * PER_SECOND)
        for tick in [one for one in list(self._ticks) if one <= this]:
            for one in list(self._ticks.pop(tick, ())):
                if one.tick != tick:
                    continue
                one.tick = 0
                if one.deadline <= now:
                    passed.append(one)
                else:
                    self.put(one, one.deadline)
        return passed

    def wait(self, now: float) -> float | None:
        """How long nothing is due, in seconds; None for ever."""
        first = min(list(self._ticks), default=None)
        self._first = float("inf") if first is None else first
        return None if first is None else max(0.0, first / PER_SECOND - now)
