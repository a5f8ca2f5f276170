"""The bounded queue between those who log and the one who writes."""

from __future__ import annotations

import time

from appd.journal.entry import Entry, memory
from appd.startup.bare import Lock, RLock, deque
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Event

__all__ = ["MAX_BYTES", "MAX_ENTRIES", "BoundedQueue", "Mark"]

# Ten thousand entries are about a second of a busy access log; 16 MB are what a process can spare for it.
MAX_ENTRIES = 10_000
MAX_BYTES = 16_000_000


class Mark(NamedTuple):
    """A place in the queue. The writer sets `reached` when all before it is written.

    Attributes:
        reached: Set by the writer.
        last: The writer ends here.
        cancelled: Set by whoever does not wait for it any longer.
    """

    reached: Event
    last: bool
    cancelled: Event


class BoundedQueue:
    """Entries that wait to be written, at most so many and so large.

    `put` may be called by any thread, and again by the same thread in the middle of itself, as a signal handler or a
    finalizer that logs does: a deque is appended to in one step, and the lock around the counters is an `RLock`. Nobody
    does anything that waits while holding that lock.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        """Make an empty queue.

        Args:
            max_entries: How many entries may wait.
            max_bytes: How many bytes they may keep in memory together.
        """
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._lock = RLock()
        self._items: deque[tuple[Entry | Mark, int]] = deque()
        # Taken while the reader knows of nothing: it waits for it, and whoever adds something gives it back.
        self._idle = Lock()
        self._idle.acquire()
        self._entries = 0
        self._bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._entries

    def put(self, entry: Entry) -> None:
        """Add an entry, or count it as dropped if there is no room. Never waits, never raises.

        Args:
            entry: The entry.
        """
        try:
            size = memory(entry)
        except Exception:
            size = self._max_bytes + 1
        with self._lock:
            if self._entries >= self._max_entries or self._bytes + size > self._max_bytes:
                self.dropped += 1
                return
            self._entries += 1
            self._bytes += size
        self._add(entry, size)

    def mark(self, last: bool = False) -> Mark:
        """Add a place that the writer reports; there is always room for it.

        Args:
            last: The writer ends when it comes there.

        Returns:
            The place.
        """
        from threading import Event

        mark = Mark(Event(), last, Event())
        self._add(mark, 0)
        return mark

    def _add(self, item: Entry | Mark, size: int) -> None:
        self._items.append((item, size))
        try:
            self._idle.release()
        except RuntimeError:
            return  # somebody has given it back already

    def get(self, timeout: float | None) -> Entry | Mark | None:
        """Take the next item. Only the writer calls this.

        Args:
            timeout: Seconds to wait for one; None for ever.

        Returns:
            The item, or None if none came in time.
        """
        ends = 0.0 if timeout is None else time.monotonic() + timeout
        while not self._items:
            # Given back earlier for what has been taken since, it is only had once more.
            if not self._idle.acquire(timeout=-1 if timeout is None else max(0.0, ends - time.monotonic())):
                return None
        item, size = self._items.popleft()
        if isinstance(item, Entry):
            with self._lock:
                self._entries -= 1
                self._bytes -= size
        return item
