"""How failures are counted and slowed, and what is remembered."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from appd.auth.failures import Failures, peer_key
from appd.auth.remembered import Remembered


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unix"),
        ("@abstract", "@abstract"),
    ],
)
def test_what_stands_for_a_peer(host, key):
    """Who has a /64 has all of its addresses."""
    assert peer_key(host) == key


def test_each_failure_costs_twice_as_much():
    """Up to half a minute; ten minutes later all is forgotten; other peers pay nothing."""
    clock = Clock()
    failures = Failures(1.0, clock.seconds)
    assert failures.wait("p") == 0 and failures.enter("p") == 0
    assert [failures.failed("p") for _ in range(7)] == [
        (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 16.0), (6, 30.0), (7, 30.0),
    ]  # fmt: skip
    assert failures.wait("p") == 30 and failures.wait("other") == 0
    clock.advance(29)
    assert failures.wait("p") == 1
    clock.advance(572)
    assert failures.wait("p") == 0 and failures.enter("p") == 0 and len(failures) == 0


def test_parallel_attempts_stand_in_one_queue():
    """More connections are no more attempts; beyond a minute's worth they are refused."""
    clock = Clock()
    failures = Failures(1.0, clock.seconds)
    for _ in range(3):
        failures.failed("p")
    waits = [failures.enter("p") for _ in range(20)]
    assert waits[:4] == [4.0, 8.0, 12.0, 16.0]
    assert waits[-1] is None
    clock.advance(100)
    assert failures.enter("p") == 0.0


def test_the_table_has_bounds(monkeypatch):
    """The peer that failed longest ago goes first."""
    monkeypatch.setattr("appd.auth.failures._MOST_PEERS", 3)
    failures = Failures(1.0, Clock().seconds)
    for peer in "abcad":
        failures.failed(peer)
    assert len(failures) == 3
    assert failures.wait("b") == 0 and failures.wait("a") == 2


def test_credentials_are_remembered_for_a_while(monkeypatch):
    """As long as what they were verified against is the same; as hashes, and no more than so many."""
    clock = Clock()
    kept = Remembered(clock.seconds)
    kept.keep(b"alice:secret", 1, "alice")
    assert kept.find(b"alice:secret", 1) == "alice"
    assert kept.find(b"alice:Secret", 1) is None
    assert kept.find(b"alice:secret", 2) is None
    assert b"secret" not in repr(kept.__dict__).encode()
    clock.advance(60)
    assert kept.find(b"alice:secret", 1) is None
    monkeypatch.setattr("appd.auth.remembered._MOST", 2)
    for number in range(5):
        kept.keep(b"%d" % number, 1, "x")
    assert [kept.find(b"%d" % number, 1) for number in range(5)] == [None, None, None, "x", "x"]
