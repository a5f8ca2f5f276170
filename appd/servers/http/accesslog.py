r"""One log event for each request that was answered.

The event carries the parts of the request as keys, which the journal keeps as fields; its text is either short or the
line of NCSA's combined log format. Whatever comes from the client is escaped as Apache does (`\xHH`), so that nobody
can write a line or a field of his own.
"""

from __future__ import annotations

import re
import time
from typing import NamedTuple

from twisted.logger import Logger

__all__ = ["AccessLog", "Answer", "combined_line", "journal_line", "printable"]

# Of the module, since a Logger that belongs to a class takes the name of the class for its namespace.
_log = Logger(namespace="appd.access")

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]|\\")
_QUOTED = re.compile(r'[^\x20-\x7e]|[\\"]')
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
        sample: One of how many requests is logged.
    """

    def __init__(self, server: str, sample: int = 1) -> None:
        self._server = server
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
        _log.info(
            "{access_line}",
            access_line=combined_line(answer, now) if format == "combined" else journal_line(answer),
            appd_server=self._server,
            appd_peer=answer.peer or None,
            http_method=printable(answer.method),
            http_path=printable(answer.path),
            http_status=answer.status,
            http_bytes=answer.sent,
            duration_usec=round(answer.duration * 1_000_000),
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
