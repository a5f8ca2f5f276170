"""The one thread that waits for the journal."""

from __future__ import annotations

import time

from appd.journal.entry import Entry
from appd.journal.outlet import Stopped
from appd.journal.queue import BoundedQueue, Mark
from appd.journal.sink import Sink
from appd.startup.bare import signal
from appd.startup.barethread import BareThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Writer"]

# A log that overflows for long says so once a second, not between any two entries.
_NOTICE_INTERVAL = 1.0


class Writer:
    """Takes entries from the queue and gives them to the sink, in a thread of its own.

    Resource handling: `start` makes a thread, `close` ends it. It may be started again; what was not
    written then is written first.
    """

    def __init__(
        self,
        queue: BoundedQueue,
        sink: Sink,
        notice: Callable[[int], Entry],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a writer.

        Args:
            queue: What is to be written; this is its only reader.
            sink: Where to.
            notice: Makes the entry that tells how many entries were lost.
            clock: Monotonic seconds.
        """
        self.sink = sink
        self.written = 0
        self.lost = 0
        self._queue = queue
        self._notice = notice
        self._clock = clock
        self._thread: BareThread | None = None
        self._stopping = False
        self._in_hand: Entry | None = None
        self._told = 0
        self._tell_at = 0.0
        self._can_write = True

    @property
    def running(self) -> bool:
        """Whether there is a thread that writes."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be written; sure only while no thread runs."""
        return len(self._queue) == 0 and self._in_hand is None

    def start(self) -> None:
        """Start the thread, unless it runs.

        Raises:
            RuntimeError: The system allows no further thread.
        """
        if self.running:
            return
        self._stopping = False
        thread = BareThread(self._run, "appd-journal")
        thread.start()
        self._thread = thread

    def flush(self, timeout: float) -> bool:
        """Wait until all that is in the queue now was written. Never call it from a signal handler.

        Args:
            timeout: Seconds.

        Returns:
            Whether it was, and nothing of it was lost.
        """
        if not self.running:
            return self.idle
        lost = self.lost
        return self._await(timeout, last=False) and self.lost == lost

    def close(self, timeout: float) -> bool:
        """Write what is in the queue, tell what was lost, end the thread.

        Args:
            timeout: Seconds; then the thread ends without having written the rest.

        Returns:
            Whether all was written, or it was told how much was not.
        """
        if self._thread is None:
            return self.idle
        done = self._await(timeout, last=True)
        self._stopping = True
        # It looks at that flag ten times a second. Should it be stuck all the same, it ends with the process.
        self._thread.join(1.0)
        self._thread = None
        return done and not self._untold()

    def _await(self, timeout: float, last: bool) -> bool:
        """Put a mark into the queue and wait for it."""
        mark = self._queue.mark(last)
        if mark.reached.wait(timeout):
            return True
        mark.cancelled.set()
        return False

    def _patience(self) -> bool:
        return not self._stopping

    def _run(self) -> None:
        """Write until a last mark comes or somebody stops waiting for it."""
        _block_signals()
        sink = self.sink
        try:
            while not self._stopping:
                item: Entry | Mark | None = self._in_hand
                if item is None:
                    item = self._queue.get(self._until_notice())
                if sink is not self.sink:
                    # Closed here and not where it was replaced: this thread may have been in the middle of it.
                    sink.close()
                    sink = self.sink
                if isinstance(item, Entry):
                    self._in_hand = item
                    self._write(sink, item)
                    self._in_hand = None
                    self._tell(sink, at_once=False)
                    continue
                self._tell(sink, at_once=True)
                if item is not None:
                    item.reached.set()
                    if item.last and not item.cancelled.is_set():
                        return
        except Stopped:
            pass
        finally:
            sink.close()

    def _write(self, sink: Sink, entry: Entry) -> None:
        """Write one entry or count it as lost. Nothing but `Stopped` leaves here: the thread must live."""
        try:
            sink.write(entry, self._patience)
        except Stopped:
            raise
        except Exception:
            # Standard error is gone (EPIPE), or the entry is none. There is nowhere left to say so.
            self.lost += 1
            self._can_write = False
        else:
            self.written += 1
            self._can_write = True

    def _untold(self) -> int:
        """How many entries were lost without anybody having been told."""
        return self._queue.dropped + self.lost - self._told

    def _until_notice(self) -> float | None:
        """How long to sleep at most: while the last write failed, telling would fail too, so the next entry wakes."""
        if self._untold() and self._can_write:
            return max(0.0, self._tell_at - self._clock())
        return None

    def _tell(self, sink: Sink, at_once: bool) -> None:
        """Write the entry that says how many were lost, if writing works and it is time to."""
        count = self._untold()
        if not count or not self._can_write:
            return
        now = self._clock()
        if not at_once and now < self._tell_at:
            return
        self._tell_at = now + _NOTICE_INTERVAL
        try:
            sink.write(self._notice(count), self._patience)
        except Stopped:
            raise
        except Exception:
            self._can_write = False
        else:
            self._told += count


def _block_signals() -> None:
    """Leave signals to the threads that wait for them.

    The supervisor sleeps in poll(2) until a signal comes: one that the kernel gave to this thread would not wake it.
    Faults stay open, they belong to the thread that makes them.
    """
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
