"""One generation of workers takes over from another: coming, serving, draining, and the verdict of a reload.

* The first worker of a generation starts alone: it reads the file, binds what must be bound, and says how many workers
  the file wants; then the others start. When all are prepared they are told to go; none accepts before that.
* READY=1 goes to systemd when every worker listens on everything.
* A reload is a new generation. When it serves, the one before drains, and when that accepts nothing more the reload is
  done; when it cannot, it is ended, and the one before has not noticed.
* A worker that dies is replaced, at once the first time, then with growing patience.

How processes are made and watched is the supervisor's; what they say and that they have gone is told here.
"""

from __future__ import annotations

import os
import signal
from errno import EINVAL

from appd.errors import EX_CONFIG, EX_OK, EX_SOFTWARE, EX_SUPERSEDED, EX_UNAVAILABLE
from appd.startup.bare import partial
from appd.supervisor.dumps import tell_end, tell_replaced
from appd.supervisor.generation import Generation
from appd.supervisor.mailbox import extension_of, number_of
from appd.supervisor.outcome import LATER, Outcome, Verdict
from appd.supervisor.overview import changes, summary
from appd.supervisor.parting import Parting, all_drain, end_all, end_oldest
from appd.supervisor.poller import exit_code
from appd.supervisor.recycling import Recycling
from appd.supervisor.worker import DRAINING, PREPARED, SERVING, Worker, send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from appd.supervisor.directlog import DirectLog
    from appd.supervisor.generation import Spawn
    from appd.supervisor.poller import Poller
    from appd.supervisor.spawn import Spawned
    from appd.systemd.notify import Notifier
    from appd.systemd.store import Store

__all__ = ["Rollout"]

# Each takes descriptors of the supervisor's; a number beyond this is a slip of the pen.
_MOST_WORKERS = 256
# How long to wait at least when there can be no further process, in seconds.
_REFUSED = 1.0


class Rollout:
    """The generations of one service.

    Args:
        spawn: What starts a worker.
        store: The sockets that appd bound.
        log: The log.
        notifier: What tells systemd.
        poller: The loop, for its clock and deadlines.

    Attributes:
        stopping: Whether the end has begun.
        exit_code: What `appd run` ends with: 0 after a stop, that of the first generation when it could not start.
        serving: The generation that serves, None before the first.
        coming: The one that is to take over.
        draining: Those on their way out, the oldest first.
        outcome: How reloads end.
        parting: What is due when the last of them accepts nothing more.
        restarts: How many workers were replaced.
        recycled: How many were recycled.
        dropped: How many log entries were lost by workers that have gone.
    """

    def __init__(self, spawn: Spawn, store: Store, log: DirectLog, notifier: Notifier, poller: Poller) -> None:
        self._spawn = spawn
        self._store = store
        self._log = log
        self._notifier = notifier
        self._poller = poller
        self._recycling = Recycling(spawn, log, poller.clock)
        self.stopping = False
        self.exit_code = EX_OK
        self.serving: Generation | None = None
        self.coming: Generation | None = None
        self.draining: list[Generation] = []
        self.restarts = self.recycled = self.dropped = 0
        self.outcome = Outcome(log)
        self.parting = Parting(poller, log)
        self._last_number = 0
        self._status = ""
        self.interrupt: Callable[[], None] = lambda: None
        """Called before a new generation is made: workers that rest are woken."""
        self.renew: Callable[[], bool] = lambda: False
        """Called when a reload has brought new workers: whether somebody else calls `confirm`, when that is due."""

    def keep(self) -> dict[str, Any]:
        """What a later version of the supervisor needs to know, as JSON has it. Nothing may be coming."""
        return {
            "serving": self.serving.keep() if self.serving is not None else None,
            "draining": [one.keep() for one in self.draining],
            "last_number": self._last_number,
            "last_reload": self.outcome.last,
            "restarts": self.restarts,
            "recycled": self.recycled,
            "dropped": self.dropped,
            "status": self._status,
        }

    def go_on(self, known: Mapping[str, Any], channel: Callable[[int], Any]) -> None:
        """Goes on where an earlier version stopped, which was at the end of a reload.

        Args:
            known: What `keep` said.
            channel: Makes a channel of its descriptor.
        """
        self.serving = Generation.kept(known["serving"], channel)
        self.draining = [Generation.kept(one, channel) for one in known["draining"]]
        self._last_number = known["last_number"]
        last = known["last_reload"]
        self.outcome.last = (last[0], last[1], last[2]) if last is not None else None
        self.restarts = known["restarts"]
        self.recycled, self.dropped = known.get("recycled", 0), known.get("dropped", 0)
        self._status = known["status"]
        self.outcome.expect(None)
        for worker in self.workers():
            if worker.killed:
                self._poller.call_later(_REFUSED, partial(send_signal, [worker], signal.SIGKILL))
        for number in range(1, (self.serving.wanted or 0) + 1):
            if number not in self.serving.workers:
                self._start_later(self.serving, number, _REFUSED)

    def start(self, first: Spawned | None = None) -> None:
        """Starts the first generation, whose first worker is forked, or there already."""
        self._last_number += 1
        self.coming = Generation(self._last_number)
        if first is None:
            self._start_worker(self.coming, 1, forked=True)
        else:
            self.coming.workers[1] = Worker(1, first)

    def stop(self) -> None:
        """Drains every worker and leaves; a second time, leaves at once."""
        if self.stopping:
            self.leave()
            return
        self.stopping = True
        self._notifier.tell(stopping=True, status="stopping")
        self.parting.call_off()
        if self.coming is None:
            self.confirm()
        self.outcome.tell(EX_SUPERSEDED, "the service is being stopped", ends=True)
        for worker in self.workers():
            worker.stop()

    def leave(self) -> None:
        """Cuts what is open and leaves."""
        if not self.stopping:
            self.stop()
        send_signal(self.workers(), signal.SIGQUIT)

    def generations(self) -> list[Generation]:
        """Every generation that has workers."""
        return [*self.draining, *(one for one in (self.serving, self.coming) if one is not None)]

    def workers(self) -> list[Worker]:
        """Every worker of every generation."""
        return [worker for generation in self.generations() for worker in generation.everyone]

    def _start_worker(self, generation: Generation, number: int, forked: bool = False) -> bool:
        """Starts a worker. When the host refuses, a generation on its way in fails, and a replacement waits."""
        try:
            self._spawn(generation, number, forked=forked)
        except OSError as error:
            if generation is self.coming:
                reason = f"no further process can be started: {error.strerror}"
                if self.serving is None:
                    self._log.write(reason, 3)
                self._failed(generation, EX_UNAVAILABLE, reason, error.errno or 0)
                return False
            pause = max(_REFUSED, generation.patience(number, 0.0))
            text = f"worker {number} cannot be started: {error.strerror}; it is tried again in {pause:.0f} s"
            self._log.write(text, 3, APPD_WORKER=str(number))
            self._start_later(generation, number, pause)
            return False
        return True

    def _start_later(self, generation: Generation, number: int, pause: float) -> None:
        def again() -> None:
            if generation is self.serving and not self.stopping and number not in generation.workers:
                self._start_worker(generation, number)

        self._poller.call_later(pause, again)

    def _advance(self, generation: Generation) -> None:
        """Does what is next for a generation on its way in, or for a replacement."""
        if generation.wanted is None or generation.draining or self.stopping:
            return
        if generation is self.serving:
            begun = self.coming is not None and self.coming.has_begun
            for worker in generation.workers.values():
                # What runs in one process only, in the first, is with the next generation when that was told to go.
                if not (begun and worker.number == 1) and worker.hears("go"):
                    worker.tell("go")
            self.recycled += self._recycling.advance(generation)
            if self.coming is not None:
                self._advance(self.coming)
            return
        for number in range(1, generation.wanted + 1):
            if number not in generation.workers and not self._start_worker(generation, number):
                return
        if generation.all_in(PREPARED):
            if self.serving is not None and not self._recycling.pause(self.serving):
                return
            for worker in generation.workers.values():
                worker.hears("go")
                worker.tell("go")
        elif generation.all_in(SERVING):
            self._take_over(generation)

    def _take_over(self, generation: Generation) -> None:
        before, self.serving, self.coming = self.serving, generation, None
        self._store.keep_only(generation.keeps, self._notifier, self._poller.clock())
        self._poller.call_later(self._store.binds_late, self._let_go)
        self._tell_status(ready=before is None)
        if before is None:
            for verdict in self.outcome.postponed():
                self.reload(verdict)
            return
        self._log.write(changes(before.servers, generation.servers), 6, APPD_GENERATION=str(generation.number))
        self._part_from(before)
        for worker in before.everyone:
            worker.tell("drain")
        end_oldest(self.draining, self._log)
        self.parting.wait(before, self._reloaded)

    def _reloaded(self) -> None:
        if not self.stopping:
            self._tell_status(ready=True)
            if not self.renew():
                self.confirm()

    def confirm(self) -> None:
        """The reload is done: who asked for it is answered, once."""
        if self.serving is not None:
            self.outcome.tell(EX_OK, f"generation {self.serving.number} serves")

    def _part_from(self, generation: Generation) -> None:
        if generation.part():
            self.draining.append(generation)

    def reload(self, verdict: Verdict | None) -> None:
        """Starts a new generation with the file and code as they are now.

        Args:
            verdict: Called with the exit code and one line when the new generation serves or the old one was kept.
        """
        if self.stopping or self.serving is None:
            # Not dropped during the start: the first worker may have read the file before that was edited.
            self.outcome.postpone(verdict)
            return
        if self.coming is not None:
            self.outcome.tell(EX_SUPERSEDED, LATER)
            self._end(self.coming)
        self.parting.call_off()
        self.confirm()
        self.interrupt()
        self.outcome.expect(verdict)
        self._notifier.tell(reloading=True, status="reloading")
        self._recycling.call_off(self.serving)
        self._last_number += 1
        self.coming = Generation(self._last_number)
        self._start_worker(self.coming, 1)

    def recycle(self) -> None:
        """Begins to replace a worker that has asked for it; to be called once in a while."""
        if self.serving is not None and self.coming is None and not self.stopping:
            self._recycling.begin(self.serving)

    def _end(self, generation: Generation) -> None:
        """Ends a generation that never served."""
        self.coming = None
        generation.ended = True
        self._part_from(generation)
        if self.serving is not None:
            self.serving.tell_first("resume")
            self._advance(self.serving)
        end_all(generation.everyone)

    def heard(self, generation: Generation, worker: Worker, words: Mapping[str, str]) -> None:
        """Takes what a worker says.

        Args:
            generation: Its generation.
            worker: Who says it.
            words: The message.
        """
        worker.note(words, self._poller.clock())
        generation.certificates = words.get("X_APPD_CERTIFICATES", generation.certificates)
        generation.learn(words)
        if "X_APPD_PREPARED" in words and generation.wanted is None:
            generation.wanted = max(1, number_of(words, "X_APPD_WORKERS", 1))
            if generation.wanted > _MOST_WORKERS and generation is self.coming:
                reason = f"the file wants {generation.wanted} workers; at most {_MOST_WORKERS} are possible"
                self._failed(generation, EX_CONFIG, reason, EINVAL)
        moved = [worker.hears(word) for key, word in _WORDS if key in words]
        extended = extension_of(words)
        if extended is not None and (self.stopping or self.serving is None):
            # Why nothing can serve stays to be read.
            self._notifier.tell(status=None if self.exit_code else summary(self), extend_timeout=extended)
        if "X_APPD_RECYCLE" in words:
            self.recycle()
        self._let_go()
        if generation is self.coming and worker.state == DRAINING and not self.stopping:
            # It may take its time with what it has accepted.
            reason = worker.last_words if worker.exit else "worker was told to stop"
            self._failed(generation, worker.exit or EX_SOFTWARE, reason, worker.errno)
        elif any(moved):
            self._advance(generation)
        elif generation is self.serving and not self.stopping:
            self._tell_status()

    def _let_go(self) -> None:
        if all_drain(self.draining):
            self._store.let_go(self._poller.clock())
        self.parting.look()

    def _tell_status(self, ready: bool = False) -> None:
        status = summary(self)
        if ready or status != self._status:
            self._status = status
            self._notifier.tell(ready=ready, status=status)

    def gone(self, generation: Generation, worker: Worker, status: int) -> None:
        """A worker has ended.

        Args:
            generation: Its generation.
            worker: Which one.
            status: What wait(2) says of it.
        """
        fresh = worker in generation.fresh
        generation.remove(worker)
        self.dropped += worker.dropped
        worker.channel.close()
        tell_end(worker, status, self._log)
        if not generation.everyone and generation in self.draining:
            self.draining.remove(generation)
        self._let_go()
        if generation.draining or self.stopping or worker.retired:
            return
        if fresh:
            self._recycling.failed(generation, worker, status)
            if self.coming is not None:
                self._advance(self.coming)
            return
        if generation is self.coming:
            self._failed(generation, exit_code(status) or EX_SOFTWARE, worker.reason(status), worker.errno)
            return
        self._replace(generation, worker, status)

    def _failed(self, generation: Generation, code: int, reason: str, errno: int) -> None:
        """A generation that was to serve cannot."""
        self._end(generation)
        if self.serving is None:
            self._give_up(code, reason, errno)
            return
        # What it has bound for itself would be a queue that nobody serves.
        self._store.keep_only(self.serving.keeps, self._notifier, float("-inf"))
        self._let_go()
        # READY=1 ends the reload for systemd; who asked hears of it after that.
        self._tell_status(ready=True)
        self.outcome.tell(code, reason)
        self._tell_status()

    def _give_up(self, code: int, reason: str, errno: int) -> None:
        """Nothing serves and nothing can: systemd is told why, and decides."""
        self._notifier.tell(status=f"cannot start: {reason}", errno=errno or EINVAL)
        self.exit_code, self.stopping = code, True
        self.outcome.tell(code, reason, ends=True)
        end_all(self.workers())

    def _replace(self, generation: Generation, worker: Worker, status: int) -> None:
        inherited = self._recycling.inherit(generation, worker)
        age = self._poller.clock() - worker.started
        pause = 0.0 if inherited else generation.patience(worker.number, age)
        self.restarts += 1
        generation.restarts[worker.number] = generation.restarts.get(worker.number, 0) + 1
        tell_replaced(worker, status, pause, self._log)
        if inherited:
            return
        if worker.state != SERVING and os.WEXITSTATUS(status) and not generation.workers and self.coming is None:
            self._give_up(exit_code(status), worker.reason(status), worker.errno)
            return
        self._start_later(generation, worker.number, pause)


# What a worker says → the word of its state table.
_WORDS = (("X_APPD_PREPARED", "PREPARED"), ("READY", "READY"), ("STOPPING", "STOPPING"))
