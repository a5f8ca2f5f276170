"""When a worker asks to be replaced: the draw, the limits, once."""

from __future__ import annotations

import os
import random

import pytest

from appd.supervisor.wear import Wear, resident_memory

MB = 1 << 20


class Worker:
    """What a `Wear` sees and says."""

    def __init__(self, requests=None, memory=None, draw=lambda low, high: high):
        self.requests, self.resident = 0, 50 * MB
        self.asked, self.warned = [], []
        self.wear = Wear(
            requests,
            memory,
            lambda: self.requests,
            self.asked.append,
            self.warned.append,
            lambda: self.resident,
            draw,
        )

    def at(self, requests=0, resident=0):
        """Looks when it has come that far; returns what it has asked so far."""
        self.requests, self.resident = requests, resident
        self.wear.look()
        return self.asked


def test_requests():
    """It asks when the limit is reached, not before."""
    worker = Worker(requests=1000)
    assert worker.at(999) == []
    assert worker.at(1003) == ["it has served 1003 requests (max-requests 1000)"]


def test_it_asks_once():
    """However much more it serves, and whatever else it grows to."""
    worker = Worker(requests=10, memory=100 * MB)
    worker.at(20, 200 * MB)
    worker.at(30, 300 * MB)
    assert len(worker.asked) == 1 and worker.wear.pointless


def test_memory():
    """It asks above max-memory, with both figures."""
    worker = Worker(memory=100 * MB)
    assert worker.at(10**9, 100 * MB) == []
    assert worker.at(0, 130 * MB) == ["it has grown to 130 MB (max-memory 100 MB)"]


def test_the_limit_is_drawn():
    """From 90 to 100 % of max-requests, and whole; 1 stays 1."""
    bounds = []
    Worker(requests=1000, draw=lambda low, high: bounds.append((low, high)) or low)
    assert bounds == [(900.0, 1000)]
    assert Worker(requests=1, draw=lambda low, _high: low).at(1) != []
    drawn = random.Random(1)
    for most in (1, 2, 10, 997):
        worker = Worker(requests=most, draw=drawn.uniform)
        assert worker.at(int(0.9 * most) - 1) == []
        assert worker.at(most) != []


def test_a_limit_that_makes_no_sense():
    """A worker that starts with more than max-memory is not replaced by one that would too; requests still count."""
    worker = Worker(requests=10, memory=50 * MB)
    assert worker.warned == ["max-memory 50 MB has no effect: a worker has 50 MB before its first request"]
    assert worker.at(0, 300 * MB) == [] and worker.at(10, 300 * MB) != []
    assert Worker(memory=10 * MB).wear.pointless


def test_nothing_to_look_for():
    """Without either key nobody needs to look."""
    worker = Worker()
    assert worker.wear.pointless and worker.at(10**9, 10**12) == []


def test_resident_memory():
    """What the kernel says, in bytes; 0 for a process that is not there."""
    with open("/proc/self/status") as file:
        said = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    assert resident_memory() == pytest.approx(said * 1024, rel=0.2)
    assert resident_memory(os.getpid()) > MB
    assert resident_memory(2**22 + 1) == 0
