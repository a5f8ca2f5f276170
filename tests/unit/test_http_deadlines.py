"""Deadlines of many connections."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appd.http.lane.deadlines import Deadlines


class One:
    """What has a deadline."""

    deadline = 0.0
    tick = 0


def test_later_costs_nothing() -> None:
    """A deadline that moves later is an attribute; it is looked at at its old time, and kept."""
    deadlines, one = Deadlines(), One()
    deadlines.put(one, 10)
    one.deadline = 100
    assert deadlines.due(11) == []
    assert deadlines.due(99) == []
    assert deadlines.due(101) == [one]
    assert deadlines.due(1000) == []


def test_sooner() -> None:
    """One that moves earlier is found earlier, once, and whoever waits is told."""
    told: list[None] = []
    deadlines, one = Deadlines(lambda: told.append(None)), One()
    deadlines.put(one, 100)
    deadlines.put(one, 10)
    assert len(told) == 2
    assert deadlines.wait(0) == 10.25
    assert deadlines.due(11) == [one]
    assert deadlines.due(200) == []


def test_dropped() -> None:
    """It is forgotten, also by the memory."""
    deadlines, one = Deadlines(), One()
    deadlines.put(one, 10)
    deadlines.drop(one)
    assert deadlines.due(20) == []
    assert deadlines.wait(20) is None


def test_thousands_cost_nothing() -> None:
    """Until their tick has come there is nothing to look at."""
    deadlines = Deadlines()
    those = [One() for _ in range(5000)]
    for one in those:
        deadlines.put(one, 75)
    assert deadlines.wait(0) == 75.25
    assert deadlines.due(74) == []
    assert len(deadlines.due(76)) == 5000


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 50), st.booleans()), max_size=40))
def test_nothing_is_lost(steps: list[tuple[int, float, bool]]) -> None:
    """Whatever moves: at the end of its deadline each is found, and none before."""
    deadlines, those, now = Deadlines(), [One() for _ in range(5)], 0.0
    waiting: set[One] = set()
    for number, delay, look in steps:
        one = those[number]
        deadlines.put(one, now + delay)
        waiting.add(one)
        if look:
            now += delay / 2
            for found in deadlines.due(now):
                assert found.deadline <= now
                waiting.remove(found)
    assert set(deadlines.due(1e6)) == waiting
