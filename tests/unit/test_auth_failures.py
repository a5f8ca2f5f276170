"""How failures are counted and slowed, and what is remembered."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time

import pytest
from twisted.internet.task import Clock

from appd.auth.failures import Failures, peer_key
from appd.auth.ledger import InMemory, Shared
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


KEPT = pytest.mark.parametrize("kept", ["in this process", "for all workers"])


def ledger(folder, kept):
    return InMemory(100) if kept == "in this process" else Shared(str(folder / "failures"))


@KEPT
def test_each_failure_costs_twice_as_much(tmp_path, kept):
    """Up to half a minute; ten minutes later all is forgotten; other peers pay nothing."""
    clock = Clock()
    failures = Failures(1.0, clock.seconds, ledger(tmp_path, kept))
    assert failures.wait("p") == 0 and failures.enter("p") == 0
    assert [failures.failed("p") for _ in range(7)] == [
        (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 16.0), (6, 30.0), (7, 30.0),
    ]  # fmt: skip
    assert failures.wait("p") == 30 and failures.wait("other") == 0
    clock.advance(29)
    assert failures.wait("p") == 1
    clock.advance(572)
    assert failures.wait("p") == 0 and failures.enter("p") == 0
    assert failures.failed("p") == (1, 1.0)


@KEPT
def test_parallel_attempts_stand_in_one_queue(tmp_path, kept):
    """More connections are no more attempts; beyond a minute's worth they are refused."""
    clock = Clock()
    failures = Failures(1.0, clock.seconds, ledger(tmp_path, kept))
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
    assert failures.wait("b") == 0 and failures.wait("a") == 2 and failures.wait("c") == failures.wait("d") == 1


def test_workers_count_together(tmp_path):
    """Several processes, each with threads: no failure is lost, and one that comes later knows of all."""
    path = str(tmp_path / "failures")
    code = (
        "import sys, threading\nfrom appd.auth.failures import Failures\nfrom appd.auth.ledger import Shared\n"
        "failures = Failures(0.001, ledger=Shared(sys.argv[1]))\n"
        "those = [threading.Thread(target=lambda: [failures.failed(f'10.0.0.{n}') for n in range(5) for _ in range(20)]) for _ in range(3)]\n"
        "[one.start() for one in those]; [one.join() for one in those]"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, path]) for _ in range(3)]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    later = Failures(0.001, ledger=Shared(path))
    assert [later.failed(f"10.0.0.{number}")[0] for number in range(5)] == [181] * 5


def test_the_shared_table_has_bounds(tmp_path):
    """Of the peers of a bucket the one that failed longest ago goes; what is there is found."""
    clock = Clock()
    failures = Failures(1.0, clock.seconds, Shared(str(tmp_path / "failures")))
    clock.advance(1)
    for number in range(30_000):
        failures.failed(f"p{number}")
        clock.advance(0.001)
    waits = [failures.wait(f"p{number}") for number in range(30_000)]
    assert (
        10_000
        < sum(one is not None and failures._known(f"p{number}") is not None for number, one in enumerate(waits))
        <= 16_384
    )
    # Which bucket a peer is in is drawn anew for each table; not every one has had to let somebody go.
    assert failures._known("p29999") is not None
    assert any(failures._known(f"p{number}") is None for number in range(100))


def test_a_worker_that_hangs_with_the_table_holds_up_nobody(tmp_path):
    """For longer than a moment."""
    table = Shared(str(tmp_path / "failures"))
    other = os.open(tmp_path / "failures", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    began = time.monotonic()
    assert Failures(1.0, ledger=table).failed("p") == (1, 1.0)
    assert time.monotonic() - began < 25
    os.close(other)


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
