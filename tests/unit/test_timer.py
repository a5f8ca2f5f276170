"""<timer> with a clock of the test's own: the grid, jitter, overlap, two copies of one timer."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from appd.servers.timer.schedule import Schedule
from appd.servers.timer.timer import TimerService
from appd.servers.turn import Turn


class Calls:
    """What a timer calls; with `hold` a call lasts until `end`."""

    def __init__(self, clock: Clock, hold: bool = False) -> None:
        self.times: list[float] = []
        self.running: list[Deferred[None]] = []
        self._clock, self._hold = clock, hold

    def __call__(self) -> Deferred[None] | None:
        self.times.append(self._clock.seconds())
        if not self._hold:
            return None
        self.running.append(Deferred())
        return self.running[-1]


@pytest.fixture
def clock() -> Clock:
    made = Clock()
    made.advance(1000)
    return made


def timer(calls, clock, **more):
    made = TimerService("t", calls, "m:call", clock, 10.0, **more)
    made.startService()
    return made


def test_every_so_often(clock):
    """The first after one interval, and on; each counts as a request."""
    calls = Calls(clock)
    made = timer(calls, clock)
    clock.pump([1] * 35)
    assert calls.times == [1010, 1020, 1030] and made.requests == 3
    made.stopService()
    clock.pump([1] * 35)
    assert len(calls.times) == 3 and not clock.getDelayedCalls()


def test_at_start(clock):
    """The first one now."""
    calls = Calls(clock)
    timer(calls, clock, at_start=True)
    clock.pump([0, *[1] * 15])
    assert calls.times == [1000, 1010]


def test_jitter_does_not_add_up(clock):
    """Each is late for itself."""
    calls = Calls(clock)
    timer(calls, clock, jitter=4.0, draw=lambda most: most)
    clock.pump([1] * 40)
    assert calls.times == [1014, 1024, 1034]


def test_no_overlap(clock):
    """What falls due during a call is left out, and the grid stays."""
    calls = Calls(clock, hold=True)
    made = timer(calls, clock)
    clock.pump([1] * 35)
    assert calls.times == [1010] and made.busy
    calls.running[0].callback(None)
    clock.pump([1] * 10)
    assert calls.times == [1010, 1040]


def test_an_error_is_no_end(clock):
    """It is logged, and the next call comes."""
    calls = []

    def fails() -> None:
        calls.append(clock.seconds())
        raise RuntimeError("broken")

    timer(fails, clock)
    clock.pump([1] * 25)
    assert calls == [1010, 1020]


def test_drain_waits_for_a_call(clock):
    """And no other begins."""
    calls = Calls(clock, hold=True)
    made = timer(calls, clock)
    clock.pump([1] * 10)
    made.stop_accepting()
    done = made.drain()
    assert not done.called
    calls.running[0].callback(None)
    assert done.called
    clock.pump([1] * 30)
    assert len(calls.times) == 1


def test_the_next_copy_goes_on(clock, tmp_path):
    """A reload in the middle of an interval: what falls due is called once, at its time, by the new one."""
    old, new = Calls(clock), Calls(clock)
    before = timer(old, clock, turn=Turn(str(tmp_path), "t"))
    clock.pump([1] * 17)
    before.stop_accepting()
    timer(new, clock, turn=Turn(str(tmp_path), "t"), at_start=True)
    clock.pump([1] * 10)
    assert (old.times, new.times) == ([1010], [1020])


def test_the_next_copy_waits_for_a_call(clock, tmp_path):
    """No overlap between processes either; what was due meanwhile is made up for once."""
    old, new = Calls(clock, hold=True), Calls(clock)
    before = timer(old, clock, turn=Turn(str(tmp_path), "t"))
    clock.pump([1] * 11)
    before.stop_accepting()
    after = timer(new, clock, turn=Turn(str(tmp_path), "t"))
    clock.pump([0.25] * 60)
    assert (old.times, new.times) == ([1010], [])
    old.running[0].callback(None)
    clock.pump([0.25] * 80)
    assert new.times == [1030, 1040]
    assert after.requests == 2


def test_a_rollback(clock, tmp_path):
    """The old one goes on, and does not repeat what the new one has done."""
    old, new = Calls(clock), Calls(clock)
    before = timer(old, clock, turn=Turn(str(tmp_path), "t"))
    clock.pump([1] * 9)
    before.stop_accepting()
    after = timer(new, clock, turn=Turn(str(tmp_path), "t"))
    clock.pump([1] * 2)
    after.stopService()
    before.resume_accepting()
    clock.pump([1] * 20)
    assert (old.times, new.times) == ([1020, 1030], [1010])


def test_reloads_do_not_starve_it(clock, tmp_path):
    """Though each copy lives for less than an interval."""
    calls = Calls(clock)
    for _ in range(10):
        made = timer(calls, clock, turn=Turn(str(tmp_path), "t"))
        clock.pump([1] * 4)
        made.stop_accepting()
    assert calls.times == [1010, 1020, 1030, 1040]


def test_what_was_left_counts_for_the_same_interval_only():
    """Nor does anything that is no grid, or of a clock that has been set back since."""
    for left in ("5.0 103.0", "10.0", "nonsense", "10.0 500.0", "nan nan"):
        assert Schedule(10.0, 100.0, left).due == 110.0
    assert Schedule(10.0, 100.0, "10.0 103.0").due == 103.0
    assert Schedule(10.0, 100.0, "10.0 3.0").wait(100.0) == 0.0
