"""The bounded queue and the thread that empties it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from appd.journal import INFO, WARNING, Entry
from appd.journal.outlet import Patience, Stopped
from appd.journal.queue import BoundedQueue
from appd.journal.writer import Writer


def entry(message: str = "x") -> Entry:
    """Make an entry."""
    return Entry(message, INFO, {}, 0.0)


class FakeSink:
    """Keeps what it gets; blocks while `gate` is closed, fails while `broken`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.broken: Exception | None = None
        self.entries: list[Entry] = []
        self.closed = 0

    def write(self, entry: Entry, patience: Patience) -> None:
        while not self.gate.wait(0.01):
            self.waiting.set()
            if not patience():
                raise Stopped
        if self.broken is not None:
            raise self.broken
        self.entries.append(entry)

    def close(self) -> None:
        self.closed += 1

    def messages(self) -> list[str | bytes]:
        return [entry.message for entry in self.entries]


@pytest.fixture
def sink() -> FakeSink:
    """A sink."""
    return FakeSink()


@pytest.fixture
def queue() -> BoundedQueue:
    """A queue for three entries."""
    return BoundedQueue(max_entries=3)


@pytest.fixture
def writer(queue: BoundedQueue, sink: FakeSink) -> Iterator[Writer]:
    """A writer that is closed afterwards."""
    writer = Writer(queue, sink, lambda count: Entry(f"{count} dropped", WARNING, {"APPD_DROPPED": count}, 0.0))
    yield writer
    sink.gate.set()
    writer.close(1)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_order_and_count(queue: BoundedQueue, sink: FakeSink, writer: Writer) -> None:
    """What is put before the start is written first, in order."""
    queue.put(entry("1"))
    queue.put(entry("2"))
    assert not writer.flush(0)
    writer.start()
    queue.put(entry("3"))
    assert writer.flush(5)
    assert sink.messages() == ["1", "2", "3"]
    assert writer.written == 3
    assert len(queue) == 0


def test_bound_on_entries(queue: BoundedQueue) -> None:
    """What does not fit is dropped and counted, what waits stays."""
    for number in range(5):
        queue.put(entry(str(number)))
    assert (len(queue), queue.dropped) == (3, 2)


def test_bound_on_bytes() -> None:
    """Large entries are bounded by their size, and room comes back when they are taken."""
    queue = BoundedQueue(max_bytes=10_000)
    queue.put(entry("x" * 6000))
    queue.put(entry("y" * 6000))
    assert queue.dropped == 1
    queue.get(0)
    queue.put(entry("z" * 6000))
    assert (len(queue), queue.dropped) == (1, 1)


def test_what_is_no_entry() -> None:
    """`put` never raises."""
    queue = BoundedQueue()
    queue.put(None)  # type: ignore[arg-type]
    queue.put(Entry("x", 6, None, 0.0))  # type: ignore[arg-type]
    assert queue.dropped == 2


def test_nobody_waits_for_a_blocked_sink(queue: BoundedQueue, sink: FakeSink, writer: Writer) -> None:
    """While the sink blocks `put` returns; afterwards one entry tells the count."""
    sink.gate.clear()
    writer.start()
    queue.put(entry("first"))
    assert sink.waiting.wait(5)
    began = time.monotonic()
    for number in range(1000):
        queue.put(entry(str(number)))
    assert time.monotonic() - began < 10
    assert queue.dropped == 997
    assert not writer.flush(0.05)
    sink.gate.set()
    assert writer.flush(5)
    # Told right after the first entry that could be written, not at the end.
    assert sink.messages() == ["first", "997 dropped", "0", "1", "2"]
    assert sink.entries[1].fields == {"APPD_DROPPED": 997}
    assert writer.written == 4


def test_lasting_overflow_is_told_once_a_second(queue: BoundedQueue, sink: FakeSink) -> None:
    """While more and more is dropped it is told at intervals, and what is left over at the end."""
    now = [100.0]
    writer = Writer(queue, sink, lambda count: entry(f"{count} dropped"), clock=lambda: now[0])
    queue.dropped = 1
    writer._tell(sink, at_once=False)
    queue.dropped = 5
    writer._tell(sink, at_once=False)
    now[0] += 1.5
    queue.dropped = 7
    writer._tell(sink, at_once=False)
    queue.dropped = 8
    writer._tell(sink, at_once=True)
    assert sink.messages() == ["1 dropped", "6 dropped", "1 dropped"]


def test_sink_that_fails_loses_nothing_silently(queue: BoundedQueue, sink: FakeSink, writer: Writer) -> None:
    """A sink that is gone does not end the thread; when one takes entries again, the loss is told."""
    sink.broken = BrokenPipeError()
    sink.gate.clear()
    writer.start()
    queue.put(entry("lost"))
    # It is lost while the flush waits for it, not before.
    opens = threading.Timer(0.1, sink.gate.set)
    opens.start()
    assert not writer.flush(5)
    opens.join()
    assert (writer.lost, writer.written) == (1, 0)
    sink.broken = None
    queue.put(entry("written"))
    assert writer.flush(5)
    assert sink.messages() == ["written", "1 dropped"]


def test_any_error_of_a_sink_is_survived(queue: BoundedQueue, sink: FakeSink, writer: Writer) -> None:
    """Not even a mistake in a sink ends the thread."""
    sink.broken = ZeroDivisionError()
    writer.start()
    queue.put(entry())
    writer.flush(5)
    assert writer.lost == 1
    assert writer.running


def test_close(queue: BoundedQueue, sink: FakeSink, writer: Writer) -> None:
    """Closing writes what waits, ends the thread and releases the sink."""
    writer.start()
    queue.put(entry("1"))
    assert writer.close(5)
    assert not writer.running
    assert sink.messages() == ["1"]
    assert sink.closed == 1
    assert writer.close(5)


def test_close_in_time_though_blocked_and_start_again(queue: BoundedQueue, sink: FakeSink, writer: Writer) -> None:
    """Closing a blocked writer takes no longer than said; started again it writes each entry once."""
    sink.gate.clear()
    writer.start()
    queue.put(entry("1"))
    queue.put(entry("2"))
    assert sink.waiting.wait(5)
    began = time.monotonic()
    assert not writer.close(0.1)
    assert time.monotonic() - began < 10
    assert not writer.running
    assert not writer.idle
    sink.gate.set()
    writer.start()
    assert writer.flush(5)
    assert sink.messages() == ["1", "2"]
    assert writer.running


def test_replaced_sink(queue: BoundedQueue, sink: FakeSink, writer: Writer) -> None:
    """What is put after a sink was replaced goes to the new one, and the old one is closed."""
    writer.start()
    queue.put(entry("old"))
    assert writer.flush(5)
    other = FakeSink()
    writer.sink = other
    queue.put(entry("new"))
    assert writer.flush(5)
    assert (sink.messages(), other.messages()) == (["old"], ["new"])
    assert (sink.closed, other.closed) == (1, 0)


def test_put_from_a_signal_handler(sink: FakeSink) -> None:
    """A signal handler logs while the thread it interrupts is logging: no deadlock, nothing lost."""
    queue = BoundedQueue(max_entries=10**9, max_bytes=10**9)
    writer = Writer(queue, sink, lambda count: entry("dropped"))
    handled = 0

    def log(number: int, frame: object) -> None:
        nonlocal handled
        handled += 1
        queue.put(entry("from handler"))

    previous = signal.signal(signal.SIGALRM, log)
    writer.start()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(50_000):
            queue.put(entry("from main"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert handled > 5
    assert writer.close(20)
    assert len(sink.entries) == 50_000 + handled
    assert (queue._entries, queue._bytes, queue.dropped) == (0, 0, 0)


class Nasty(str):
    """A message that logs while the queue measures it, as an object's finalizer may."""

    queue: BoundedQueue

    def __sizeof__(self) -> int:
        self.queue.put(entry("inner"))
        return super().__sizeof__()


def test_put_in_the_middle_of_put(sink: FakeSink) -> None:
    """`put` may be entered again in the middle of itself."""
    queue = BoundedQueue()
    message = Nasty("outer")
    message.queue = queue
    with queue._lock:
        queue.put(entry(message))
    assert len(queue) == 2


def test_put_from_many_threads(sink: FakeSink) -> None:
    """The counters are exact when several threads log at a time."""
    queue = BoundedQueue(max_entries=10**9, max_bytes=10**9)
    writer = Writer(queue, sink, lambda count: entry("dropped"))
    writer.start()

    def put_many() -> None:
        for _ in range(5000):
            queue.put(entry())

    threads = [threading.Thread(target=put_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.close(20)
    assert len(sink.entries) == 40_000
    assert (queue._entries, queue._bytes) == (0, 0)


def test_thread_takes_no_signals(queue: BoundedQueue, sink: FakeSink, writer: Writer) -> None:
    """A signal goes to a thread that waits for it, and not to the writer."""
    writer.start()
    assert writer._thread is not None
    queue.put(entry())
    assert writer.flush(5)
    with open(f"/proc/{os.getpid()}/task/{writer._thread.native_id}/status") as status:
        blocked = next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1):
        assert blocked & 1 << (number - 1)
    assert not blocked & 1 << (signal.SIGSEGV - 1)
