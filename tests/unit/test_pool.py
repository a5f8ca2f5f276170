"""The threads of Twisted's transports: a task is done or cancelled, and whoever waits for it hears of it."""

from __future__ import annotations

import random
import threading
import time

import pytest
from support.running import wait_until
from twisted.internet.defer import CancelledError

from appd.worker.pool import ApplicationThreads


class Told:
    """What whoever waits for a task hears."""

    def __init__(self) -> None:
        self.results: list[object] = []
        self.runs = 0

    def on_result(self, ok: bool, result: object) -> None:
        self.results.append(result if ok else result.type)  # type: ignore[attr-defined]  # a Failure

    def run(self, gate: threading.Event) -> str:
        self.runs += 1
        gate.wait()
        return "done"


@pytest.mark.parametrize("seed", range(20))
def test_done_or_cancelled(seed: int) -> None:
    """At whatever moment the end comes; nobody is left without a word, nobody gets two."""
    chance = random.Random(seed)
    pool = ApplicationThreads(chance.randint(1, 3))
    pool.start()
    gates = [threading.Event() for _ in range(3)]
    told = [Told() for _ in range(60)]

    def ask() -> None:
        for one in told:
            pool.callInThreadWithCallback(one.on_result, one.run, chance.choice(gates))
            time.sleep(chance.choice((0, 0, 0.0005)))

    asking = threading.Thread(target=ask)
    asking.start()
    for gate in gates[: chance.randint(0, 3)]:
        time.sleep(chance.choice((0, 0.005)))
        gate.set()
    ended = pool.end()
    assert pool.cancelled == ended and pool.queued == 0
    for gate in gates:
        gate.set()
    asking.join()
    wait_until(lambda: all(one.results for one in told))
    pool.stop()
    assert {tuple(one.results) for one in told} <= {("done",), (CancelledError,)}
    assert all(one.runs == (one.results == ["done"]) for one in told)
    assert (pool.running, pool.queued, pool.cancelled) == (0, 0, ended)


def test_figures() -> None:
    """How many run and how many wait."""
    pool, gate, told = ApplicationThreads(2), threading.Event(), [Told() for _ in range(5)]
    pool.start()
    for one in told:
        pool.callInThreadWithCallback(one.on_result, one.run, gate)
    wait_until(lambda: (pool.running, pool.queued) == (2, 3))
    gate.set()
    wait_until(lambda: (pool.running, pool.queued) == (0, 0))
    pool.stop()


def test_nobody_waits() -> None:
    """Tasks without anybody to tell end as well."""
    pool, gate, told = ApplicationThreads(1), threading.Event(), Told()
    pool.start()
    for _ in range(2):
        pool.callInThread(told.run, gate)
    wait_until(lambda: pool.running == 1)
    assert pool.end() == 1
    gate.set()
    pool.stop()
    assert told.runs == 1
