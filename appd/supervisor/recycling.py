"""A worker that has served or grown enough is replaced by a fresh one, without anything refused or cut.

The fresh one is started beside it, in the same generation and for the same place. What runs in one process only is
paused in the old one before the fresh one is told to go; when that serves, it takes the place, and the old one drains
as after a reload. If the fresh one cannot start, the old one goes on, and it is tried again with growing patience.

All there is to know is in the records of the workers, so that any turn may be the next one.
"""

from __future__ import annotations

import signal

from appd.messages import RECYCLED
from appd.supervisor.worker import LOADING, PREPARED, SERVING, STARTING, send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from appd.supervisor.directlog import DirectLog
    from appd.supervisor.generation import Generation, Spawn
    from appd.supervisor.worker import Worker

__all__ = ["Recycling"]

# Pauses before it is tried again to replace a worker, in seconds.
_PATIENCE = (1.0, 2.0, 10.0, 60.0, 300.0)
# Of one place, so many old workers may drain at once; the next one waits until one of them has gone.
_MOST_DRAINING = 2


class Recycling:
    """Replaces workers that have asked for it, one of a generation at a time.

    Args:
        spawn: What starts a worker.
        log: The log.
        clock: Monotonic seconds.
    """

    def __init__(self, spawn: Spawn, log: DirectLog, clock: Callable[[], float]) -> None:
        self._spawn = spawn
        self._log = log
        self._clock = clock

    def begin(self, generation: Generation) -> None:
        """Starts a fresh worker, if one is due and none is on its way; to be called once in a while.

        Args:
            generation: The one that serves.
        """
        if generation.fresh:
            return
        now = self._clock()
        # The oldest first, so that one that soon asks again does not keep the others waiting.
        for worker in sorted(generation.workers.values(), key=lambda one: one.started):
            draining = sum(one.number == worker.number for one in generation.beside)
            if worker.recycle and worker.state == SERVING and worker.recycle_at <= now and draining < _MOST_DRAINING:
                try:
                    self._spawn(generation, worker.number, beside=True)
                except OSError as error:
                    self._put_off(generation, worker, f"no process: {error.strerror}")
                return

    def advance(self, generation: Generation) -> int:
        """Does what is next for a fresh worker.

        Returns:
            How many have taken the place of another now.
        """
        done = 0
        for fresh in generation.fresh:
            old = generation.workers.get(fresh.number)
            if fresh.state == PREPARED:
                if old is not None:
                    # What runs in one process only must not run in two.
                    old.tell("pause")
                fresh.hears("go")
                fresh.tell("go")
            elif fresh.state == SERVING:
                self._take_place(generation, fresh, old)
                done += 1
        return done

    def _take_place(self, generation: Generation, fresh: Worker, old: Worker | None) -> None:
        generation.beside.remove(fresh)
        generation.workers[fresh.number] = fresh
        if old is None:
            return
        generation.recycled[old.number] = generation.recycled.get(old.number, 0) + 1
        old.retired = True
        generation.beside.append(old)
        old.tell("drain")
        self._log.write(
            f"worker {old.number} is recycled, as {old.recycle}: PID {old.pid} drains, PID {fresh.pid} serves",
            APPD_GENERATION=str(generation.number),
            APPD_WORKER=str(old.number),
            MESSAGE_ID=RECYCLED,
        )

    def inherit(self, generation: Generation, old: Worker) -> bool:
        """A worker has died: the fresh one that is on its way to its place gets it now.

        Args:
            generation: Its generation.
            old: The one that died.

        Returns:
            Whether there is one.
        """
        for fresh in generation.fresh:
            if fresh.number == old.number:
                generation.beside.remove(fresh)
                generation.workers[fresh.number] = fresh
                return True
        return False

    def failed(self, generation: Generation, fresh: Worker, status: int) -> None:
        """A fresh worker has ended before it served.

        Args:
            generation: Its generation.
            fresh: Which one.
            status: What wait(2) says of it.
        """
        old = generation.workers.get(fresh.number)
        if old is None:
            return
        old.tell("resume")
        self._put_off(generation, old, fresh.reason(status))

    def _put_off(self, generation: Generation, old: Worker, reason: str) -> None:
        old.recycle_at = self._clock() + _PATIENCE[min(old.recycle_failures, len(_PATIENCE) - 1)]
        old.recycle_failures += 1
        if old.recycle_failures == 1:
            self._log.write(
                f"worker {old.number} cannot be recycled and goes on, though {old.recycle}; "
                f"it is tried again: {reason}",
                4,
                APPD_GENERATION=str(generation.number),
                APPD_WORKER=str(old.number),
            )

    @staticmethod
    def call_off(generation: Generation) -> None:
        """Ends the fresh workers that have not been told to go: all of the generation will be replaced."""
        for fresh in generation.fresh:
            if fresh.state in (LOADING, PREPARED):
                fresh.retired = True
                send_signal([fresh], signal.SIGKILL)

    @staticmethod
    def pause(generation: Generation) -> bool:
        """Has what runs in one process only pause, as another generation is about to start it.

        Returns:
            Whether it could be: not while it is handed over to a fresh worker.
        """
        if any(fresh.state == STARTING for fresh in generation.fresh):
            return False
        generation.tell_first("pause")
        return True
