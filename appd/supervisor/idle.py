"""When a service that nobody uses may end, so that the next who connects starts it again: decided, without any I/O.

Nobody may be lost on the way, so the workers first stop accepting. Each then says whether anything is open; who
connects from then on waits in the queue of the socket, which is systemd's. When nothing is open and nobody waits in a
queue either, the process may end: who comes later is found in the queue by systemd, when the service has gone. In every
other case the workers go on as if nothing had been asked.

    busy ──(nothing for so long)──▶ asked ──(all rest)──▶ look ──(nobody waits)──▶ leave
      ▲                               │                    │
      └── wake ◀──(somebody is busy, something happened, no answer)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["LEAVE", "LOOK", "NOTHING", "REST", "WAKE", "IdleExit"]

NOTHING = ""
REST = "rest"
LOOK = "look"
LEAVE = "leave"
WAKE = "wake"

# How long the workers may take to answer, in seconds.
_PATIENCE = 5.0


class IdleExit:
    """The decision.

    Args:
        after: How long nothing must have happened, in seconds.
        now: Monotonic seconds.

    Attributes:
        round: Which time of asking this is; an answer to an earlier one is worth nothing.
    """

    def __init__(self, after: float, now: float) -> None:
        self.round = 0
        self._after = after
        self._since = now
        self._asked: set[int] | None = None
        self._ends = 0.0

    def happened(self, now: float) -> str:
        """Something was served, or who serves has changed.

        Returns:
            WAKE when the workers were told to rest, else NOTHING.
        """
        self._since = now
        if self._asked is None:
            return NOTHING
        self._asked = None
        return WAKE

    def passed(self, workers: Collection[int], now: float) -> str:
        """Time has passed and nothing happened.

        Args:
            workers: Who serves.
            now: Monotonic seconds.

        Returns:
            REST: tell them, with the number of the round; WAKE: one of them does not answer.
        """
        if self._asked is not None:
            return self.happened(now) if now >= self._ends else NOTHING
        if not workers or now - self._since < self._after:
            return NOTHING
        self.round += 1
        self._asked = set(workers)
        self._ends = now + _PATIENCE
        return REST

    def answered(self, worker: int, number: int, rests: bool, now: float) -> str:
        """A worker has stopped accepting.

        Args:
            worker: Which one.
            number: The round that it answers to.
            rests: Whether nothing is open in it.
            now: Monotonic seconds.

        Returns:
            LOOK when it was the last, and nothing is open anywhere; WAKE when something is.
        """
        if self._asked is None or number != self.round:
            return NOTHING
        if not rests:
            return self.happened(now)
        self._asked.discard(worker)
        return NOTHING if self._asked else LOOK

    def looked(self, waits: bool, now: float) -> str:
        """The queues of the sockets were looked at, after the last worker rested.

        Args:
            waits: Whether somebody waits in one of them.
            now: Monotonic seconds.

        Returns:
            LEAVE or WAKE.
        """
        return self.happened(now) if waits else LEAVE
