"""`idle-exit`: the supervisor asks its workers to rest, looks into the queues of the sockets, and ends the service."""

from __future__ import annotations

import select

from appd.messages import IDLE
from appd.supervisor.generation import Generation
from appd.supervisor.idle import LEAVE, LOOK, NOTHING, REST, WAKE, IdleExit
from appd.supervisor.mailbox import number_of
from appd.supervisor.worker import SERVING, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from appd.supervisor.supervisor import Supervisor

__all__ = ["IdleWatch", "anybody_waits"]


def anybody_waits(descriptors: list[int]) -> bool:
    """Whether a connection or a datagram waits in the queue of a socket."""
    poll = select.poll()
    for one in descriptors:
        poll.register(one, select.POLLIN)
    return bool(poll.poll(0))


class IdleWatch:
    """Follows one supervisor.

    Args:
        supervisor: Whose workers, sockets and end these are.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._exit: IdleExit | None = None
        self._of: Generation | None = None

    def heard(self, generation: Generation, worker: Worker, words: Mapping[str, str]) -> None:
        """A worker says something.

        Args:
            generation: Its generation.
            worker: Which one.
            words: The message.
        """
        if self._exit is None or generation is not self._of:
            return
        now = self._supervisor.poller.clock()
        if "X_APPD_CONNECTIONS" in words or "X_APPD_PREPARED" in words:
            self._do(self._exit.happened(now))
        for word, rests in (("X_APPD_RESTS", True), ("X_APPD_BUSY", False)):
            if word in words:
                self._do(self._exit.answered(worker.pid, number_of(words, word, 0), rests, now))

    def passed(self) -> None:
        """Time has passed."""
        now, rollout = self._supervisor.poller.clock(), self._supervisor.rollout
        serving = rollout.serving
        if serving is not self._of:
            self._of = serving
            self._exit = IdleExit(serving.idle_exit, now) if serving is not None and serving.idle_exit else None
        if self._exit is None or serving is None:
            return
        if self._is_quiet():
            self._do(self._exit.passed([worker.pid for worker in serving.workers.values()], now))
        else:
            self._do(self._exit.happened(now))

    def interrupt(self) -> None:
        """Something else is to be done with the workers."""
        if self._exit is not None:
            self._do(self._exit.happened(self._supervisor.poller.clock()))

    def _is_quiet(self) -> bool:
        rollout = self._supervisor.rollout
        serving = rollout.serving
        return (
            serving is not None
            and serving.all_in(SERVING)
            and not (serving.connections or serving.beside or rollout.coming or rollout.draining or rollout.stopping)
        )

    def _do(self, action: str) -> None:
        rollout = self._supervisor.rollout
        if action == NOTHING or self._exit is None or rollout.serving is None:
            return
        if action == LOOK:
            waits = not self._is_quiet() or anybody_waits([fd for _name, fd in self._supervisor.inherited])
            action = self._exit.looked(waits, self._supervisor.poller.clock())
        if action == LEAVE:
            self._supervisor.log.write("nothing to do: the service ends until somebody connects", 6, MESSAGE_ID=IDLE)
            self._exit = None
            rollout.stop()
            return
        word = f"{REST} {self._exit.round}" if action == REST else WAKE
        for worker in rollout.serving.workers.values():
            worker.tell(word)
