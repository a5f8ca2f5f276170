"""Where entries go, and the choice of it."""

from __future__ import annotations

import os
import stat

from appd.journal.entry import Entry, Value
from appd.journal.lines import json_line, prefixed, readable
from appd.journal.native import JournalSocket, serialize
from appd.journal.outlet import Patience, Stream
from appd.startup.bare import Callable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

__all__ = ["FORMATS", "Format", "JournalSink", "Sink", "StreamSink", "choose_format", "make_sink"]

# "prefix" is what "auto" comes to on a pipe; the others may stand in the file.
FORMATS = ("auto", "journal", "text", "json", "prefix")

Format = Callable[[Entry, Mapping[str, Value]], bytes]


class Sink(Protocol):
    """Takes entries one by one. Only the writer thread calls it, so it may wait as long as patience lasts."""

    def write(self, entry: Entry, patience: Patience) -> None:
        """Write an entry whole.

        Raises:
            OSError: It is lost.
            Stopped: Patience ended before it was written.
        """

    def close(self) -> None:
        """Release what the sink opened; it may be written to again later."""


class StreamSink:
    """Entries as lines on a descriptor.

    Resource handling: the descriptor stays open.
    """

    def __init__(self, stream: Stream, layout: Format, fields: Mapping[str, Value]) -> None:
        """Make a sink.

        Args:
            stream: Where to.
            layout: How an entry looks.
            fields: Fields of every entry of this process; may change later.
        """
        self._stream = stream
        self._layout = layout
        self._fields = fields

    def write(self, entry: Entry, patience: Patience) -> None:
        """See `Sink`."""
        self._stream.send(self._layout(entry, self._fields), patience)

    def close(self) -> None:
        """See `Sink`."""


class JournalSink:
    """Entries to journald; one that journald does not get goes to the fallback, never to both."""

    def __init__(self, journal: JournalSocket, fallback: Sink, fields: Mapping[str, Value]) -> None:
        """Make a sink.

        Args:
            journal: The way to journald.
            fallback: Gets what journald does not.
            fields: Fields of every entry of this process; may change later.
        """
        self._journal = journal
        self._fallback = fallback
        self._fields = fields

    def write(self, entry: Entry, patience: Patience) -> None:
        """See `Sink`."""
        data = serialize(entry, self._fields)
        try:
            self._journal.send(data, patience)
        except OSError:
            self._fallback.write(entry, patience)

    def close(self) -> None:
        """See `Sink`."""
        self._journal.settle()
        self._journal.close()
        self._fallback.close()


def choose_format(wanted: str, environ: Mapping[str, str], stream: Stream, journal_path: str) -> str:
    """Decide what the log looks like.

    Args:
        wanted: One of `FORMATS`.
        environ: Read for JOURNAL_STREAM (systemd.exec(5)): device and inode of the stream that systemd connected. A
            program whose output was redirected since must not go past that redirection.
        stream: Standard error.
        journal_path: Where journald listens.

    Returns:
        ``journal``, ``text``, ``json`` or ``prefix``. ``prefix`` for a wanted ``journal`` means that there is none.

    Raises:
        ValueError: The format is unknown.
    """
    if wanted not in FORMATS:
        raise ValueError(f"{wanted!r} is not a log format; use one of {', '.join(FORMATS)}")
    if wanted == "journal":
        return "journal" if _is_socket(journal_path) else "prefix"
    if wanted != "auto":
        return wanted
    status = stream.status
    if status is not None and environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}":
        return "journal"
    return "text" if stream.is_terminal() else "prefix"


def make_sink(chosen: str, stream: Stream, journal_path: str, fields: Mapping[str, Value]) -> Sink:
    """Make the sink for a format.

    Args:
        chosen: As `choose_format` returns it.
        stream: Standard error.
        journal_path: Where journald listens.
        fields: Fields of every entry of this process; may change later.

    Returns:
        The sink. Whoever writes to it closes it.
    """
    if chosen == "journal":
        return JournalSink(JournalSocket(journal_path), StreamSink(stream, prefixed, fields), fields)
    layouts: Mapping[str, Format] = {"text": readable, "json": json_line, "prefix": prefixed}
    return StreamSink(stream, layouts[chosen], fields)


def _is_socket(path: str) -> bool:
    """Whether somebody may be listening there; whether he is, only sending shows."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
