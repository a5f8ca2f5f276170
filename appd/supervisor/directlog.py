"""A log for a process without threads: each entry is written at once, or dropped and counted, never waited for."""

from __future__ import annotations

import time

from appd.journal import Entry
from appd.journal.native import SOCKET_PATH
from appd.journal.outlet import Stopped, Stream
from appd.journal.sink import choose_format, make_sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DirectLog"]


class DirectLog:
    """The supervisor's log.

    Args:
        environ: Read for JOURNAL_STREAM.
        stream: The descriptor of standard error.

    Attributes:
        dropped: How many entries were lost because nobody took them.
    """

    def __init__(self, environ: Mapping[str, str], stream: int = 2) -> None:
        out = Stream(stream)
        self._sink = make_sink(choose_format("auto", environ, out, SOCKET_PATH), out, SOCKET_PATH, {})
        self.dropped = 0
        self._told = 0

    def write(self, message: str, priority: int = 6, **fields: str | int) -> None:
        """Writes one entry.

        Args:
            message: The text.
            priority: As in syslog(3).
            **fields: Journal fields.
        """
        if self.dropped > self._told:
            count = self.dropped
            if self._put(f"{count} log entries of the supervisor were dropped so far", 4, {"APPD_DROPPED": count}):
                self._told = count
        if not self._put(message, priority, fields):
            self.dropped += 1

    def _put(self, message: str, priority: int, fields: Mapping[str, str | int]) -> bool:
        every = {"SYSLOG_IDENTIFIER": "appd", "LOGGER": "appd.supervisor", **fields}
        try:
            self._sink.write(Entry(message, priority, every, time.time()), lambda: False)
        except (OSError, Stopped):
            return False
        return True

    def close(self) -> None:
        """Closes the way to the journal."""
        self._sink.close()
