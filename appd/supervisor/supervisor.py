"""The process that systemd sees: signals, what workers say, how they are started, waited for and watched.

A process without threads and without Twisted, ZConfig or hosted code in it. It speaks sd_notify(3) with systemd; its
workers speak the same with it, over a datagram socket in a folder that nobody else may enter, and it answers down a
channel. Which generation serves, and what becomes of the others, is decided in `rollout`.
"""

from __future__ import annotations

import os
import signal

from appd.messages import WORKER_HUNG
from appd.startup.bare import partial
from appd.supervisor.dumps import tell_loading
from appd.supervisor.generation import Generation
from appd.supervisor.idlewatch import IdleWatch
from appd.supervisor.mailbox import Mailbox
from appd.supervisor.poller import Poller
from appd.supervisor.rollout import Rollout
from appd.supervisor.spawn import READING, spawn_worker, worker_environ
from appd.supervisor.storeroom import StoreRoom
from appd.supervisor.worker import Worker, send_signal
from appd.systemd.notify import Notifier
from appd.systemd.store import PREFIX, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appd.supervisor.directlog import DirectLog

__all__ = ["Supervisor"]

_TICK = 1.0
# A tick that is so late, in seconds, says that the process did not run.
_STOOD_STILL = 5.0


class Supervisor:
    """The parent of all workers.

    Args:
        inherited: Name and descriptor of what systemd passed, in its order.
        work: What a forked worker does, and does not return from.
        mailbox: The workers' NOTIFY_SOCKET; closed at the end.
        log: The log.
        notifier: What tells systemd.
        poller: The loop.

    Attributes:
        inherited: The sockets that systemd passed and appd did not bind itself.
        store: Those that appd bound.
        rollout: The generations.
        idle: What ends a service that nobody uses.
        mailbox: The workers' NOTIFY_SOCKET.
        forked: Called in a forked child: each makes an object of the supervisor's forget its descriptors.
        children: Process ID → what to call with the status when that child has ended, which is no worker.
    """

    def __init__(
        self,
        inherited: Sequence[tuple[str, int]],
        work: Callable[[], object],
        mailbox: Mailbox,
        log: DirectLog,
        notifier: Notifier,
        poller: Poller,
    ) -> None:
        self.inherited = [(name, fd) for name, fd in inherited if not name.startswith(PREFIX)]
        self.store = Store((name, fd) for name, fd in inherited if name.startswith(PREFIX))
        self.log = log
        self.poller = poller
        self.forked: list[Callable[[], None]] = []
        self.children: dict[int, Callable[[int], None]] = {}
        self._last_tick = poller.clock()
        self._work = work
        self._notifier = notifier
        notifier.when_blocked = partial(poller.call_later, 0.1, notifier.flush)
        self.mailbox = mailbox
        self.rollout = Rollout(self._spawn, self.store, log, notifier, poller)
        self._room = StoreRoom(self.store, log, notifier)
        self.idle = IdleWatch(self)
        self.rollout.interrupt = self.idle.interrupt

    def run(self, begin: Callable[[], None] | None = None) -> int:
        """Supervises until the last worker has gone.

        Args:
            begin: Called when signals are taken: starts the first generation, without it.

        Returns:
            The exit code: 0 after a stop, that of the first generation when it could not start.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            self.poller.on_signal(number, self.rollout.stop)
        self.poller.on_signal(signal.SIGQUIT, self.rollout.leave)
        self.poller.on_signal(signal.SIGHUP, lambda: self.rollout.reload(None))
        self.poller.on_signal(signal.SIGCHLD, self.reap)
        self.poller.register(self.mailbox.socket.fileno(), self._read_letters)
        self.poller.call_later(_TICK, self._tick)
        (begin or self.rollout.start)()
        while not self.rollout.stopping or any(self.rollout.workers()):
            self.poller.turn()
        self.mailbox.close()
        self.poller.close()
        self.store.close(os.environ)
        return self.rollout.exit_code

    def _spawn(self, generation: Generation, number: int, *, forked: bool = False, beside: bool = False) -> None:
        passed = [*self.inherited, *self.store.items()]
        environ = worker_environ(self.mailbox.path, generation.number, number)
        reading = [(READING, generation.reading)] if generation.reading is not None else []
        others = [*reading, *generation.material.items()]
        made = spawn_worker(passed, environ, self._work if forked else None, self.detach, others)
        generation.add(Worker(number, made), beside=beside)

    def detach(self) -> None:
        """In a forked child: forgets every descriptor without closing it."""
        for one in (self.mailbox.socket, *(worker.channel for worker in self.rollout.workers())):
            one.detach()
        for forget in self.forked:
            forget()

    def _read_letters(self) -> None:
        for letter in self.mailbox.read():
            found = [(g, w) for g in self.rollout.generations() for w in g.everyone if w.pid == letter.pid]
            # What one that was ended has bound, nobody will ask for.
            taken = found and not found[0][0].ended
            name = self.store.take(letter.words, letter.fds) if taken else None
            if name is not None:  # and on to systemd's store
                self._notifier.tell(fds=[self.store[name]], also={"FDSTORE": "1", "FDNAME": name})
                self._room.told(name)
            for generation, worker in found:
                generation.take_reading(letter.words, letter.fds)
                generation.take_material(worker, letter.words, letter.fds)
            for fd in letter.fds:
                os.close(fd)
            for generation, worker in found if letter.words else ():
                self.rollout.heard(generation, worker, letter.words)
                self.idle.heard(generation, worker, letter.words)

    def reap(self) -> None:
        """Waits for every child that has ended."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            # What it said last may still be in the socket. Until it is waited for, its number is nobody else's.
            self._read_letters()
            pid, status = os.waitpid(found.si_pid, 0)
            if pid in self.children:
                self.children.pop(pid)(status)
            for generation in self.rollout.generations():
                for worker in generation.everyone:
                    if worker.pid == pid:
                        self.rollout.gone(generation, worker, status)

    def _tick(self) -> None:
        now = self.poller.clock()
        if now - self._last_tick > _STOOD_STILL:
            # Nobody got to say anything while the machine or the control group was frozen.
            for worker in self.rollout.workers():
                worker.alive = now
        self._last_tick = now
        for worker in self.rollout.workers():
            worker.flush()
            tell_loading(worker, now, self.log)
            if worker.watchdog and now - worker.alive > worker.watchdog and not worker.killed:
                worker.killed = True
                text = f"worker {worker.number} has not answered for {worker.watchdog:.0f} s: it is killed"
                self.log.write(text, 3, APPD_WORKER=str(worker.number), MESSAGE_ID=WORKER_HUNG)
                send_signal([worker], signal.SIGABRT)
                self.poller.call_later(2.0, partial(send_signal, [worker], signal.SIGKILL))
        self.rollout.recycle()
        if self.rollout.coming is None and not self.rollout.stopping:
            self._room.look()
        if (self.rollout.coming is not None or self.rollout.parting.waits) and not self.rollout.stopping:
            # A start or reload that takes its time is kept alive; its workers say when they hang.
            self._notifier.tell(extend_timeout=5.0)
        self.idle.passed()
        if self._notifier.watchdog_interval is not None:
            self._notifier.tell(watchdog=True)
        every = self._notifier.watchdog_interval or _TICK
        self.poller.call_later(min(_TICK, every), self._tick)
