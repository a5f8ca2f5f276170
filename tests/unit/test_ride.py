"""A reactor on an asyncio loop: it keeps its promises, and the loop goes on beside it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from twisted.python import log

from appd.listening.reactor import PromptReactor

# So long a test may take on the busiest machine, in seconds.
_PATIENCE = 30.0


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def reactor(loop: Any) -> Iterator[Any]:
    made: Any = PromptReactor()
    made.ended = []
    made.ride(loop, lambda: made.ended.append(loop.is_running()))
    yield made
    for one in made._internalReaders:
        made.removeReader(one)
        one.connectionLost(None)
    made._poller.close()


def run(reactor: Any, first: Callable[[], object]) -> None:
    """Runs it, with something to begin with, until that ends it."""
    reactor.callWhenRunning(first)
    late = reactor.callLater(_PATIENCE, reactor.crash)
    reactor.run(installSignalHandlers=False)
    assert late.active(), "it has not ended by itself"


def test_delayed_calls(reactor: Any, loop: Any) -> None:
    """Whether they are made in a turn of the reactor or in one of the loop; none comes early."""
    told: dict[str, bool] = {}

    def later(name: str, delay: float) -> None:
        due = reactor.seconds() + delay
        reactor.callLater(delay, called, name, due)

    def called(name: str, due: float) -> None:
        told[name] = reactor.seconds() >= due
        if len(told) == 5:
            reactor.stop()

    def begin() -> None:
        later("in a moment", 0.03)
        later("at once", 0.0)
        loop.call_soon(later, "of the loop", 0.01)
        loop.call_later(0.02, later, "at once, of the loop", 0.0)
        reactor.callFromThread(later, "of a thread", 0.0015)

    run(reactor, begin)
    assert set(told.values()) == {True}


def test_a_call_that_is_to_come_sooner(reactor: Any, loop: Any) -> None:
    """The loop does not sleep for as long as it meant to."""
    call = reactor.callLater(_PATIENCE * 2, lambda: reactor.stop())
    run(reactor, lambda: loop.call_later(0.01, call.reset, 0.01))


def test_a_call_that_is_cancelled(reactor: Any, loop: Any) -> None:
    """In a turn of the loop: the others are called."""
    told: list[int] = []

    def make() -> None:
        calls = [reactor.callLater(0.01, told.append, number) for number in range(3)]
        calls[1].cancel()
        reactor.callLater(0.02, reactor.stop)

    run(reactor, lambda: loop.call_soon(make))
    assert told == [0, 2]


def test_what_other_threads_ask_for(reactor: Any, loop: Any) -> None:
    """They wake a loop that has nothing to do, and are called in the thread of the reactor."""
    told: list[Any] = []

    def called() -> None:
        told.append(threading.current_thread())
        reactor.stop()

    asking = threading.Thread(target=reactor.callFromThread, args=(called,))
    run(reactor, asking.start)
    asking.join()
    assert told == [threading.current_thread()]


def test_threads_answer(reactor: Any) -> None:
    """deferToThread's way there and back."""
    from twisted.internet.threads import deferToThreadPool

    told: list[Any] = []

    def begin() -> None:
        asked = deferToThreadPool(reactor, reactor.getThreadPool(), threading.get_ident)
        asked.addCallback(told.append).addCallback(lambda _none: reactor.stop())

    run(reactor, begin)
    assert told and told != [threading.get_ident()]


def test_threads_that_never_stop_asking(reactor: Any, loop: Any) -> None:
    """Nothing of it is forgotten, whenever it comes; a call that were forgotten would be the last one that waits."""
    told: list[int] = []
    answered = threading.Event()

    def called(number: int) -> None:
        told.append(number)
        answered.set()

    def ask() -> None:
        for number in range(2000):
            answered.clear()
            reactor.callFromThread(called, number)
            if not answered.wait(_PATIENCE / 2):
                break
        reactor.callFromThread(reactor.stop)

    def sometimes() -> None:
        reactor.callLater(0, lambda: None)
        if reactor.running:
            loop.call_soon(sometimes)

    asking = threading.Thread(target=ask)
    run(reactor, lambda: (asking.start(), sometimes()))
    asking.join()
    assert told == list(range(2000))


@pytest.mark.parametrize("where", ["turn", "loop"])
@pytest.mark.parametrize("how", ["stop", "crash"])
def test_an_end(reactor: Any, loop: Any, where: str, how: str) -> None:
    """From wherever it is asked for; what is to happen at a shutdown does, and the loop does not run any more then."""
    told: list[str] = []
    reactor.addSystemEventTrigger("before", "shutdown", told.append, "shutdown")
    end = getattr(reactor, how)
    run(reactor, lambda: reactor.callLater(0, end) if where == "turn" else loop.call_later(0.01, end))
    assert told == (["shutdown"] if how == "stop" else [])
    assert reactor.ended == [False] and not reactor.running


def test_a_shutdown_that_takes_its_time(reactor: Any, loop: Any) -> None:
    """A trigger whose Deferred fires from the loop is waited for."""
    from twisted.internet.defer import Deferred

    waits: Deferred[None] = Deferred()
    reactor.addSystemEventTrigger("before", "shutdown", lambda: (loop.call_later(0.05, waits.callback, None), waits)[1])
    run(reactor, reactor.stop)
    assert waits.called


def test_tasks_of_the_loop(reactor: Any, loop: Any) -> None:
    """They run, see their loop, and may use the reactor."""
    told: list[Any] = []

    async def talk() -> None:
        await asyncio.sleep(0.01)
        told.append(asyncio.get_running_loop() is loop)
        reactor.callLater(0.01, reactor.stop)

    run(reactor, lambda: told.append(loop.create_task(talk())))
    assert told[1:] == [True]


def test_the_reactor_shows_no_running_loop(reactor: Any, loop: Any) -> None:
    """Code of Twisted sees what it sees under Twisted's own; the loop is there again behind it."""
    told: list[Any] = []

    def seen() -> None:
        told.append(asyncio._get_running_loop())

    def begin() -> None:
        reactor.callLater(0, seen)
        reactor.callLater(0.01, loop.call_soon, lambda: (seen(), reactor.stop()))

    run(reactor, begin)
    assert told == [None, loop]


def test_what_nobody_catches(reactor: Any, loop: Any) -> None:
    """An exception of a call is logged, and everything goes on."""
    errors: list[Any] = []
    log.addObserver(errors.append)

    def fail() -> None:
        raise SystemExit("a call has failed")

    def begin() -> None:
        reactor.callLater(0, fail)
        loop.call_later(0.01, lambda: (reactor.callFromThread(fail), reactor.callFromThread(reactor.stop)))

    try:
        run(reactor, begin)
    finally:
        log.removeObserver(errors.append)
    failures = [one["failure"] for one in errors if one.get("isError")]
    assert [one.type for one in failures] == [SystemExit] * 2


def test_it_sleeps_while_nothing_happens(reactor: Any, loop: Any) -> None:
    """Neither does it turn for nothing."""
    turns: list[float] = []
    turn = reactor.runUntilCurrent
    reactor.runUntilCurrent = lambda: (turns.append(time.monotonic()), turn())[1]
    run(reactor, lambda: reactor.callLater(0.5, reactor.stop))
    # The first, the call, the shutdown and its end; a few more for the wake-ups of threads that end.
    assert len(turns) < 15


def test_a_reactor_that_runs_cannot_be_put_on_a_loop(reactor: Any, loop: Any) -> None:
    """It is told so."""
    told: list[Any] = []

    def begin() -> None:
        with pytest.raises(RuntimeError, match="runs already"):
            reactor.ride(loop, told.clear)
        reactor.stop()

    run(reactor, begin)
    assert reactor.ended == [False]


SIGNALS = """
import asyncio, os, signal, sys
import uvloop
from appd.listening.reactor import install
install()
from twisted.internet import error, protocol, reactor
loop = (uvloop if sys.argv[1] == "uvloop" else asyncio).new_event_loop()
reactor.ride(loop, loop.close)

class Child(protocol.ProcessProtocol):
    def processEnded(self, reason):
        print("child", reason.value.exitCode, flush=True)
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(told))
        # From another process, as while this one sleeps.
        reactor.spawnProcess(protocol.ProcessProtocol(), "/bin/sh", ["sh", "-c", "kill -USR1 $PPID"])

def told():
    print("signal", flush=True)
    reactor.spawnProcess(protocol.ProcessProtocol(), "/bin/sh", ["sh", "-c", "kill -TERM $PPID"])

reactor.addSystemEventTrigger("during", "shutdown", lambda: print("shutdown", flush=True))
reactor.callWhenRunning(lambda: reactor.spawnProcess(Child(), "/bin/sh", ["sh", "-c", "exit 3"]))
reactor.run()
print("over")
"""


@pytest.mark.parametrize("kind", ["uvloop", "asyncio"])
def test_signals_and_children(kind: str) -> None:
    """A child that ends is noticed, handlers in Python are called at once, SIGTERM stops the reactor."""
    command = [sys.executable, "-c", SIGNALS, kind]
    said = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE * 2)
    assert said.stdout.splitlines() == ["child 3", "signal", "shutdown", "over"], said.stderr
