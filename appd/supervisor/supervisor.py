"""Generations of workers: started, watched, replaced, reloaded, drained.

A process without threads and without Twisted, ZConfig or hosted code in it. It speaks sd_notify(3) with systemd; its
workers speak the same with it, over a datagram socket in a folder that nobody else may enter, and it answers down a
channel.

* The first worker of a generation starts alone: it reads the file, binds what must be bound, and says how many workers
  the file wants; then the others start. When all are prepared they are told to go; none accepts before that.
* READY=1 goes to systemd when every worker listens on everything.
* A reload is a new generation. When it serves, the one before drains; when it cannot, it is ended, and the one before
  has not noticed.
* A worker that dies is replaced, at once the first time, then with growing patience.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from appd.errors import EX_OK, EX_SOFTWARE
from appd.notify import Notifier
from appd.store import PREFIX, Store
from appd.supervisor.generation import PREPARED, SERVING, Generation, Worker, send_signal
from appd.supervisor.mailbox import Mailbox, number_of
from appd.supervisor.overview import changes, summary
from appd.supervisor.poller import Poller, describe_exit
from appd.supervisor.spawn import CHANNEL, STACKS, spawn

if TYPE_CHECKING:
    from appd.supervisor.directlog import DirectLog

__all__ = ["EX_SUPERSEDED", "Supervisor"]

EX_SUPERSEDED = 75

# Draining generations beyond so many end the drain of the oldest.
_MOST_DRAINING = 2
_EINVAL = 22
_TICK = 1.0

Verdict = Callable[[int, str], None]


class Supervisor:
    """The process that systemd sees.

    Args:
        inherited: Name and descriptor of what systemd passed, in its order.
        work: What a forked worker does, and does not return from.
        folder: A folder of mode 0700 for the workers' NOTIFY_SOCKET.
        log: The log.
        notifier: What tells systemd.
        poller: The loop.

    Attributes:
        stopping: Whether the end has begun.
        serving: The generation that serves, None before the first.
        coming: The one that is to take over.
        draining: Those on their way out, the oldest first.
        last_reload: When (seconds since the epoch), exit code and reason of the last reload; None before one.
    """

    def __init__(
        self,
        inherited: Sequence[tuple[str, int]],
        work: Callable[[], object],
        folder: str,
        log: DirectLog,
        notifier: Notifier,
        poller: Poller,
    ) -> None:
        self.inherited = [(name, fd) for name, fd in inherited if not name.startswith(PREFIX)]
        self.store = Store((name, fd) for name, fd in inherited if name.startswith(PREFIX))
        self._work = work
        self.log = log
        self._notifier = notifier
        notifier.when_blocked = partial(poller.call_later, 0.1, notifier.flush)
        self.poller = poller
        self._mailbox = Mailbox(folder)
        self.serving: Generation | None = None
        self.coming: Generation | None = None
        self.draining: list[Generation] = []
        self.last_reload: tuple[float, int, str] | None = None
        self.restarts = 0
        self.forked: list[Callable[[], None]] = []
        """Called in a forked child: each makes an object of the supervisor's forget its descriptors."""
        self._verdict: Verdict | None = None
        self._reloading = False
        self.stopping = False
        self._exit_code = EX_OK
        self._last_number = 0
        self._status = ""

    def run(self) -> int:
        """Supervises until the last worker has gone.

        Returns:
            The exit code: 0 after a stop, that of the first generation when it could not start.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            self.poller.on_signal(number, self.stop)
        self.poller.on_signal(signal.SIGQUIT, self._leave)
        self.poller.on_signal(signal.SIGHUP, lambda: self.reload(None))
        self.poller.on_signal(signal.SIGCHLD, self._reap)
        self.poller.register(self._mailbox.socket.fileno(), self._read_letters)
        self.poller.call_later(_TICK, self._tick)
        self.coming = self._new_generation()
        self._spawn(self.coming, 1, forked=True)
        while not self.stopping or any(self.workers()):
            self.poller.turn()
        self._mailbox.close()
        self.poller.close()
        self.store.close(os.environ)
        return self._exit_code

    def stop(self) -> None:
        """Drains every worker and leaves; a second time, leaves at once."""
        if self.stopping:
            self._leave()
            return
        self.stopping = True
        self._notifier.tell(stopping=True, status="stopping")
        self._answer(EX_SUPERSEDED, "the service is being stopped")
        send_signal(self.workers(), signal.SIGTERM)

    def _leave(self) -> None:
        if not self.stopping:
            self.stop()
        send_signal(self.workers(), signal.SIGQUIT)

    def generations(self) -> list[Generation]:
        """Every generation that has workers."""
        return [*self.draining, *(one for one in (self.serving, self.coming) if one is not None)]

    def tell_workers(self, word: str) -> None:
        """Sends a line down every channel."""
        for worker in self.workers():
            worker.tell(word)

    def workers(self) -> list[Worker]:
        """Every worker of every generation."""
        return [worker for generation in self.generations() for worker in generation.workers.values()]

    def _new_generation(self) -> Generation:
        self._last_number += 1
        return Generation(self._last_number)

    def _spawn(self, generation: Generation, number: int, forked: bool = False) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        environ = {
            "NOTIFY_SOCKET": self._mailbox.path,
            "APPD_GENERATION": str(generation.number),
            "APPD_WORKER": str(number),
        }
        passed = [*self.inherited, *self.store.items()]

        def detach() -> None:
            for one in (ours, theirs, self._mailbox.socket, *(worker.channel for worker in self.workers())):
                one.detach()
            self.poller.detach()
            for forget in self.forked:
                forget()

        stacks = os.memfd_create("stacks", os.MFD_CLOEXEC)
        others = ((CHANNEL, theirs.fileno()), (STACKS, stacks))
        pid = spawn(passed, others, environ, self._work if forked else None, detach)
        theirs.close()
        generation.workers[number] = Worker(pid, number, ours, stacks, self.poller.clock())

    def _advance(self, generation: Generation) -> None:
        """Does what is next for a generation on its way in, or for a replacement."""
        if generation.wanted is None or generation.draining or self.stopping:
            return
        if generation is self.serving:
            for worker in generation.workers.values():
                if worker.hears("go"):
                    worker.tell("go")
            return
        for number in range(1, generation.wanted + 1):
            if number not in generation.workers:
                self._spawn(generation, number)
        if generation.all_in(PREPARED):
            if self.serving is not None:
                # What runs in one process only must not run in two.
                self._first(self.serving, "pause")
            for worker in generation.workers.values():
                worker.hears("go")
                worker.tell("go")
        elif generation.all_in(SERVING):
            self._take_over(generation)

    def _take_over(self, generation: Generation) -> None:
        before, self.serving, self.coming = self.serving, generation, None
        for name in self.store.drop_but(generation.keeps):
            self._notifier.tell(also={"FDSTOREREMOVE": "1", "FDNAME": name})
        self._tell_ready()
        if before is not None:
            self.log.write(changes(before.servers, generation.servers), 6, APPD_GENERATION=str(generation.number))
            self._drain(before)
        self._answer(EX_OK, f"generation {generation.number} serves")

    def _drain(self, generation: Generation) -> None:
        self._part_from(generation)
        for worker in generation.workers.values():
            worker.tell("drain")
        for oldest in self.draining[:-_MOST_DRAINING]:
            self.log.write(f"generation {oldest.number} still drains, and two later ones do: it ends at once", 4)
            send_signal(oldest.workers.values(), signal.SIGQUIT)

    def _part_from(self, generation: Generation) -> None:
        generation.draining = True
        if generation.workers:
            self.draining.append(generation)

    def reload(self, verdict: Verdict | None) -> None:
        """Starts a new generation with the file and code as they are now.

        Args:
            verdict: Called with the exit code and one line when the new generation serves or the old one was kept.
        """
        if self.stopping or self.serving is None:
            if verdict is not None:
                verdict(
                    EX_SUPERSEDED, "the service is being stopped" if self.stopping else "the service is still starting"
                )
            return
        if self.coming is not None:
            self._answer(EX_SUPERSEDED, "a later reload took its place")
            self._end(self.coming)
        self._verdict, self._reloading = verdict, True
        self._notifier.tell(reloading=True, status="reloading")
        self.coming = self._new_generation()
        self._spawn(self.coming, 1)

    def _end(self, generation: Generation) -> None:
        """Ends a generation that never served."""
        self.coming = None
        self._part_from(generation)
        if self.serving is not None:
            self._first(self.serving, "resume")
        send_signal(generation.workers.values(), signal.SIGKILL)

    def _answer(self, code: int, reason: str) -> None:
        """The outcome of a reload, for whoever asked and for the journal."""
        if not self._reloading:
            return
        self._reloading = False
        self.last_reload = (time.time(), code, reason)
        if code:
            self.log.write(f"reload failed, the generation before goes on: {reason}", 3)
        verdict, self._verdict = self._verdict, None
        if verdict is not None:
            verdict(code, reason)

    def _read_letters(self) -> None:
        for letter in self._mailbox.read():
            found = [(g, w) for g in self.generations() for w in g.workers.values() if w.pid == letter.pid]
            name = self.store.take(letter.words, letter.fds) if found else None
            if name is not None:  # and on to systemd's store
                self._notifier.tell(fds=[self.store[name]], also={"FDSTORE": "1", "FDNAME": name})
            for fd in letter.fds:
                os.close(fd)
            for generation, worker in found:
                self._heard(generation, worker, letter.words)

    def _heard(self, generation: Generation, worker: Worker, words: dict[str, str]) -> None:
        worker.status = words.get("STATUS", worker.status)
        worker.errno = number_of(words, "ERRNO", worker.errno)
        worker.connections = number_of(words, "X_APPD_CONNECTIONS", worker.connections)
        worker.dropped = number_of(words, "X_APPD_DROPPED", worker.dropped)
        worker.alive = self.poller.clock()
        if "X_APPD_WATCHDOG" in words:
            worker.watchdog = number_of(words, "X_APPD_WATCHDOG", 60000) / 1000
        if "X_APPD_WORKERS" in words and generation.wanted is None:
            generation.wanted = number_of(words, "X_APPD_WORKERS", 1)
            generation.servers = dict(
                one.split("=", 1) for one in words.get("X_APPD_SERVERS", "").split("|") if "=" in one
            )
            generation.keeps = frozenset(words.get("X_APPD_KEEPS", "").split())
        moved = [worker.hears(word) for key, word in _WORDS if key in words]
        if "EXTEND_TIMEOUT_USEC" in words and (self.stopping or self.serving is None):
            self._notifier.tell(status=summary(self), extend_timeout=number_of(words, "EXTEND_TIMEOUT_USEC", 0) / 1e6)
        generation.certificates = words.get("X_APPD_CERTIFICATES", generation.certificates)
        if any(moved):
            self._advance(generation)
        elif generation is self.serving and not self.stopping:
            self._tell_status()

    def _tell_ready(self) -> None:
        self._status = summary(self)
        self._notifier.tell(ready=True, status=self._status)

    def _tell_status(self) -> None:
        status = summary(self)
        if status != self._status:
            self._status = status
            self._notifier.tell(status=status)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # What it said last may still be in the socket.
            self._read_letters()
            for generation in self.generations():
                for worker in list(generation.workers.values()):
                    if worker.pid == pid:
                        self._gone(generation, worker, status)

    def _gone(self, generation: Generation, worker: Worker, status: int) -> None:
        del generation.workers[worker.number]
        worker.channel.close()
        stacks = worker.take_stacks()
        if stacks:
            self.log.write(f"worker {worker.number} {describe_exit(status)}, its stacks:\n{stacks}", 3)
        if not generation.workers and generation in self.draining:
            self.draining.remove(generation)
        if generation.draining or self.stopping:
            return
        code = os.waitstatus_to_exitcode(status)
        reason = (
            worker.status.removeprefix("cannot start: ")
            if code > 0 and worker.status
            else f"worker {describe_exit(status)}"
        )
        if generation is self.coming:
            self._failed(generation, code if code > 0 else EX_SOFTWARE, reason, worker.errno)
            return
        self._replace(generation, worker, describe_exit(status), code)

    def _failed(self, generation: Generation, code: int, reason: str, errno: int) -> None:
        """A generation that was to serve cannot."""
        self._end(generation)
        if self.serving is None:
            self._give_up(code, reason, errno)
            return
        self._tell_ready()
        self._answer(code, reason)

    @staticmethod
    def _first(generation: Generation, word: str) -> None:
        """Tells the worker that has what runs in one process only."""
        if 1 in generation.workers:
            generation.workers[1].tell(word)

    def _give_up(self, code: int, reason: str, errno: int) -> None:
        """Nothing serves and nothing can: systemd is told why, and decides."""
        self._notifier.tell(status=f"cannot start: {reason}", errno=errno or _EINVAL)
        self._exit_code, self.stopping = code, True
        send_signal(self.workers(), signal.SIGKILL)

    def _replace(self, generation: Generation, worker: Worker, how: str, code: int) -> None:
        pause = generation.patience(worker, self.poller.clock())
        self.restarts += 1
        soon = f" in {pause:.0f} s" if pause else ""
        self.log.write(f"worker {worker.number} {how}; it is replaced{soon}", 3, APPD_WORKER=str(worker.number))
        if worker.state != SERVING and code > 0 and not generation.workers:
            self._give_up(code, worker.status.removeprefix("cannot start: "), worker.errno)
            return

        def again() -> None:
            if generation is self.serving and not self.stopping and worker.number not in generation.workers:
                self._spawn(generation, worker.number)

        self.poller.call_later(pause, again)

    def _tick(self) -> None:
        now = self.poller.clock()
        for worker in self.workers():
            if worker.watchdog and now - worker.alive > worker.watchdog and not worker.killed:
                worker.killed = True
                self.log.write(f"worker {worker.number} has not answered for {worker.watchdog:.0f} s: it is killed", 3)
                send_signal([worker], signal.SIGABRT)
                self.poller.call_later(2.0, partial(send_signal, [worker], signal.SIGKILL))
        if self.coming is not None and not self.stopping:
            # A start or reload that takes its time is kept alive; its workers say when they hang.
            self._notifier.tell(extend_timeout=5.0)
        if self._notifier.watchdog_interval is not None:
            self._notifier.tell(watchdog=True)
        every = self._notifier.watchdog_interval or _TICK
        self.poller.call_later(min(_TICK, every), self._tick)


# What a worker says → the word of its state table.
_WORDS = (("X_APPD_PREPARED", "PREPARED"), ("READY", "READY"), ("STOPPING", "STOPPING"))
