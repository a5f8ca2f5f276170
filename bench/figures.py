"""Figures from requests, and how they are printed."""

from __future__ import annotations

import os
import platform
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from load import OUTCOMES, Request, Tally

__all__ = [
    "Window",
    "counts",
    "judged",
    "longest_gap",
    "longest_wait",
    "median",
    "percentile",
    "surroundings",
    "table",
    "within",
]


class Window(NamedTuple):
    """When something was done to the server, in monotonic seconds."""

    began: float
    ended: float


def counts(tallies: Iterable[Tally]) -> dict[str, int]:
    """How many attempts came to what, and how many idle connections were closed."""
    total = dict.fromkeys(OUTCOMES, 0)
    idle = 0
    for tally in tallies:
        for outcome, number in Counter(one.outcome for one in tally.requests).items():
            total[outcome] += number
        idle += tally.idle_closed
    return {"requests": sum(total.values()), **total, "idle-closed": idle}


def longest_gap(requests: Sequence[Request], window: Window) -> float:
    """The longest time in a window, in seconds, in which not one request of any client was answered."""
    ends = [one.ended for one in requests if one.outcome == "ok" and window.began <= one.ended <= window.ended]
    marks = [window.began, *sorted(ends), window.ended]
    return max(later - earlier for earlier, later in pairwise(marks))


def within(requests: Iterable[Request], window: Window) -> list[Request]:
    """The requests under way at some time in a window."""
    return [one for one in requests if one.ended >= window.began and one.asked <= window.ended]


def longest_wait(requests: Iterable[Request], window: Window) -> float:
    """The longest time, in seconds, that one client waited for one answer that was under way in a window."""
    return max((one.ended - one.asked for one in within(requests, window)), default=0.0)


def percentile(requests: Iterable[Request], part: float) -> float:
    """What so large a part of the answered requests took at most, in seconds; 0 when there are none."""
    taken = sorted(one.ended - one.asked for one in requests if one.outcome == "ok")
    return taken[min(len(taken) - 1, int(len(taken) * part))] if taken else 0.0


def median(values: Iterable[float]) -> float:
    """The median; 0 of nothing."""
    return statistics.median(those) if (those := list(values)) else 0.0


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need to be: the first to the left, numbers to the right."""
    lines = [[str(one) for one in heads], *([str(one) for one in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def judged(what: str, value: float, most: float, unit: str) -> str:
    """One line: the figure, the target, the verdict."""
    return f"{what}: {value:.3g}{unit}  (to reach: {most:g}{unit} or less){'' if value <= most else '  MISSED'}"


def surroundings() -> str:
    """The machine, as far as it matters for a figure; a load of more than a few tenths spoils it."""
    busy = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load average {busy} before the run"
