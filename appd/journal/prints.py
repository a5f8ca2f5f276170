"""What a program prints, as entries."""

from __future__ import annotations

import io
import sys
import time
from _thread import get_ident

from appd.journal.entry import INFO, WARNING, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from appd.journal.log import Log

__all__ = ["PrintStream", "install"]

# A program that never ends its line does not collect it in memory for ever; journald's own limit (LineMax=) is 48K too.
_LINE_MAX = 48 * 1024


class PrintStream(io.TextIOBase):
    """Stands in for ``sys.stdout`` or ``sys.stderr`` and makes an entry of each line.

    Each thread has a line of its own that it is writing: ``print`` writes text and newline separately, and the lines of
    two threads must not mix. `fileno` is that of the real stream, so that subprocess and faulthandler work.
    """

    def __init__(self, log: Log, name: str, priority: int, descriptor: int) -> None:
        """Make a stream.

        Args:
            log: Takes the entries.
            name: LOGGER of the entries, by which their level can be set.
            priority: Their priority.
            descriptor: The descriptor that the stream stands for; not written to, not closed.
        """
        super().__init__()
        self._log = log
        self._name = name
        self._priority = priority
        self._descriptor = descriptor
        self._begun: dict[int, str] = {}
        self._bytes = _PrintBytes(self)

    @property
    def buffer(self) -> io.RawIOBase:
        """The same for programs that write bytes."""
        return self._bytes

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What `buffer` takes."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Bytes that are not UTF-8 travel as surrogates, and come out as the bytes they were."""
        return "surrogateescape"

    @property
    def name(self) -> str:
        """As the real one has it."""
        return f"<{self._name}>"

    def fileno(self) -> int:
        """Give the descriptor of the real stream."""
        return self._descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Take some text.

        Args:
            text: Any part of any number of lines.

        Returns:
            Its length.

        Raises:
            TypeError: It is not text.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        thread = get_ident()
        *lines, rest = (self._begun.pop(thread, "") + text).split("\n")
        if len(rest) > _LINE_MAX:
            lines.append(rest)
            rest = ""
        if rest:
            self._begun[thread] = rest
        for line in lines:
            self._put(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        """Take several texts."""
        for line in lines:
            self.write(line)

    def drain(self) -> None:
        """Log the lines that were begun and not ended."""
        for thread in list(self._begun):
            self._put(self._begun.pop(thread, ""))

    def close(self) -> None:
        """Do nothing: whoever comes next prints as well."""

    def _put(self, line: str) -> None:
        """Log a line that says something."""
        if line.strip() and self._log.enabled(self._name, self._priority):
            self._log.put(Entry(line.rstrip("\r"), self._priority, {"LOGGER": self._name}, time.time()))


class _PrintBytes(io.RawIOBase):
    """``sys.stdout.buffer``."""

    def __init__(self, stream: PrintStream) -> None:
        super().__init__()
        self._stream = stream

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        raw = bytes(data)
        self._stream.write(raw.decode(errors="surrogateescape"))
        return len(raw)

    def close(self) -> None:
        pass


def install(log: Log) -> list[PrintStream]:
    """Put a stream in the place of ``sys.stdout`` and of ``sys.stderr``.

    What is printed to stdout is information. What is printed to stderr is a warning: progress, hints and complaints all
    go there, nobody called it an error, and ``journalctl -p err`` is to show errors.

    Args:
        log: Takes the entries.

    Returns:
        The streams.
    """
    out, err = PrintStream(log, "stdout", INFO, 1), PrintStream(log, "stderr", WARNING, 2)
    sys.stdout, sys.stderr = out, err
    return [out, err]
