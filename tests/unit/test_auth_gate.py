"""`<auth>` as HTTP asks it: from many threads at one time."""

from __future__ import annotations

import threading

from appd.auth.auth import AT_ONCE, Auth
from appd.auth.gate import Gate


class SlowFile:
    """Passwords of which none is right, and which are looked at when the test says so."""

    stamp = None

    def __init__(self):
        self.looked_at = 0
        self.busy = threading.Semaphore(0)
        self.go_on = threading.Event()

    def refresh(self):
        return []

    def check(self, user, password):
        self.looked_at += 1
        self.busy.release()
        assert self.go_on.wait(20)
        return False


def test_guesses_at_one_time_are_no_way_around_it():
    """Those whose turn comes when another of their peer has failed are not looked at; those of other peers are."""
    file = SlowFile()
    lines = []
    auth = Auth("staff", file, warn=lambda line, **_fields: lines.append(line))
    gate = Gate(auth, "shop", None)
    found = []

    def guess(peer):
        found.append((peer, gate.verify("alice", b"wrong", b"x", peer)))

    threads = [threading.Thread(target=guess, args=("192.0.2.7",)) for _ in range(8)]
    for one in threads:
        one.start()
    for _ in range(AT_ONCE):
        assert file.busy.acquire(timeout=20)
    file.go_on.set()
    for one in threads:
        one.join(20)
    verdicts = [good for _peer, good in found]
    # Some may have taken the place of the first before that was known to be wrong.
    assert AT_ONCE <= file.looked_at < 8
    assert verdicts.count(False) == file.looked_at == len(lines) and verdicts.count(None) == 8 - file.looked_at
    guess("192.0.2.8")
    assert found[-1] == ("192.0.2.8", False)
