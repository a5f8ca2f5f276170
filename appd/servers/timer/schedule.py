"""When a timer's next call is due, without a clock of its own.

Calls are due on a grid: the first one, and every so many seconds after that. A call that was late, or long, does not
move those after it, and those that fell due meanwhile are left out, as by systemd's and cron's timers. The grid
outlives a process: the next one goes on with the text that this one has left.
"""

from __future__ import annotations

__all__ = ["Schedule"]


class Schedule:
    """The grid of one timer.

    Args:
        every: From one call to the next, in seconds.
        now: Seconds of the clock, which all processes of the host share.
        left: What `text` said in the process before; "" at the first start.
        at_start: Whether the first call is due now.
    """

    def __init__(self, every: float, now: float, left: str = "", at_start: bool = False) -> None:
        self.every = every
        self.due = now if at_start else now + every
        self.follow(left, now)

    @property
    def text(self) -> str:
        """What the next process goes on from."""
        return f"{self.every!r} {self.due!r}"

    def follow(self, left: str, now: float) -> None:
        """Goes on where another process has stopped.

        Args:
            left: Its `text`; anything else, and that of a timer of another interval, is passed over.
            now: Seconds of the clock.
        """
        try:
            every, due = map(float, left.split())
        except ValueError:
            return
        # A clock that was set back would have everybody wait.
        if every == self.every and due <= now + every:
            self.due = due

    def wait(self, now: float) -> float:
        """How long it is until the next call, in seconds; 0 when it is due."""
        return min(self.every, max(0.0, self.due - now))

    def move_on(self, now: float) -> int:
        """Goes to the first place of the grid that is later than now, and at least by one.

        Returns:
            By how many.
        """
        passed = int(max(0.0, now - self.due) // self.every) + 1
        self.due += passed * self.every
        return passed
