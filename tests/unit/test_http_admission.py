"""Which calls run and which wait."""

from __future__ import annotations

import threading
from collections import deque

from appd.http.lane.admission import Admission


def test_no_more_than_there_are() -> None:
    """The rest waits in order, and beyond the queue is refused."""
    admission = Admission(2)
    share = admission.share(None)
    assert [admission.enter(share) for _ in range(3)] == [True, True, False]
    assert [admission.queue(share, name, 2) for name in "abc"] == [True, True, False]
    assert (admission.running, admission.queued, share.refused) == (2, 2, 1)
    assert admission.leave(share) == (share, "a")
    assert admission.leave(share) == (share, "b")
    assert admission.leave(share) is None
    assert admission.leave(share) is None
    assert (admission.running, admission.queued) == (0, 0)


def test_a_share() -> None:
    """A mount gets no more than its share; others pass those of it that wait."""
    admission = Admission(3)
    small, large = admission.share(1), admission.share(None)
    assert admission.enter(small)
    assert not admission.enter(small)
    assert admission.queue(small, "small", 9)
    assert admission.next() is None
    # While somebody waits, everybody goes through the queue, so that nobody is passed for ever.
    assert not admission.enter(large)
    assert admission.queue(large, "large", 9)
    assert admission.next() == (large, "large")
    assert admission.leave(large) is None
    assert admission.leave(small) == (small, "small")


def test_who_has_waited_longest_is_next() -> None:
    """Across mounts."""
    admission = Admission(1)
    one, other = admission.share(None), admission.share(None)
    assert admission.enter(one)
    for share, name in ((other, "first"), (one, "second"), (other, "third")):
        assert admission.queue(share, name, 9)
    order = []
    left = one
    while (found := admission.leave(left)) is not None:
        left = found[0]
        order.append(found[1])
    assert order == ["first", "second", "third"]


def test_threads() -> None:
    """However they meet: all is done, and never more at a time than allowed."""
    admission = Admission(3)
    shares = [admission.share(2), admission.share(None)]
    done: deque[int] = deque()
    running: deque[None] = deque()
    most: deque[int] = deque()

    def call(share: object, number: int) -> None:
        while True:
            running.append(None)
            most.append(len(running))
            running.pop()
            done.append(number)
            found = admission.leave(share)  # type: ignore[arg-type]
            if found is None:
                return
            share, number = found

    def work(thread: int) -> None:
        for number in range(500):
            share = shares[number % 2]
            if admission.enter(share):
                call(share, number)
            else:
                assert admission.queue(share, number, 10_000)
                found = admission.next()
                if found is not None:
                    call(*found)

    threads = [threading.Thread(target=work, args=(one,)) for one in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert len(done) == 3000
    assert (admission.running, admission.queued) == (0, 0)
    assert max(most) <= 3


def test_quick_and_slow() -> None:
    """A mount is slow when a few of its calls took long together, and gets another chance after a second."""
    share = Admission(1).share(None)
    for number in range(1000):
        share.learn(number, number + 0.0001)
    # One that had to wait for a processor.
    share.learn(1000, 1000.5)
    assert share.is_quick(1001)
    for number in (1001, 1002):
        share.learn(number, number + 0.005)
    assert not share.is_quick(1002.9)
    assert share.is_quick(1003.1)
    share.learn(1004, 1004.001)
    assert share.is_quick(1005)
