"""Threads that share one epoll."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections import deque
from typing import Any

import pytest
from support.running import wait_until

from appd.http.lane import crew as crew_module
from appd.http.lane.crew import Crew, Worker


class Handler:
    """Counts, or sleeps, or fails."""

    def __init__(self) -> None:
        self.did: list[tuple[Any, str]] = []
        self.sent: list[list[Any]] = []
        self.slowed = self.sleeping = self.looked = 0
        self.errors: list[BaseException] = []
        self.release = threading.Event()

    def take(self, item: Any, worker: Worker) -> None:
        if type(item) is deque:
            self.sent.append([item.popleft() for _ in range(len(item))])
            return
        if item in ("sleep", "hold late"):
            self.sleeping += 1
            assert self.release.wait(10)
        if item == "sleep politely":
            worker.give()
            assert self.release.wait(10)
        if str(item).startswith("hold"):
            worker.held.append(item)
        if item == "fail":
            raise ValueError(item)
        if item == "then":
            worker.calls.append("next")
        self.did.append((item, threading.current_thread().name))

    def slow(self, worker: Worker) -> None:
        self.slowed += 1

    def overdue(self, worker: Worker) -> None:
        """Nothing."""

    def read_more(self, fd: int) -> None:
        """Nothing: level-triggered descriptors are told of again."""

    def look(self, now: float) -> float | None:
        self.looked += 1
        return None

    def failed(self, error: BaseException) -> None:
        self.errors.append(error)

    def done(self, *items: Any) -> bool:
        return {one for one, _thread in self.did} >= set(items)


@pytest.fixture
def crew():
    """Three threads, and what they work for."""
    handler = Handler()
    crew = Crew(3, handler)
    crew.start()
    yield crew, handler
    handler.release.set()
    assert crew.stop(5)


def test_all_at_once(crew: tuple[Crew, Handler]) -> None:
    """Two that sleep, whether they say so or not, hold up nobody who came with them."""
    it, handler = crew
    for one in ("sleep", "sleep politely", *range(20)):
        it.post(one)
    wait_until(lambda: handler.done(*range(20)))
    assert handler.slowed == 1
    assert not handler.done("sleep")
    handler.release.set()
    wait_until(lambda: handler.done("sleep", "sleep politely"))


def test_quick_ones_stay_in_one_thread(crew: tuple[Crew, Handler]) -> None:
    """Nobody wakes up for what is done before it is noticed."""
    it, handler = crew
    for number in range(200):
        it.post(number)
        wait_until(lambda number=number: handler.done(number))
    assert len({thread for _item, thread in handler.did}) <= 2


def at_once(it: Crew, *items: Any) -> None:
    """Has things done as those are that epoll tells of together."""
    it.ready.extend(items)
    it.ring()


def test_what_is_held_goes_out_together(crew: tuple[Crew, Handler], monkeypatch: Any) -> None:
    """At the end of the batch, before anybody polls; but no more at a time than so much, and not for long."""
    it, handler = crew
    monkeypatch.setattr(crew_module, "_HELD_FOR", 3600.0)
    at_once(it, *(f"hold {number}" for number in range(5)))
    wait_until(lambda: sum(map(len, handler.sent)) == 5)
    assert handler.sent == [[f"hold {number}" for number in range(5)]]
    handler.sent.clear()
    at_once(it, *(f"hold {number}" for number in range(70)))
    wait_until(lambda: sum(map(len, handler.sent)) == 70)
    assert [len(one) for one in handler.sent] == [32, 32, 6]
    handler.sent.clear()
    monkeypatch.setattr(crew_module, "_HELD_FOR", 0.0)
    at_once(it, *(f"hold {number}" for number in range(5)))
    wait_until(lambda: sum(map(len, handler.sent)) == 5)
    assert [len(one) for one in handler.sent] == [1] * 5


@pytest.mark.parametrize("slow", ["sleep", "sleep politely"])
def test_what_is_held_does_not_wait_for_what_is_slow(crew: tuple[Crew, Handler], slow: str) -> None:
    """Whoever has the lead next sends it."""
    it, handler = crew
    at_once(it, "hold 1", "hold 2", slow, "x")
    wait_until(lambda: handler.sent == [["hold 1", "hold 2"]])
    assert not handler.done(slow) and not handler.errors, "it was sent before the slow one had lost patience"


def test_who_has_lost_the_lead_sends_at_once(crew: tuple[Crew, Handler]) -> None:
    """What a call has ready after it was found slow."""
    it, handler = crew
    it.post("hold late")
    wait_until(lambda: handler.slowed)
    assert not handler.sent
    handler.release.set()
    wait_until(lambda: handler.sent == [["hold late"]])


def test_a_failure_ends_nothing(crew: tuple[Crew, Handler]) -> None:
    """It is told, and the next one is done."""
    it, handler = crew
    for one in ("fail", "fail", "fail", "fail", "x"):
        it.post(one)
    wait_until(lambda: handler.done("x"))
    assert [str(one) for one in handler.errors] == ["fail"] * 4


def test_what_a_thread_is_given_it_does(crew: tuple[Crew, Handler]) -> None:
    """A call that was begun by the end of another."""
    it, handler = crew
    it.post("then")
    wait_until(lambda: handler.done("next"))


def test_descriptors(crew: tuple[Crew, Handler]) -> None:
    """What is ready in the epoll is taken by its number."""
    it, handler = crew
    reader, writer = os.pipe()
    it.epoll.register(reader, select.EPOLLIN | select.EPOLLONESHOT)
    os.write(writer, b"x")
    wait_until(lambda: handler.done(reader))
    os.close(reader)
    os.close(writer)


def test_answers(crew: tuple[Crew, Handler]) -> None:
    """As long as somebody polls."""
    it, handler = crew
    assert it.answers()
    wait_until(it.answers)
    for _ in range(3):
        it.post("sleep")
    # All sleep, which the lane never lets happen: nobody polls.
    wait_until(lambda: handler.sleeping == 3)
    it.answers()
    assert not it.answers()
    assert not it.answers()
    handler.release.set()
    wait_until(it.answers)


def test_idle_costs_nothing(crew: tuple[Crew, Handler]) -> None:
    """Without anything to do no thread wakes up."""
    it, handler = crew
    it.post("x")
    wait_until(lambda: handler.done("x"))
    time.sleep(0.1)

    def switches() -> int:
        total = 0
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/comm") as name, open(f"/proc/self/task/{task}/status") as status:
                name.read()
                total += sum(
                    int(line.split()[1]) for line in status if line.startswith("voluntary") and task != str(os.getpid())
                )
        return total

    before = switches()
    time.sleep(0.5)
    assert switches() - before < 5


@pytest.fixture(params=["bare", "usual"])
def begun(request, monkeypatch):
    """A crew that has begun with a single thread, which is none of `threading` where that has not been imported."""
    handler = Handler()
    crew = Crew(3, handler)
    with monkeypatch.context() as patch:
        if request.param == "bare":
            patch.delitem(sys.modules, "threading")
        crew.begin()
        crew.begin()
    yield crew, handler
    handler.release.set()
    assert crew.stop(5)


def test_the_first_thread_alone(begun: tuple[Crew, Handler]) -> None:
    """It does what comes before there are others, and can be ended."""
    it, handler = begun
    for one in ("fail", "then", *range(20)):
        it.post(one)
    wait_until(lambda: handler.done("then", "next", *range(20)))
    assert len({thread for _item, thread in handler.did}) == 1


def test_the_others_relieve_the_first_thread(begun: tuple[Crew, Handler]) -> None:
    """When it sleeps, whatever has come since is done; and then there are as many as were wanted."""
    it, handler = begun
    it.post("sleep")
    wait_until(lambda: handler.sleeping == 1)
    it.post("x")
    it.start()
    it.start()
    wait_until(lambda: handler.done("x"))
    assert handler.slowed == 1
    handler.release.set()
    for one in range(20):
        it.post(one)
    wait_until(lambda: handler.done("sleep", *range(20)))
    wait_until(lambda: it._first is None or not it._first.is_alive())
    assert sorted(one.name for one in it._threads if one.is_alive()) == [f"lane-{number}" for number in (1, 2, 3, 4)]
    assert {thread for item, thread in handler.did if item != "sleep"} <= {"lane-1", "lane-2", "lane-3"}


def test_an_idle_first_thread_leaves(begun: tuple[Crew, Handler]) -> None:
    """Nothing needs to come."""
    it, handler = begun
    it.post("x")
    wait_until(lambda: handler.done("x"))
    it.start()
    wait_until(lambda: it._first is None or not it._first.is_alive())
    it.post("y")
    wait_until(lambda: handler.done("y"))


class Together:
    """An epoll that tells of something else with the bell, and behind it."""

    other = 0

    def __init__(self, _real: Any = select.epoll) -> None:
        self._epoll = _real()

    def poll(self, *args: Any) -> list[tuple[int, int]]:
        found = self._epoll.poll(*args)
        other, self.other = self.other, 0
        return [*found, (other, select.EPOLLIN)] if other else found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


def test_what_comes_as_the_first_thread_leaves(monkeypatch: Any) -> None:
    """Edge-triggered descriptors are told of once: whoever is told must not leave without having passed it on."""
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "threading")
        patch.setattr(crew_module.select, "epoll", Together)
        handler = Handler()
        it = Crew(3, handler)
        it.begin()
    it.post("x")
    wait_until(lambda: handler.done("x"))
    it.epoll.other = 12345  # type: ignore[attr-defined]
    it.start()
    wait_until(lambda: handler.done(12345))
    assert it.stop(5)


def test_the_watch_looks_less_often_when_nothing_is_slow(crew: tuple[Crew, Handler]) -> None:
    """Every look takes the leader's time. Once something was slow it looks at every tick again, for a while."""
    it, handler = crew
    began, looked = time.monotonic(), handler.looked
    for number in range(100):
        it.post(number)
        wait_until(lambda number=number: handler.done(number))
        time.sleep(0.002)
    # Two more: one when it wakes up, one that may have been under way. A thread without a processor looks slow, too.
    looks = handler.looked - looked
    assert handler.slowed or looks <= (time.monotonic() - began) / crew_module._CALM_TICK + 2
    slowed = handler.slowed
    it.post("sleep")
    wait_until(lambda: handler.slowed > slowed)
    assert it._attentive > time.monotonic() + crew_module._ATTENTIVE / 2


def test_the_watch_is_told_to_look_at_once(crew: tuple[Crew, Handler]) -> None:
    """For what comes back within a tick, though it sleeps."""
    it, handler = crew
    wait_until(lambda: it._asleep)
    looked = handler.looked
    it.attend()
    wait_until(lambda: handler.looked > looked)
    assert it._attentive > time.monotonic()


def test_a_call_that_lasts_is_seen_at_the_first_look() -> None:
    """By its own clock: the second look may be far."""
    worker = Worker(Crew(1, Handler()))
    assert not crew_module._is_late(None, 10.0)
    assert not crew_module._is_late(worker, 10.0)
    worker.call, worker.began = object(), 9.9985
    assert not crew_module._is_late(worker, 10.0)
    worker.began = 9.9975
    assert crew_module._is_late(worker, 10.0)
