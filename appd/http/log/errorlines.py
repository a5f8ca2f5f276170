"""`wsgi.errors`: what an application writes there, as log entries, one a line."""

from __future__ import annotations

from appd.http.log.entrylog import EntryLog
from appd.journal import ERROR
from appd.journal.entry import Value
from appd.startup.bare import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ErrorLines"]

# A line without an end is cut here, in characters, so that it does not fill the memory.
_LONGEST = 65536


class ErrorLines:
    """The error stream of one call (PEP 3333, Input and Error Streams). Any thread may write.

    Args:
        fields: Fields of each entry: what is known of the request.
        log: The log of the process.
    """

    def __init__(self, fields: Mapping[str, Value], log: EntryLog) -> None:
        self._fields = fields
        self._entries = log
        self._rest = ""
        self._lock = Lock()

    def write(self, text: str) -> None:
        """Logs the lines that are complete; the rest waits for its end.

        Raises:
            TypeError: It is no str.
        """
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors takes str, not {type(text).__name__}")
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            if len(self._rest) > _LONGEST:
                lines.append(self._rest)
                self._rest = ""
        self._log(lines)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes each; they bring their own line ends."""
        for one in lines:
            self.write(one)

    def flush(self) -> None:
        """Nothing: `logging` flushes after each part of a line, and an entry is a line."""

    def end(self) -> None:
        """Logs what has no line end, when the call is over."""
        with self._lock:
            rest, self._rest = self._rest, ""
        self._log([rest])

    def _log(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line.strip():
                self._entries.write(line.rstrip("\r"), ERROR, LOGGER="wsgi.errors", **self._fields)
