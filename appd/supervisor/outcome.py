"""How a reload ends: told once, to whoever asked for it and to the journal."""

from __future__ import annotations

import time

from appd.errors import EX_OK, EX_SUPERSEDED
from appd.messages import RELOAD_FAILED
from appd.startup.bare import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appd.supervisor.directlog import DirectLog

__all__ = ["Outcome", "Verdict"]

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

    def expect(self, verdict: Verdict | None) -> None:
        """A reload begins.

        Args:
            verdict: Who asked, when that was somebody who waits.
        """
        self._verdict, self._awaited = verdict, True

    def refuse(self, verdict: Verdict | None, reason: str) -> None:
        """There can be no reload now; one that is under way is another's.

        Args:
            verdict: Who asked, when that was somebody who waits; else it is journaled.
            reason: Why not.
        """
        if verdict is not None:
            verdict(EX_SUPERSEDED, reason)
        else:
            self._log.write(f"no reload: {reason}", 4)

    def tell(self, code: int, reason: str) -> None:
        """It has ended. Without a reload under way nothing is told."""
        if not self._awaited:
            return
        self._awaited = False
        self.last = (time.time(), code, reason)
        if code != EX_OK:
            self._log.write(f"reload failed, the generation before goes on: {reason}", 3, MESSAGE_ID=RELOAD_FAILED)
        verdict, self._verdict = self._verdict, None
        if verdict is not None:
            verdict(code, reason)
