r"""One log entry for each request that was answered.

The entry carries the parts of the request as fields; its text is either short or the
line of NCSA's combined log format. Whatever comes from the client is escaped as Apache does (`\xHH`), so that nobody
can write a line or a field of his own.
"""

from __future__ import annotations

import time

from appd.http.log.entrylog import EntryLog
from appd.journal import INFO
from appd.startup.patterns import pattern
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

__all__ = ["AccessLog", "Answer", "combined_line", "journal_line", "printable"]

_UNPRINTABLE = pattern(r"[^\x20-\x7e]|\\")
_QUOTED = pattern(r'[^\x20-\x7e]|[\\"]')
# The format is English whatever the locale, which strftime's %b would follow.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Answer(NamedTuple):
    """A request and what became of it. Bytes are as the client sent them.

    Attributes:
        method: The method.
        target: The request target, with the query.
        version: `HTTP/1.1` or `HTTP/1.0`.
        status: The status.
        sent: The bytes of the body that were sent.
        duration: Seconds from the first line of the request to the end of the response.
        host: The address of the client, "" when it has none.
        peer: The same with the port.
        referer: Its Referer field.
        agent: Its User-Agent field.
    """

    method: bytes
    target: bytes
    version: bytes
    status: int
    sent: int
    duration: float
    host: str
    peer: str
    referer: bytes
    agent: bytes

    @property
    def path(self) -> bytes:
        """The target without the query, which may hold what is nobody's business."""
        return self.target.partition(b"?")[0]


class AccessLog:
    """Writes the access log of one server.

    Args:
        server: The name of the server.
        log: The log of the process.
        sample: One of how many requests is logged.
    """

    def __init__(self, server: str, log: EntryLog, sample: int = 1) -> None:
        self._server = server
        self._log = log
        self._sample = sample
        self._seen = 0

    def write(self, answer: Answer, format: str, now: float) -> None:
        """Logs a request, if its turn has come.

        Args:
            answer: The request.
            format: `off`, `journal` or `combined`.
            now: Seconds since the epoch.
        """
        if format == "off":
            return
        self._seen += 1
        if (self._seen - 1) % self._sample:
            return
        fields = {"APPD_PEER": answer.peer} if answer.peer else {}
        self._log.write(
            combined_line(answer, now) if format == "combined" else journal_line(answer),
            INFO,
            LOGGER="appd.access",
            APPD_SERVER=self._server,
            HTTP_METHOD=printable(answer.method),
            HTTP_PATH=printable(answer.path),
            HTTP_STATUS=answer.status,
            HTTP_BYTES=answer.sent,
            DURATION_USEC=round(answer.duration * 1_000_000),
            **fields,
        )


def journal_line(answer: Answer) -> str:
    """The short text: `GET /x 200 1234 5.1ms`."""
    milliseconds = answer.duration * 1000
    return f"{printable(answer.method)} {printable(answer.path)} {answer.status} {answer.sent} {milliseconds:.1f}ms"


def combined_line(answer: Answer, now: float) -> str:
    """A line of NCSA's combined log format, in UTC."""
    at = time.gmtime(now)
    when = f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} +0000"
    request = _quoted(answer.method + b" " + answer.target + b" " + answer.version)
    return (
        f"{answer.host or '-'} - - [{when}] {request} {answer.status} {answer.sent or '-'} "
        f"{_quoted(answer.referer or b'-')} {_quoted(answer.agent or b'-')}"
    )


def printable(text: bytes) -> str:
    r"""Bytes as printable ASCII; anything else as `\xHH`, a backslash doubled."""
    return _UNPRINTABLE.sub(_escaped, text.decode("latin-1"))


def _quoted(text: bytes) -> str:
    return f'"{_QUOTED.sub(_escaped, text.decode("latin-1"))}"'


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return f"\\{character}" if character in '\\"' else f"\\x{ord(character):02x}"
