"""A worker as a plain record: how far it has come, what it says of itself, what it is told.

It is loading (reads the file, imports), prepared (could listen), starting (was told to go), serving, draining.
"""

from __future__ import annotations

import os
import signal

from appd.startup.bare import suppress
from appd.supervisor.mailbox import number_of
from appd.supervisor.poller import describe_exit
from appd.supervisor.spawn import Spawned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["DRAINING", "LOADING", "PREPARED", "SERVING", "STARTING", "Worker", "send_signal"]

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
    *("running", "queued", "threads", "pending", "troubles"),
    *("recycle", "recycle_failures", "recycle_at", "retired", "unsaid"),
)

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
        troubles: What is wrong with its servers, as `appd.troubles.pack` has it.
        dropped: How many log entries it has lost.
        recycle: Why it is to be recycled, as it said; "" before it did.
        recycle_failures: How many fresh workers could not take its place.
        recycle_at: When to try it, in monotonic seconds.
        retired: Whether it has left its place to another, or is not to have it.
        stacks: The memfd that they are written to.
        asked: When it was last asked where it is as it loads, in monotonic seconds.
        asking: How often for that answer, 0 when it has come.
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
        self.pending = self.troubles = ""
        self.dropped = 0
        self.recycle = ""
        self.recycle_failures = 0
        self.recycle_at = 0.0
        self.retired = False
        self.alive = self.started
        self.watchdog: float | None = None
        self.asked: float | None = None
        self.asking = 0
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
        self.troubles = words.get("X_APPD_TROUBLES", self.troubles)
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
