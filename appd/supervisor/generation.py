"""Generations of workers as plain records: who is there, and how far each has come.

A worker is loading (reads the file, imports), prepared (could listen), starting (was told to go), serving, draining. A
generation is as far as the slowest of its workers; it wants as many workers as its first one read in the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

__all__ = ["DRAINING", "LOADING", "PREPARED", "SERVING", "STARTING", "Generation", "Worker", "send_signal"]

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


# Pauses before a worker that died again is replaced, in seconds.
_PATIENCE = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# A worker that has lived so long, in seconds, died for the first time again.
_SETTLED = 60.0


def send_signal(workers: Iterable[Worker], number: int) -> None:
    """Sends a signal to each; those that have been waited for are passed over."""
    for worker in workers:
        if not worker.gone:
            os.kill(worker.pid, number)


class Worker:
    """One process.

    Args:
        pid: Its process ID.
        number: Its place in the generation, from 1.
        channel: The supervisor's end of its channel; closed when the process has gone.
        stacks: A memfd that its stacks are written to when it is aborted; closed by `take_stacks`.
        now: Monotonic seconds.

    Attributes:
        state: How far it has come.
        status: What it said last of itself.
        connections: How many connections it has open.
        dropped: How many log entries it has lost.
        alive: When it last said WATCHDOG=1.
        watchdog: How long it may be silent, in seconds; None before it said.
    """

    def __init__(self, pid: int, number: int, channel: Any, stacks: int, now: float) -> None:
        self.pid = pid
        self.number = number
        self.channel = channel
        self._stacks = stacks
        self.started = now
        self.state = LOADING
        self.status = ""
        self.errno = 0
        self.connections = 0
        self.dropped = 0
        self.alive = now
        self.watchdog: float | None = None
        self.killed = False
        self.gone = False

    def hears(self, word: str) -> bool:
        """Moves on by a word. Returns whether it did."""
        state = TRANSITIONS.get((self.state, word))
        if state is None:
            return False
        self.state = state
        return True

    def take_stacks(self) -> str:
        """What faulthandler wrote when it died; "" when it did not die so. To be called once, when it has gone."""
        self.gone = True
        try:
            return os.pread(self._stacks, 1 << 20, 0).decode("utf-8", "replace").rstrip()
        finally:
            os.close(self._stacks)

    def tell(self, word: str) -> None:
        """Sends a line down the channel; one that has gone hears nothing."""
        try:
            self.channel.send(f"{word}\n".encode())
        except OSError:
            return


class Generation:
    """The workers that serve one reading of the file.

    Args:
        number: From 1.

    Attributes:
        wanted: How many workers the file wants; None before the first worker has read it.
        servers: Server name → what tells a changed one from the same, as the first worker said.
        keeps: The names in the store that it uses.
        certificates: When its certificates expire, as its workers said.
        draining: Whether it is on its way out.
        failures: How often in a row a worker died, by number.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.workers: dict[int, Worker] = {}
        self.wanted: int | None = None
        self.servers: dict[str, str] = {}
        self.keeps: frozenset[str] = frozenset()
        self.certificates = ""
        self.draining = False
        self.failures: dict[int, int] = {}

    def all_in(self, *states: str) -> bool:
        """Whether every wanted worker is there and in one of the states."""
        if self.wanted is None or len(self.workers) < self.wanted:
            return False
        return all(one.state in states for one in self.workers.values())

    def patience(self, worker: Worker, now: float) -> float:
        """How long to wait before a worker that died is replaced, in seconds: not at all the first time.

        Args:
            worker: The one that died.
            now: Monotonic seconds.
        """
        failures = 0 if now - worker.started > _SETTLED else self.failures.get(worker.number, 0)
        self.failures[worker.number] = failures + 1
        return _PATIENCE[min(failures, len(_PATIENCE) - 1)]

    @property
    def connections(self) -> int:
        """How many connections its workers have open."""
        return sum(one.connections for one in self.workers.values())
