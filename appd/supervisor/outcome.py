"""How a reload ends: told once, to whoever asked for it and to the journal."""

from __future__ import annotations

import time

from appd.errors import EX_OK, EX_SUPERSEDED
from appd.messages import RELOAD_FAILED
from appd.startup.bare import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appd.supervisor.directlog import DirectLog

__all__ = ["LATER", "Outcome", "Verdict"]

LATER = "a later reload took its place"

# Called with the exit code and one line.
Verdict = Callable[[int, str], None]


class Outcome:
    """Of the reload that is under way.

    Args:
        log: The log.

    Attributes:
        last: When (seconds since the epoch), exit code and reason of the last reload; None before one.
    """

    def __init__(self, log: DirectLog) -> None:
        self.last: tuple[float, int, str] | None = None
        self._log = log
        self._verdict: Verdict | None = None
        self._awaited = False
        self._postponed: list[Verdict | None] = []
        self._ends = ""

    def expect(self, verdict: Verdict | None) -> None:
        """A reload begins.

        Args:
            verdict: Who asked, when that was somebody who waits.
        """
        self._verdict, self._awaited = verdict, True

    def postpone(self, verdict: Verdict | None) -> None:
        """Nothing serves: a reload is to begin when something does, if that can be.

        Args:
            verdict: As for `expect`. Who has asked before is told that a later reload took the place of that.
        """
        if self._ends:
            self._refuse(verdict, EX_SUPERSEDED, self._ends)
            return
        for earlier in self.postponed():
            self._refuse(earlier, EX_SUPERSEDED, LATER)
        self._postponed = [verdict]

    def postponed(self) -> list[Verdict | None]:
        """Who has asked for a reload that is to begin now: nobody, or the last one who did."""
        found, self._postponed = self._postponed, []
        return found

    def _refuse(self, verdict: Verdict | None, code: int, reason: str) -> None:
        if verdict is not None:
            verdict(code, reason)
        else:
            self._log.write(f"no reload: {reason}", 4)

    def tell(self, code: int, reason: str, *, ends: bool = False) -> None:
        """It has ended. Without a reload under way nothing is told.

        Args:
            code: The exit code.
            reason: One line.
            ends: Whether the service ends, and there will be no other one.
        """
        if ends:
            self._ends = reason
            for one in self.postponed():
                self._refuse(one, code, reason)
        if not self._awaited:
            return
        self._awaited = False
        self.last = (time.time(), code, reason)
        if code != EX_OK:
            goes_on = "" if ends else ", the generation before goes on"
            self._log.write(f"reload failed{goes_on}: {reason}", 3, MESSAGE_ID=RELOAD_FAILED)
        verdict, self._verdict = self._verdict, None
        if verdict is not None:
            verdict(code, reason)
