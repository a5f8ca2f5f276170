"""The figures of bench/, on requests whose figures are known."""

from __future__ import annotations

import pytest
from figures import Window, counts, longest_gap, longest_wait, percentile, table, within
from load import Request, Tally
from restart import MODES, Run, verdicts


def request(asked, ended, outcome="ok"):
    return Request(asked, ended, outcome, False, asked, 1, 1)


def test_a_gap_counts_from_the_edges_of_the_window():
    """Nothing before the first answer is a gap too, and so is nothing after the last."""
    requests = [request(0, 1), request(1, 2), request(2, 6), request(6, 7)]
    assert longest_gap(requests, Window(0, 8)) == 4
    assert longest_gap(requests, Window(2, 5)) == 3
    assert longest_gap(requests, Window(0, 20)) == 13
    assert longest_gap([], Window(0, 3)) == 3


def test_what_was_not_answered_ends_no_gap():
    """A refusal comes fast."""
    assert longest_gap([request(1, 1, "refused"), request(0, 2)], Window(0, 3)) == 2


def test_a_wait_that_began_before_the_window_counts_whole():
    """It was under way when something was done."""
    requests = [request(0, 1), request(1, 9), request(9, 10)]
    assert within(requests, Window(2, 3)) == [requests[1]]
    assert longest_wait(requests, Window(2, 3)) == 8
    assert longest_wait(requests, Window(20, 30)) == 0


def test_a_percentile():
    """Of those that were answered."""
    requests = [request(0, number) for number in range(1, 101)] + [request(0, 1000, "reset")]
    assert percentile(requests, 0.5) == 51
    assert percentile(requests, 0.99) == 100
    assert percentile([], 0.99) == 0


def test_counts_of_several_runs():
    """Each outcome, each attempt, each idle connection."""
    one = Tally([request(0, 1), request(0, 1, "raced")], 2, 0.1)
    two = Tally([request(0, 1), request(0, 1, "reset")], 1, 0.1)
    found = counts([one, two])
    assert found["requests"] == 4 and found["idle-closed"] == 3
    assert (found["ok"], found["raced"], found["reset"], found["truncated"]) == (2, 1, 1, 0)


def test_a_table():
    """Columns line up."""
    assert table(["", "a"], [["long", 1], ["x", 1000]]).split("\n") == ["         a", "long     1", "x     1000"]


def run(gap, wait, outcome="ok"):
    """A steady second of answers that take 1 ms each, then something with so long a gap and so long a wait."""
    steady = [request(at / 100, at / 100 + 0.001) for at in range(100)]
    done = [request(2 - wait, 2), request(2 + gap - wait, 2 + gap, outcome)]
    return Run(Tally(steady + done, 0, 0.1), Window(0, 1), [Window(2, 2 + gap)], 0)


@pytest.mark.parametrize(
    ("ours", "missed"),
    [
        (run(0.1, 0.02), []),
        (run(0.3, 0.02), ["restart gap"]),
        (run(0.1, 0.05), ["99th percentile"]),
        (run(0.1, 0.02, "reset"), ["lost"]),
    ],
    ids=["all reached", "gap", "percentile", "lost"],
)
def test_a_missed_target_is_called_so(ours, missed):
    """And one that is reached is not."""
    taken = {("appd", act, mode): [ours] for act in ("restart", "reload", "swap") for mode in MODES}
    taken |= {("gunicorn", "restart", mode): [run(1.0, 0.02)] for mode in MODES}
    lines = verdicts(taken, {"appd": [0.7]})
    found = [line for line in lines if line.endswith("MISSED")]
    assert len(found) == len(missed) * len(MODES), found
    assert all(missed[0] in line for line in found)
