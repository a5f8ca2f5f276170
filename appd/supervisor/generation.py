"""Generations of workers as plain records: who is there, and how far each has come.

A worker is loading (reads the file, imports), prepared (could listen), starting (was told to go), serving, draining. A
generation is as far as the slowest of its workers; it wants as many workers as its first one read in the file.
"""

from __future__ import annotations

import os
import signal

from appd.startup.bare import suppress
from appd.supervisor.mailbox import number_of, unpack
from appd.supervisor.poller import describe_exit
from appd.supervisor.spawn import Spawned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Protocol
else:
    Protocol = object

__all__ = ["DRAINING", "LOADING", "PREPARED", "SERVING", "STARTING", "Generation", "Spawn", "Worker", "send_signal"]

LOADING = "loading"
PREPARED = "prepared"
STARTING = "starting"
SERVING = "serving"
DRAINING = "draining"

# (state, word of the worker or of the supervisor) → state. Others are passed over: a worker's words may cross ours.
TRANSITIONS = {
    (LOADING, "PREPARED"): PREPARED,
    (PREPARED, "go"): STARTING,
    (STARTING, "READY"): SERVING,
    (SERVING, "STOPPING"): DRAINING,
    (STARTING, "STOPPING"): DRAINING,
    (PREPARED, "STOPPING"): DRAINING,
    (LOADING, "STOPPING"): DRAINING,
}


# What of a worker is plain, and the same for every version of the supervisor.
_KEPT = (
    *("pid", "number", "started", "state", "status", "errno"),
    *("connections", "requests", "dropped", "alive", "watchdog", "killed"),
    *("running", "queued", "threads", "pending"),
    *("recycle", "recycle_failures", "recycle_at", "retired", "unsaid"),
)

# Pauses before a worker that died again is replaced, in seconds.
_PATIENCE = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# A worker that has lived so long, in seconds, died for the first time again.
_SETTLED = 60.0
# Hosted code may say anything; so much of it goes into the journal.
_MOST_REASON = 200
# Of the words for a worker that reads none, so many wait; beyond that log levels are not worth it.
_MOST_UNSAID = 1000


def send_signal(workers: Iterable[Worker], number: int) -> None:
    """Sends a signal to each; those that have been waited for are passed over."""
    for worker in workers:
        if not worker.gone:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, number)


class Worker:
    """One process.

    Args:
        number: Its place in the generation, from 1.
        spawned: The process, with what belongs to it.

    Resource handling: the channel is closed when the process has gone, by whoever removes it from its generation; the
    memfd of its stacks by `take_stacks`.

    Attributes:
        state: How far it has come.
        status: What it said last of itself.
        exit: What it is about to end with, when it cannot serve.
        connections: How many connections it has open.
        requests: How many requests it has begun to answer.
        running: How many calls run in its threads.
        queued: How many calls wait for one.
        threads: How many there are.
        pending: The calls of each mount, as `appd.pending.pack` has them.
        dropped: How many log entries it has lost.
        recycle: Why it is to be recycled, as it said; "" before it did.
        recycle_failures: How many fresh workers could not take its place.
        recycle_at: When to try it, in monotonic seconds.
        retired: Whether it has left its place to another, or is not to have it.
        stacks: The memfd that they are written to.
        told_loading: When it was last told where it is as it loads, in monotonic seconds.
        alive: When it last said WATCHDOG=1.
        watchdog: How long it may be silent, in seconds; None before it said.
        unsaid: The words that its channel has no room for, as it does not read now.
    """

    def __init__(self, number: int, spawned: Spawned) -> None:
        self.number = number
        self.pid, self.channel, self.stacks, self.started = spawned
        self.state = LOADING
        self.status = ""
        self.errno = self.exit = 0
        self.connections = 0
        self.requests = 0
        self.running = self.queued = self.threads = 0
        self.pending = ""
        self.dropped = 0
        self.recycle = ""
        self.recycle_failures = 0
        self.recycle_at = 0.0
        self.retired = False
        self.alive = self.started
        self.watchdog: float | None = None
        self.told_loading: float | None = None
        self.killed = False
        self.gone = False
        self.unsaid: list[str] = []

    def keep(self) -> dict[str, Any]:
        """What a later version of the supervisor needs to know of it, as JSON has it; the channel is a descriptor."""
        return {name: getattr(self, name) for name in _KEPT} | {
            "channel": self.channel.fileno(),
            "stacks": self.stacks,
        }

    @classmethod
    def kept(cls, known: Mapping[str, Any], channel: Any) -> Worker:
        """Makes it again.

        Args:
            known: What `keep` said, of this version or of another.
            channel: The supervisor's end of its channel.
        """
        made = cls(known["number"], Spawned(known["pid"], channel, known["stacks"], known["started"]))
        for name in _KEPT:
            setattr(made, name, known.get(name, getattr(made, name)))
        return made

    def hears(self, word: str) -> bool:
        """Moves on by a word. Returns whether it did."""
        state = TRANSITIONS.get((self.state, word))
        if state is None:
            return False
        self.state = state
        return True

    def note(self, words: Mapping[str, str], now: float) -> None:
        """Takes what it says of itself.

        Args:
            words: The message.
            now: Monotonic seconds.
        """
        self.status = words.get("STATUS", self.status)
        self.errno = number_of(words, "ERRNO", self.errno)
        self.exit = number_of(words, "X_APPD_EXIT", self.exit)
        self.connections = number_of(words, "X_APPD_CONNECTIONS", self.connections)
        self.requests = number_of(words, "X_APPD_REQUESTS", self.requests)
        self.dropped = number_of(words, "X_APPD_DROPPED", self.dropped)
        self.running = number_of(words, "X_APPD_RUNNING", self.running)
        self.queued = number_of(words, "X_APPD_QUEUED", self.queued)
        self.threads = number_of(words, "X_APPD_THREADS", self.threads)
        self.pending = words.get("X_APPD_PENDING", self.pending)
        self.recycle = self.recycle or words.get("X_APPD_RECYCLE", "")[:_MOST_REASON]
        self.alive = now
        if "X_APPD_WATCHDOG" in words:
            self.watchdog = number_of(words, "X_APPD_WATCHDOG", 60000) / 1000

    def stop(self) -> None:
        """Has it drain and leave."""
        # It takes two signals for a stop at once, and KillMode=control-group has systemd send it one.
        if self.state == LOADING:
            send_signal([self], signal.SIGTERM)
        else:
            self.tell("stop")

    @property
    def last_words(self) -> str:
        """Why it cannot start, as it said."""
        return self.status.removeprefix("cannot start: ")

    def reason(self, status: int) -> str:
        """Why it did not serve, or not any more.

        Args:
            status: What wait(2) says of it.
        """
        if self.killed:
            return f"worker has not answered for {self.watchdog or 0:.0f} s"
        if self.status and os.waitstatus_to_exitcode(status) > 0:
            return self.last_words
        return f"worker {describe_exit(status)}"

    def take_stacks(self) -> str:
        """What faulthandler wrote when it died; "" when it did not die so. To be called once, when it has gone."""
        self.gone = True
        try:
            return os.pread(self.stacks, 1 << 20, 0).decode("utf-8", "replace").rstrip()
        finally:
            os.close(self.stacks)

    def tell(self, word: str) -> None:
        """Sends a line down the channel; one that has gone hears nothing. For one that does not read it waits."""
        if len(self.unsaid) < _MOST_UNSAID or not word.startswith("log-level"):
            self.unsaid.append(word)
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as far as there is room; to be called once in a while."""
        while self.unsaid:
            try:
                # A line is whole or not at all: unix(7) cuts only what is longer than half of the buffer.
                self.channel.send(f"{self.unsaid[0]}\n".encode())
            except BlockingIOError:
                return
            except OSError:
                self.unsaid.clear()
                return
            del self.unsaid[0]


class Generation:
    """The workers that serve one reading of the file.

    Args:
        number: From 1.

    Attributes:
        reading: A memfd with what the file said when its first worker read it; None before that is known.
        workers: Those that hold a place, by its number.
        beside: Those that do not: fresh ones that are to replace another, and replaced ones that drain.
        wanted: How many workers the file wants; None before the first worker has read it.
        listening: Server name → what Status says of it.
        servers: Server name → what tells a changed one from the same, as the first worker said.
        keeps: The names in the store that it uses.
        idle_exit: After how long without anything to do the service may end, in seconds; 0 is never.
        certificates: When its certificates expire, as its workers said.
        draining: Whether it is on its way out.
        ended: Whether it was killed without having served.
        failures: How often in a row a worker died, by number.
        restarts: How often one died at all, by number.
        recycled: How often one was recycled, by number.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.reading: int | None = None
        self.workers: dict[int, Worker] = {}
        self.beside: list[Worker] = []
        self.wanted: int | None = None
        self.servers: dict[str, str] = {}
        self.listening: dict[str, dict[str, Any]] = {}
        self.keeps: frozenset[str] = frozenset()
        self.idle_exit = 0.0
        self.certificates = ""
        self.draining = False
        self.ended = False
        self.failures: dict[int, int] = {}
        self.restarts: dict[int, int] = {}
        self.recycled: dict[int, int] = {}

    @property
    def everyone(self) -> list[Worker]:
        """Every process of it."""
        return [*self.workers.values(), *self.beside]

    @property
    def fresh(self) -> list[Worker]:
        """Those on their way to the place of another; see `recycling`."""
        return [one for one in self.beside if not one.retired]

    def learn(self, words: Mapping[str, str]) -> None:
        """Takes what the first worker tells of the file, in one message or several.

        Args:
            words: X_APPD_SERVERS, X_APPD_LISTENING, X_APPD_KEEPS and X_APPD_IDLE_EXIT count; later X_APPD_KEEPS alone,
                of what a service has bound by itself.
        """
        self.keeps |= set(words.get("X_APPD_KEEPS", "").split())
        if self.wanted is not None:
            return
        self.idle_exit = number_of(words, "X_APPD_IDLE_EXIT", 0) / 1000
        self.servers.update(unpack(words.get("X_APPD_SERVERS", "")))
        for server, told in unpack(words.get("X_APPD_LISTENING", "")).items():
            type_name, *addresses = told.split("\n")
            self.listening[server] = {"server": server, "type": type_name, "addresses": addresses}

    def tell_first(self, word: str) -> None:
        """Tells the worker that has what runs in one process only."""
        if 1 in self.workers:
            self.workers[1].tell(word)

    def remove(self, worker: Worker) -> None:
        """Forgets a worker that has gone."""
        if worker in self.beside:
            self.beside.remove(worker)
        else:
            del self.workers[worker.number]
        self._forget()

    def part(self) -> bool:
        """It is on its way out: there will be no further worker. Returns whether there is one left."""
        self.draining = True
        self._forget()
        return bool(self.everyone)

    def take_reading(self, words: Mapping[str, str], fds: list[int]) -> None:
        """Takes over what the first worker passes for those that come after it.

        Args:
            words: X_APPD_READING counts.
            fds: The descriptors of the message; what is taken is removed.
        """
        if self.reading is None and fds and "X_APPD_READING" in words:
            self.reading = fds.pop()

    def _forget(self) -> None:
        """Forgets the file, when nobody will ask for it any more."""
        if self.draining and not self.everyone and self.reading is not None:
            os.close(self.reading)
            self.reading = None

    def keep(self) -> dict[str, Any]:
        """What a later version of the supervisor needs to know of it, as JSON has it."""
        return {
            "number": self.number,
            "reading": self.reading,
            "workers": [worker.keep() for worker in self.workers.values()],
            "wanted": self.wanted,
            "servers": self.servers,
            "keeps": sorted(self.keeps),
            "idle_exit": self.idle_exit,
            "certificates": self.certificates,
            "draining": self.draining,
            "ended": self.ended,
            "failures": list(self.failures.items()),
            "beside": [worker.keep() for worker in self.beside],
            "listening": self.listening,
            "restarts": list(self.restarts.items()),
            "recycled": list(self.recycled.items()),
        }

    @classmethod
    def kept(cls, known: Mapping[str, Any], channel: Callable[[int], Any]) -> Generation:
        """Makes it again.

        Args:
            known: What `keep` said, of this version or of another.
            channel: Makes a channel of its descriptor.
        """
        made = cls(known["number"])
        made.reading = known.get("reading")
        made.workers = {one["number"]: Worker.kept(one, channel(one["channel"])) for one in known["workers"]}
        made.wanted = known["wanted"]
        made.servers = dict(known["servers"])
        made.keeps = frozenset(known["keeps"])
        made.idle_exit = known.get("idle_exit", 0.0)
        made.certificates = known.get("certificates", "")
        made.draining = known["draining"]
        made.ended = known["ended"]
        made.failures = dict(known["failures"])
        made.beside = [Worker.kept(one, channel(one["channel"])) for one in known.get("beside", ())]
        made.listening = dict(known.get("listening", {}))
        made.restarts = dict(known.get("restarts", ()))
        made.recycled = dict(known.get("recycled", ()))
        return made

    def all_in(self, *states: str) -> bool:
        """Whether every wanted worker is there and in one of the states."""
        if self.wanted is None or len(self.workers) < self.wanted:
            return False
        return all(one.state in states for one in self.workers.values())

    def patience(self, number: int, lived: float) -> float:
        """How long to wait before a worker that died is replaced, in seconds: not at all the first time.

        Args:
            number: The one that died.
            lived: For how long it was there, in seconds.
        """
        failures = 0 if lived > _SETTLED else self.failures.get(number, 0)
        self.failures[number] = failures + 1
        return _PATIENCE[min(failures, len(_PATIENCE) - 1)]

    @property
    def connections(self) -> int:
        """How many connections its workers have open."""
        return sum(one.connections for one in self.everyone)


class Spawn(Protocol):
    """Starts a worker and notes it in its generation, in the place of that number or beside it."""

    def __call__(self, generation: Generation, number: int, *, forked: bool = False, beside: bool = False) -> None: ...
