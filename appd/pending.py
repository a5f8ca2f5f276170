"""How much is to be done: calls that run and calls that wait for a thread, of each mount.

When the number of those that wait climbs and climbs, the service is overloaded, and somebody should know: so it is in
STATUS= while it lasts, and in `appd status`. zope.server has it as `getPendingTasksEstimate`.
"""

from __future__ import annotations

from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Pending", "pack", "sentence", "totals", "unpack"]

# More of them would not fit into a message of a worker, and nobody would read them.
_MOST, _LONGEST = 100, 256


class Pending(NamedTuple):
    """The calls of one mount in one process.

    Attributes:
        server: The server; "" for what is of none.
        mount: Which mount of it, as `appd explain` has it.
        running: How many calls run.
        queued: How many wait.
        threads: How many may run at a time.
        refused: How many found the queue full since the start, and were answered 503.
        cancelled: How many have waited since the start and were not made, as their client had left or the drain ended.
    """

    server: str
    mount: str
    running: int
    queued: int
    threads: int
    refused: int = 0
    cancelled: int = 0


def pack(rows: Iterable[Pending]) -> str:
    """Writes those that have anything to tell as one word."""
    import json

    telling = [one for one in rows if one.running or one.queued or one.refused or one.cancelled]
    # The longest queues first, should there be too many.
    telling.sort(key=lambda one: (-one.queued, -one.running))
    shortened = [(one.server[:_LONGEST], one.mount[:_LONGEST], *one[2:]) for one in telling[:_MOST]]
    return json.dumps(shortened, separators=(",", ":")).replace(" ", "\\u0020")


def unpack(word: str) -> list[Pending]:
    """Reads what `pack` wrote; what nobody packed is nothing. Hosted code may say anything in its place."""
    import json

    try:
        return [
            Pending(str(server)[:_LONGEST], str(mount)[:_LONGEST], *(min(max(int(one), 0), 2**40) for one in numbers))
            for server, mount, *numbers in json.loads(word or "[]")[:_MOST]
        ]
    except (ValueError, TypeError, RecursionError, OverflowError):
        return []


def totals(rows: Iterable[Pending]) -> list[Pending]:
    """One row for each mount, for all processes together; the longest queues first."""
    found: dict[tuple[str, str], Pending] = {}
    for one in rows:
        before = found.get(one[:2])
        if before is not None:
            one = Pending(*one[:2], *map(sum, zip(before[2:], one[2:], strict=True)))
        found[one[:2]] = one
    return sorted(found.values(), key=lambda one: (-one.queued, one.server, one.mount))


def sentence(running: int, queued: int, threads: int) -> str:
    """What people are told while calls wait: "8 calls run in 8 threads, 12 wait"; "" when none does."""
    if not queued:
        return ""
    run = f"{running} call{'s run' if running != 1 else ' runs'}"
    return f"{run} in {threads} thread{'s' * (threads != 1)}, {queued} wait{'s' * (queued == 1)}"
