"""Threads that share one epoll: a leader polls and works, followers sleep until the lead is free.

The leader takes a batch of events, and does each as it comes: reads, calls, sends. As long as that is quick no other
thread wakes up, which is what makes it fast under one interpreter lock. What may take longer gives the lead away first
(`Worker.give`); and what turns out to take longer has it taken away by the watch, which looks every two milliseconds
while anything is going on, and else sleeps until the next deadline. Whoever has the lead next goes on with the rest of
the batch, so that nobody waits behind a slow call for longer than that.

What is ready to be sent may be held until the batch is done (`Worker.held`): a client that sleeps is woken by whatever
is sent to it, which costs the sender a good part of the sending, and one that gets all at once is awake from the first
on. It is held for half a millisecond at most, and whoever gets the lead gets it too.

To look is dear, as the leader has to give the interpreter lock away for it, and on a virtual machine a timer costs some
ten microseconds: a sixth of a handshake of TLS. So where nothing was slow for a while the watch looks less often.
"""

from __future__ import annotations

import os
import select
import sys
import time

from appd.startup.bare import Lock, deque, partial, suppress
from appd.startup.barethread import BareThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Thread
    from typing import Any, Protocol
else:
    Protocol = object

__all__ = ["Crew", "Handler", "Worker"]

# All that epoll says of most descriptors.
_COMES = select.EPOLLIN
# Events for one epoll_wait(2).
_BATCH = 64
# How long a leader may be at one thing before the watch has the next one lead, in seconds.
_TICK = 0.002
# As long when nothing was slow for so many seconds, which is longer than what is slow is taken for quick again
# (`appd.http.lane.admission`).
_CALM_TICK, _ATTENTIVE = 0.01, 2.0
# The watch sleeps when for so many ticks nothing has happened.
_STILL = 5
# Of what is held no more than so much, and while there is more to do for no longer than so many seconds.
_MOST_HELD, _HELD_FOR = 32, 0.0005
# So long the same answer is given to the question whether anybody polls, in seconds.
_ASKED = 0.3


class Worker:
    """One thread, as what it works on sees it.

    Attributes:
        calls: Calls that were begun for it by a call that ended; it makes them next.
        call: The call that it makes.
        began: Since when, on the monotonic clock.
        held: What is to be sent with the rest of the batch, by whoever leads then: `Handler.take`.
        rest: The rest of the batch. What is ready when there is none has nothing to wait for.
        deadline: See `Deadlines`.
        leaves: Whether it ends when there are others.
    """

    __slots__ = ("_crew", "began", "call", "calls", "deadline", "held", "leaves", "rest", "term", "tick")

    def __init__(self, crew: Crew) -> None:
        self.calls: deque[Any] = deque()
        self.call: Any = None
        self.began = 0.0
        self.held: Any = crew.batch()
        self.rest = crew.ready
        self.deadline = 0.0
        self.tick = 0
        self.leaves = False
        # Who takes the token out decides about the lead: the worker, or the watch in its place.
        self.term: list[None] = []
        self._crew = crew

    def give(self) -> None:
        """Gives the lead away, if it is there: what comes next may take long."""
        try:
            self.term.pop()
        except IndexError:
            return
        self._crew.hand_on(self)

    def expired(self) -> None:
        """A deadline of its call has passed."""
        self._crew.handler.overdue(self)


class Handler(Protocol):
    """What a crew works for. Nothing that it raises ends a thread."""

    def take(self, item: Any, worker: Worker) -> None:
        """Does what has come: a descriptor that is ready, what was posted, or what a worker has held."""

    def read_more(self, fd: int) -> None:
        """What is told of a descriptor is more than that something has come: its end, perhaps behind what it sent."""

    def slow(self, worker: Worker) -> None:
        """The lead was taken from a worker, since it took long."""

    def overdue(self, worker: Worker) -> None:
        """The deadline of a worker has passed."""

    def look(self, now: float) -> float | None:
        """Does what is due, and says how long nothing will be, in seconds; None for ever."""

    def failed(self, error: BaseException) -> None:
        """`take` or `look` has raised."""


class Crew:
    """The threads.

    Args:
        size: How many, without the watch.
        handler: What they work for.
        batch: Makes an empty list for each of them, for what it holds.

    Attributes:
        epoll: What they poll, from the start on; anybody may register descriptors.
        turns: How many things were done.
        ready: What is to be done next.

    Resource handling: owns daemon threads and two descriptors from `start` until `stop`.
    """

    epoll: select.epoll
    _bell: int

    def __init__(self, size: int, handler: Handler, batch: Callable[[], Any] = deque) -> None:
        self.handler = handler
        self.batch = batch
        self.turns = 0
        self._size = size
        self.ready: deque[Any] = deque()
        self._lead = Lock()
        self._leader: Worker | None = None
        self._alarm = Lock()
        self._asleep = False
        # Until when the watch looks at every tick.
        self._attentive = 0.0
        self._stopping = False
        self._rung = self._heard = 0
        self._first: BareThread | None = None
        self._whole = False
        self._asked, self._answered = 0.0, True
        self._threads: list[Thread] = []

    def begin(self) -> None:
        """Begins to work with a single thread, at once.

        `start` is to follow soon: nobody keeps deadlines yet, and whoever takes long is not relieved.

        Where `threading` has not been imported that is none of its threads, and leaves when the others are there. Again
        does nothing.

        Raises:
            RuntimeError: The system allows no further thread.
        """
        if hasattr(self, "epoll"):
            return
        self._open()
        if "threading" in sys.modules:
            self._add_thread(self._work)
        else:
            self._first = BareThread(partial(self._work, first=True), "lane-first")
            self._first.start()

    def start(self) -> None:
        """Begins to work, or goes on with all threads.

        Raises:
            RuntimeError: The system allows no further thread.
        """
        if not hasattr(self, "epoll"):
            self._open()
        # A signal may have interrupted this before.
        while len(self._threads) < self._size:
            self._add_thread(self._work)
        if len(self._threads) == self._size:
            self._add_thread(self._watch)
        self._whole = True
        if self._first is not None:
            self.ring()

    def _open(self) -> None:
        self.epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)
        self._alarm.acquire()

    def _add_thread(self, task: Callable[[], None]) -> None:
        from threading import Thread

        thread = Thread(target=task, name=f"lane-{len(self._threads) + 1}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self, timeout: float) -> bool:
        """Ends the threads that are not in a call.

        Args:
            timeout: How long to wait for them, in seconds.

        Returns:
            Whether all have ended.
        """
        self._stopping = True
        self.ring()
        self._wake()
        ends = time.monotonic() + timeout
        threads: list[Any] = [*self._threads, *([self._first] if self._first is not None else [])]
        for one in threads:
            one.join(max(0.0, ends - time.monotonic()))
        ended = not any(one.is_alive() for one in threads)
        if ended:
            self.epoll.close()
            os.close(self._bell)
        return ended

    def left(self) -> Iterator[Any]:
        """Takes out what nobody has done, after `stop`."""
        while self.ready:
            with suppress(IndexError):  # a thread that came from a call has it
                yield self.ready.popleft()

    def post(self, item: Any) -> None:
        """Has somebody do a thing."""
        self.ready.append(item)
        self.ring()

    def ring(self) -> None:
        """Wakes the leader, if it polls."""
        self._rung += 1
        os.eventfd_write(self._bell, 1)

    def answers(self) -> bool:
        """Whether the leader has turned since the last time that it was asked; asks it again."""
        answered = self._heard >= self._rung
        if answered and not self._stopping:
            self.ring()
        return answered

    def alive(self) -> bool:
        """As `answers`, for several who may ask in the same moment."""
        now = time.monotonic()
        if now - self._asked >= _ASKED:
            self._asked, self._answered = now, self.answers()
        return self._answered

    def hand_on(self, leader: Worker) -> None:
        """Frees the lead; whoever has taken its token calls this."""
        if leader.held:
            self.ready.appendleft(leader.held)
        self._lead.release()

    def attend(self) -> None:
        """The watch has to look at every tick for a while."""
        now = time.monotonic()
        calm = now > self._attentive
        self._attentive = now + _ATTENTIVE
        if calm:
            self._wake()

    def sooner(self) -> None:
        """The watch has to look earlier than it thinks."""
        self._wake()

    def _wake(self) -> None:
        self._asleep = False
        with suppress(RuntimeError):  # it has been woken already
            self._alarm.release()

    # The threads.

    def _work(self, first: bool = False) -> None:
        me = Worker(self)
        me.leaves = first
        while not (first and self._whole):
            self._lead.acquire()
            if not self._is_over_for(me):
                self._leader = me
                self._turn(me)
            else:
                me.term.append(None)
            if self._is_over_for(me):
                me.give()
                return

    def _is_over_for(self, me: Worker) -> bool:
        return self._stopping or (self._whole and me.leaves)

    def _turn(self, me: Worker) -> None:
        """Leads, until the lead is lost."""
        ready, poll, term, take, bell = self.ready, self.epoll.poll, me.term, self.handler.take, self._bell
        read_more, held, since, clock = self.handler.read_more, me.held, 0.0, time.monotonic
        while True:
            while not ready:
                if held:
                    ready.append(held)
                    break
                for fd, mask in poll(-1, _BATCH):
                    if fd == bell:
                        self._heard = self._rung
                        continue
                    if mask != _COMES:
                        read_more(fd)
                    ready.append(fd)
                if self._is_over_for(me):
                    # What else was told of is for whoever leads next: of most descriptors it is not told again.
                    term.append(None)
                    return
                since = clock()
            item = ready.popleft()
            term.append(None)
            self.turns += 1
            if self._asleep:
                self._wake()
            try:
                take(item, me)
            except BaseException as error:
                self.handler.failed(error)
            while me.calls:
                me.give()
                try:
                    take(me.calls.popleft(), me)
                except BaseException as error:
                    self.handler.failed(error)
            try:
                term.pop()
            except IndexError:
                if held:
                    take(held, me)
                return
            if held and ready and (len(held) >= _MOST_HELD or clock() - since > _HELD_FOR):
                ready.appendleft(held)
                since = clock()

    def _watch(self) -> None:
        seen, still = -1, 0
        while not self._stopping:
            try:
                wait = self.handler.look(time.monotonic())
            except BaseException as error:
                self.handler.failed(error)
                wait = 1.0
            leader, turns = self._leader, self.turns
            busy = leader is not None and leader.term
            still = 0 if busy or turns != seen else still + 1
            if still > _STILL:
                # To be woken costs more than to look now and then, so that it is not done at every lull.
                self._asleep = True
                leader = self._leader
                busy = leader is not None and leader.term
            if busy or still <= _STILL:
                self._asleep = False
                now = time.monotonic()
                if busy and (turns == seen or _is_late(leader, now)):
                    self._take_over(leader)
                seen = turns
                tick = _TICK if now <= self._attentive else _CALM_TICK
                wait = tick if wait is None else min(tick, wait)
            self._alarm.acquire(timeout=-1 if wait is None else max(wait, 0.0005))
            self._asleep = False

    def _take_over(self, leader: Worker | None) -> None:
        if leader is None:
            return
        try:
            leader.term.pop()
        except IndexError:
            return
        self._attentive = time.monotonic() + _ATTENTIVE
        self.handler.slow(leader)
        self.hand_on(leader)


def _is_late(leader: Worker | None, now: float) -> bool:
    """Whether the call that a leader makes has been found slow by its clock, at the first look."""
    return leader is not None and leader.call is not None and now - leader.began >= _TICK
