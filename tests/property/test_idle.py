"""`idle-exit`: arrivals at any moment of the decision, on a model of queue, workers and messages; nobody is lost."""

from __future__ import annotations

import random
from collections import deque

import pytest

from appd.supervisor.idle import LEAVE, LOOK, REST, WAKE, IdleExit


class World:
    """Two workers and a supervisor with messages under way between them, and the queue of a socket that outlives them."""

    def __init__(self, seed):
        self.random, self.queue, self.served, self.exits, self.woken = random.Random(seed), deque(), [], 0, 0
        self.now = 0.0
        self.start()

    def start(self):
        self.exit = IdleExit(5.0, self.now)
        self.workers = [Worker() for _ in range(2)]
        self.runs = True

    def step(self):
        if not self.runs:
            # systemd looks into the queue.
            if self.queue:
                self.start()
            return
        worker = self.random.choice(self.workers)
        action = self.random.choice(("accept", "finish", "hear", "answer", "report", "tell", "tick", "tick"))
        getattr(self, action)(worker)

    def accept(self, worker):
        if worker.accepts and self.queue:
            worker.open.append(self.queue.popleft())
            worker.news = True

    def finish(self, worker):
        if worker.open:
            self.served.append(worker.open.pop())
            worker.news = True

    def hear(self, worker):
        if worker.inbox:
            word, number = worker.inbox.popleft()
            worker.accepts = word == WAKE
            if word == REST:
                worker.asked = number

    def answer(self, worker):
        """In a later turn of the reactor than the resting."""
        if worker.asked is not None:
            worker.outbox.append((worker.asked, not worker.accepts and not worker.open and not worker.news))
            worker.asked = None

    def report(self, worker):
        if worker.news:
            worker.news = False
            worker.outbox.append(len(worker.open))

    def tell(self, worker):
        if worker.outbox:
            said = worker.outbox.popleft()
            if isinstance(said, int):
                worker.said = said
                self.do(self.exit.happened(self.now))
            else:
                self.do(self.exit.answered(id(worker), *said, self.now))

    def tick(self, _worker):
        self.now += 0.3
        if any(worker.said for worker in self.workers):
            self.do(self.exit.happened(self.now))
        else:
            self.do(self.exit.passed([id(worker) for worker in self.workers], self.now))

    def do(self, action):
        if action in (REST, WAKE):
            self.woken += action == WAKE
            for worker in self.workers:
                worker.inbox.append((action, self.exit.round))
        elif action == LOOK:
            self.do(self.exit.looked(bool(self.queue), self.now))
        elif action == LEAVE:
            assert not any(worker.open or worker.accepts for worker in self.workers)
            self.exits += 1
            self.runs = False
            # Arrivals between the look and the end are in the queue, for the next instance.
            self.arrive(self.random.choice((0, 0, 1)))

    def arrive(self, count):
        for _ in range(count):
            self.arrived += 1
            self.queue.append(self.arrived)

    arrived = 0


class Worker:
    def __init__(self):
        self.accepts, self.open, self.news, self.said = True, [], False, 0
        self.inbox, self.outbox, self.asked = deque(), deque(), None


@pytest.mark.parametrize("seed", range(12))
def test_nobody_is_lost(seed):
    """A thousand arrivals, some in bursts and most after a pause in which the service may end: all are served, once."""
    world = World(seed)
    while world.arrived < 1000:
        for _ in range(world.random.choice((0, 3, 30, 100, 300))):
            world.step()
        world.arrive(world.random.choice((1, 1, 1, 5)))
    for _ in range(200_000):
        if len(world.served) == world.arrived:
            break
        world.step()
    assert sorted(world.served) == list(range(1, world.arrived + 1))
    assert world.exits > 10 and world.woken > 10


def test_the_rules():
    """Not before its time, not without all, not for an answer to an earlier question, not after no answer."""
    one = IdleExit(5.0, 0.0)
    assert one.passed([1, 2], 4.9) == "" and one.passed([], 6.0) == "" and one.passed([1, 2], 5.0) == REST
    assert one.answered(1, 1, True, 5.0) == "" and one.answered(1, 1, True, 5.0) == ""
    assert one.passed([1, 2], 9.9) == "" and one.passed([1, 2], 10.0) == WAKE
    assert one.answered(2, 1, True, 10.0) == "" and one.passed([1, 2], 14.9) == ""
    assert one.passed([1, 2], 15.0) == REST and one.round == 2
    assert one.answered(1, 1, True, 15.0) == "" and one.answered(1, 2, True, 15.0) == ""
    assert one.answered(2, 2, True, 15.0) == LOOK and one.looked(True, 15.0) == WAKE
    assert one.passed([1], 20.0) == REST and one.answered(1, 3, False, 20.0) == WAKE
    assert one.passed([1], 25.0) == REST and one.happened(25.0) == WAKE and one.happened(25.0) == ""
    assert one.passed([1], 30.0) == REST and one.answered(1, 5, True, 30.0) == LOOK
    assert one.looked(False, 30.0) == LEAVE
