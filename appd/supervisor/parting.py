"""Generations on their way out: what waits until the one before accepts nothing more, and which must end at once.

A reload is done when nobody is answered by what was before it. A worker stops accepting before it says that it stops,
so STOPPING=1 of each is waited for, or its end; not for ever, as one may be busy or stopped.
"""

from __future__ import annotations

import signal

from appd.supervisor.generation import Generation
from appd.supervisor.worker import DRAINING, LOADING, SERVING, STARTING, Worker, send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from appd.supervisor.directlog import DirectLog
    from appd.supervisor.poller import Poller

__all__ = ["Parting", "all_drain", "end_all", "end_oldest"]

# Draining generations beyond so many end the drain of the oldest.
_MOST_DRAINING = 2
# How long to wait for a worker to say that it drains, in seconds: several turns of a busy reactor.
_PATIENCE = 5.0


def all_drain(generations: Iterable[Generation]) -> bool:
    """Whether none of their workers does anything but drain."""
    return all(one.state == DRAINING for generation in generations for one in generation.everyone)


def end_oldest(draining: Iterable[Generation], log: DirectLog) -> None:
    """Ends the drain of the oldest at once when too many drain.

    Args:
        draining: Those on their way out, the oldest first.
        log: The log.
    """
    for oldest in [one for one in draining if not one.ended][:-_MOST_DRAINING]:
        log.write(f"generation {oldest.number} still drains, and two later ones do: it ends at once", 4)
        oldest.ended = True
        send_signal(oldest.everyone, signal.SIGQUIT)


def end_all(workers: Iterable[Worker]) -> None:
    """Ends workers that are not to serve; those that may have accepted somebody finish that.

    Args:
        workers: Those. The very first, which may answer as it loads, is prepared before another is there to fail.
    """
    for one in workers:
        if one.state == LOADING:
            send_signal([one], signal.SIGKILL)
        else:
            one.tell("stop")


class Parting:
    """What is due when a generation accepts nothing more.

    Args:
        poller: The loop, for its deadlines.
        log: The log.
    """

    def __init__(self, poller: Poller, log: DirectLog) -> None:
        self._poller = poller
        self._log = log
        self._generation: Generation | None = None
        self._then: Callable[[], object] = lambda: None
        self._cancel: Callable[[], object] = lambda: None

    @property
    def waits(self) -> bool:
        """Whether something is due."""
        return self._generation is not None

    def wait(self, generation: Generation, then: Callable[[], object]) -> None:
        """Has something done once no worker of a generation accepts, or has had its time to say so.

        Args:
            generation: The generation, whose workers have been told to drain.
            then: What to do, perhaps at once.
        """
        self.call_off()
        self._generation, self._then = generation, then
        self._cancel = self._poller.call_later(_PATIENCE, self._has_waited)
        self.look()

    def look(self) -> None:
        """To be called when a worker has said something or has gone."""
        # One that loads hears the word when it has; until then, and when it is prepared, it accepts nothing.
        if self._generation is not None and not self._accepting(self._generation):
            self._end()

    def call_off(self) -> None:
        """Nothing is due any more."""
        self._cancel()
        self._generation = None

    def _accepting(self, generation: Generation) -> list[int]:
        return sorted(one.number for one in generation.everyone if one.state in (STARTING, SERVING))

    def _has_waited(self) -> None:
        if self._generation is not None:
            late = ", ".join(map(str, self._accepting(self._generation)))
            who = f"worker {late} of generation {self._generation.number}"
            self._log.write(f"{who} has not said within {_PATIENCE:.0f} s that it drains: it may still accept", 4)
            self._end()

    def _end(self) -> None:
        then = self._then
        self.call_off()
        then()
