"""What happens often is told once in a while."""

from __future__ import annotations

from appd.seldom import Seldom


def test_once_a_minute_and_each_thing_by_itself():
    """From the first time on."""
    now = [5.0]
    seldom = Seldom(lambda: now[0])
    assert seldom.is_due("full")
    assert not seldom.is_due("full")
    assert seldom.is_due("peer")
    now[0] += 59.9
    assert not seldom.is_due("full")
    now[0] += 0.1
    assert seldom.is_due("full")
    assert not seldom.is_due("full")
