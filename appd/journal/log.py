"""The log of one process."""

from __future__ import annotations

import os
import sys
import time

from appd.journal.entry import INFO, WARNING, Entry, Value, to_text
from appd.journal.levels import Levels
from appd.journal.native import SOCKET_PATH
from appd.journal.outlet import Stream
from appd.journal.queue import MAX_BYTES, MAX_ENTRIES, BoundedQueue
from appd.journal.sink import choose_format, make_sink
from appd.journal.writer import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from appd.journal.events import EventObserver
    from appd.journal.prints import PrintStream
    from appd.journal.stdlib import RecordHandler

__all__ = ["Log"]

_NO_JOURNAL = "the log format is 'journal', but nobody listens at {path}; writing to standard error instead"


class Log:
    """Takes entries from anywhere in the process and has them written by a thread of its own.

    Nobody who logs ever waits: an entry for which the queue has no room is dropped and counted, and the count is an
    entry with the field APPD_DROPPED as soon as writing goes again.

    Resource handling: owns one daemon thread from `start` to `close`; never closes the stream. A closed log may be
    started again, entries queue up meanwhile.

    A fork copies the queue but not the thread, and a lock as somebody else may hold it: the child makes a `Log` of its
    own and does not touch the one it inherited. Python 3.12 and later warn of a fork with threads; a process that forks
    may `close` first and `start` afterwards.

    Attributes:
        fields: Fields of every entry of this process, such as APPD_WORKER; an entry's own win. Change it at any time.
    """

    def __init__(
        self,
        format: str = "auto",
        *,
        environ: Mapping[str, str] = os.environ,
        stream: int = 2,
        identifier: str = "appd",
        journal_path: str = SOCKET_PATH,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Choose the sink; nothing is opened, started or written yet.

        Args:
            format: ``auto``, ``journal``, ``text``, ``json`` or ``prefix``.
            environ: Read for JOURNAL_STREAM.
            stream: Descriptor for what does not go to the journal: standard error's.
            identifier: SYSLOG_IDENTIFIER.
            journal_path: Where journald listens.
            max_entries: How many entries may wait.
            max_bytes: How many bytes they may keep in memory.

        Raises:
            ValueError: The format is unknown.
        """
        self.fields: dict[str, Value] = {"SYSLOG_IDENTIFIER": identifier}
        self._environ = environ
        self._stream = Stream(stream)
        self._journal_path = journal_path
        self._levels = Levels()
        self._handler: RecordHandler | None = None
        self._prints: list[PrintStream] = []
        self._queue = BoundedQueue(max_entries, max_bytes)
        self.format = choose_format(format, environ, self._stream, journal_path)
        sink = make_sink(self.format, self._stream, journal_path, self.fields)
        self._writer = Writer(self._queue, sink, _dropped)
        self._warn_without_journal(format)

    @property
    def dropped(self) -> int:
        """How many entries were lost so far: the queue was full, or nothing took them."""
        return self._queue.dropped + self._writer.lost

    @property
    def written(self) -> int:
        """How many entries were written so far."""
        return self._writer.written

    def start(self) -> None:
        """Start the writer thread, unless it runs. What was put before is written first.

        Raises:
            RuntimeError: The system allows no further thread.
        """
        self._writer.start()

    def put(self, entry: Entry) -> None:
        """Have an entry written, whatever its level. Never waits, never raises; any thread, signal handlers too.

        Args:
            entry: The entry; its fields must not be changed any more.
        """
        self._queue.put(entry)

    def write(self, message: str | bytes, priority: int = INFO, **fields: Value) -> None:
        """Log a line of appd's own, if its level is wanted. As `put`, never waits.

        Args:
            message: The text.
            priority: 0 to 7 as in syslog(3).
            **fields: Journal fields; LOGGER is what the level filter goes by, without it ``appd``.
        """
        fields.setdefault("LOGGER", "appd")
        if self._levels.enabled(to_text(fields["LOGGER"]), priority):
            self._queue.put(Entry(message, priority, fields, time.time()))

    def configure(self, format: str = "auto", level: str = "info", levels: Mapping[str, str] | None = None) -> None:
        """Apply what the file says. Entries that wait are written to the new sink.

        Args:
            format: As for the class.
            level: ``debug``, ``info``, ``warn``, ``warning``, ``error`` or ``critical``.
            levels: Namespace to level; the longest prefix of whole components wins.

        Raises:
            ValueError: A format or a level is unknown; nothing has changed.
        """
        filter = Levels(level, levels)
        chosen = choose_format(format, self._environ, self._stream, self._journal_path)
        self._levels = filter
        if self._handler is not None:
            self._handler.apply(filter)
        if chosen != self.format:
            self.format = chosen
            self._writer.sink = make_sink(chosen, self._stream, self._journal_path, self.fields)
        self._warn_without_journal(format)

    def enabled(self, namespace: str, priority: int) -> bool:
        """Say whether an entry is wanted, so that nobody formats one that is not.

        Args:
            namespace: Dotted name of where it comes from.
            priority: Its priority.

        Returns:
            Whether to log it.
        """
        return self._levels.enabled(namespace, priority)

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put before is written.

        Args:
            timeout: Seconds.

        Returns:
            Whether it is. Before `start`: whether there was nothing.
        """
        return self._writer.flush(timeout)

    def close(self, timeout: float) -> bool:
        """Write what waits, tell what was dropped, end the thread. A log that was never started writes now.

        Args:
            timeout: Seconds; the thread then ends with the rest unwritten.

        Returns:
            Whether all was written, or it was told how much was not.
        """
        for stream in self._prints:
            stream.drain()
        if not self._writer.running and not self._writer.idle:
            try:
                self._writer.start()
            except RuntimeError:  # no further thread: the system's limit, or the interpreter is ending
                return False
        return self._writer.close(timeout)

    def observer(self) -> EventObserver:
        """Give a `twisted.logger.ILogObserver` for ``globalLogBeginner.beginLoggingTo`` or an application's component.

        Returns:
            The observer; it may be called from any thread.
        """
        from appd.journal.events import EventObserver

        return EventObserver(self)

    def install_stdlib(self, *, later: bool = False) -> None:
        """Take the records of ``logging`` and the warnings of ``warnings``; installs itself once.

        Args:
            later: When somebody imports ``logging``, which takes its time, and not before.

        Root gets the level of the process and each namespace of `configure` its own, so that records nobody wants are
        not even made. Twisted's events do not come this way, there is nothing twice.
        """
        if later and "logging" not in sys.modules:
            from appd.journal.awaited import when_imported

            when_imported("logging", self.install_stdlib)
            return
        from appd.journal.stdlib import RecordHandler

        if self._handler is None:
            self._handler = RecordHandler(self)
            self._handler.install(self._levels)

    def install_prints(self) -> None:
        """Take what is printed, line by line, in place of ``sys.stdout`` and ``sys.stderr``; installs itself once.

        Instead of ``beginLoggingTo(redirectStandardIO=True)``, whose streams keep one buffer for all threads: two
        threads that print at a time mix their lines and lose parts of them. Works before Twisted is imported.
        """
        from appd.journal.prints import install

        if not self._prints:
            self._prints = install(self)

    def _warn_without_journal(self, wanted: str) -> None:
        """Say once that the journal was asked for and is not there."""
        if wanted == "journal" and self.format != "journal":
            self.write(_NO_JOURNAL.format(path=self._journal_path), WARNING)


def _dropped(count: int) -> Entry:
    """Make the entry that tells what was dropped; it passes every filter."""
    entries = "entry was" if count == 1 else "entries were"
    message = f"{count} log {entries} dropped: more was logged than the log took"
    return Entry(message, WARNING, {"LOGGER": "appd", "APPD_DROPPED": count}, time.time())
