"""Who is recycled when: records and a clock of the test's own, no processes."""

from __future__ import annotations

import json
import os
import socket

import pytest

from appd.supervisor.generation import Generation
from appd.supervisor.recycling import Recycling
from appd.supervisor.spawn import Spawned
from appd.supervisor.worker import DRAINING, LOADING, PREPARED, SERVING, STARTING, Worker

EXIT_1 = 1 << 8


class Host:
    """A generation that serves, and what a supervisor would do for it."""

    def __init__(self, workers=2):
        self.now, self.said, self.refused = 100.0, [], False
        self.ends = []
        self.generation = Generation(1)
        for number in range(1, workers + 1):
            self.generation.workers[number] = self.worker(number, SERVING)
        self.recycling = Recycling(self.spawn, self, lambda: self.now)

    def worker(self, number, state=LOADING):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.ends += [ours, theirs]
        self.now += 1
        made = Worker(number, Spawned(10_000_000 + len(self.ends), ours, os.memfd_create("stacks"), self.now))
        made.state, made.theirs = state, theirs
        return made

    def write(self, text, *_args, **_fields):
        self.said.append(text)

    def spawn(self, generation, number, *, forked=False, beside=False):
        assert beside and not forked
        if self.refused:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        generation.beside.append(self.worker(number))

    def told(self, worker):
        """What a worker was told since the last time."""
        try:
            return worker.theirs.recv(1000).decode().split()
        except BlockingIOError:
            return []

    def close(self):
        for worker in self.generation.everyone:
            worker.take_stacks()
        for one in self.ends:
            one.close()

    def ask(self, *numbers):
        for number in numbers:
            self.generation.workers[number].recycle = "it has served 10 requests (max-requests 10)"
        self.recycling.begin(self.generation)

    def fresh(self):
        (one,) = self.generation.fresh
        return one

    def fail(self, status=EXIT_1):
        one = self.fresh()
        self.generation.remove(one)
        self.recycling.failed(self.generation, one, status)
        one.take_stacks()


@pytest.fixture
def host():
    made = Host()
    yield made
    made.close()


def test_from_the_word_to_the_place(host):
    """Prepared: the old one pauses, the fresh one goes. Serving: it has the place, and the old one drains."""
    old = host.generation.workers[1]
    host.ask(1)
    fresh = host.fresh()
    assert fresh.number == 1 and host.generation.workers[1] is old and host.told(old) == []
    fresh.hears("PREPARED")
    assert host.recycling.advance(host.generation) == 0
    assert (host.told(old), host.told(fresh), fresh.state) == (["pause"], ["go"], STARTING)
    assert host.recycling.advance(host.generation) == 0 and host.told(old) == []
    fresh.hears("READY")
    assert host.recycling.advance(host.generation) == 1
    assert host.generation.workers[1] is fresh and host.generation.beside == [old] and host.generation.fresh == []
    assert host.told(old) == ["drain"] and host.generation.recycled == {1: 1}
    (line,) = host.said
    assert line.startswith("worker 1 is recycled, as it has served 10 requests (max-requests 10): PID ")


def test_one_at_a_time_the_oldest_first(host):
    """A fresh worker that soon asks again comes after those that have waited."""
    host.ask(1, 2)
    for state in (PREPARED, SERVING):
        host.recycling.begin(host.generation)
        assert host.fresh().number == 1
        host.fresh().state = state
        host.recycling.advance(host.generation)
    host.ask(1)
    assert host.fresh().number == 2


def test_patience(host):
    """A fresh worker that cannot start: the old one goes on, tried again after growing pauses, told once."""
    old = host.generation.workers[1]
    host.ask(1)
    for pause in (1, 2, 10, 60, 300, 300):
        host.fresh().state = STARTING
        host.fail()
        assert host.told(old) == ["resume"]
        host.now += pause - 0.01
        host.recycling.begin(host.generation)
        assert host.generation.fresh == []
        host.now += 0.01
        host.recycling.begin(host.generation)
        assert host.fresh().number == 1
    assert len(host.said) == 1 and host.said[0].startswith("worker 1 cannot be recycled and goes on, though it has")
    assert host.generation.restarts == {}


def test_no_further_process(host):
    """The host refuses: the same patience."""
    host.refused = True
    host.ask(1)
    assert host.generation.fresh == [] and "no process: Resource temporarily unavailable" in host.said[0]
    host.refused, host.now = False, host.now + 1
    host.recycling.begin(host.generation)
    assert host.fresh().number == 1


def test_two_may_drain_in_one_place(host):
    """The third waits; another place does not."""
    for _ in range(2):
        old = host.worker(1, DRAINING)
        old.retired = True
        host.generation.beside.append(old)
    host.ask(1)
    assert host.generation.fresh == []
    host.ask(2)
    assert host.fresh().number == 2


def test_a_death_while_the_fresh_one_starts(host):
    """It has the place then, whatever its state."""
    old = host.generation.workers[1]
    host.ask(1)
    fresh = host.fresh()
    host.generation.remove(old)
    assert host.recycling.inherit(host.generation, old)
    assert host.generation.workers[1] is fresh and host.generation.beside == []
    assert not host.recycling.inherit(host.generation, host.generation.workers[2])
    old.take_stacks()


def test_another_generation_waits_for_a_hand_over(host):
    """What runs in one process only is paused in the worker that has it, and not between two."""
    assert host.recycling.pause(host.generation) and host.told(host.generation.workers[1]) == ["pause"]
    host.ask(1)
    host.fresh().state = STARTING
    assert not host.recycling.pause(host.generation) and host.told(host.generation.workers[1]) == []


def test_a_renewed_supervisor_goes_on(host):
    """Fresh and replaced workers, and the history of each place, survive as JSON."""
    old = host.worker(2, DRAINING)
    old.retired = True
    host.generation.beside.append(old)
    host.ask(1)
    host.generation.restarts, host.generation.recycled = {1: 3}, {2: 1}
    host.generation.learn({"X_APPD_SERVERS": '{"a=b":"1"}', "X_APPD_LISTENING": '{"a=b":"echo\\n127.0.0.1:7 (7)"}'})
    channels = {one.channel.fileno(): one.channel for one in host.generation.everyone}
    known = json.loads(json.dumps(host.generation.keep()))
    made = Generation.kept(known, channels.__getitem__)
    assert [one.pid for one in made.everyone] == [one.pid for one in host.generation.everyone]
    assert [one.number for one in made.fresh] == [1] and made.workers[1].recycle.startswith("it has served")
    assert (made.restarts, made.recycled) == ({1: 3}, {2: 1})
    assert made.servers == {"a=b": "1"}
    assert made.listening == {"a=b": {"server": "a=b", "type": "echo", "addresses": ["127.0.0.1:7 (7)"]}}
    # A state that an earlier version left has none of it.
    for key in ("beside", "listening", "restarts", "recycled"):
        del known[key]
    assert Generation.kept(known, channels.__getitem__).everyone
