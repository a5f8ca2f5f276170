"""Where the body of a request ends: RFC 9112, 6 and 7.

A body of known length needs a number; this is the chunked one. The verdict on a line is given when it is complete, or
too long, so that it is the same however the bytes arrive.
"""

from __future__ import annotations

from appd.http.core.errors import Refused
from appd.http.core.grammar import CHUNK
from appd.http.core.head import check_field, read_fields
from appd.http.core.limits import Limits

__all__ = ["Chunked"]

# A chunk line with its extensions, in bytes. hyper and Go bound them likewise: 4096 in Go, after CVE-2023-39326.
_LONGEST_LINE = 1024
# RFC 9110, 6.5.1: what frames, routes, authenticates, or says how to read the content must not come after it.
_FORBIDDEN = frozenset(
    {
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "max-forwards",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# What the chunked body reads next.
_SIZE, _DATA, _AFTER_DATA, _TRAILER, _END = range(5)


class Chunked:
    """A chunked body, as far as it has come.

    Args:
        limits: What it may take.

    Attributes:
        ended: Whether the last byte of it has been taken.
        trailers: Its trailer fields, complete when it has ended.
    """

    __slots__ = ("_left", "_limits", "_lines", "_overhead", "_phase", "_total", "trailers")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._phase = _SIZE
        self._left = 0
        self._total = 0
        self._overhead = 0
        self._lines: list[str] = []
        self.trailers: list[tuple[str, str]] = []

    @property
    def ended(self) -> bool:
        """Whether the last byte of it has been taken."""
        return self._phase == _END

    def take(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Takes what there is of the body.

        Args:
            data: Bytes, of which those before `at` are done with.
            at: Where to begin.

        Returns:
            Content, and where to begin the next time.

        Raises:
            Refused: It is not framed as a chunked body; or it is too long. Content before that was returned.
        """
        parts: list[bytes] = []
        try:
            while self._phase != _END:
                if self._phase == _DATA:
                    part = data[at : at + self._left]
                    if not part:
                        break
                    parts.append(part)
                    at += len(part)
                    self._left -= len(part)
                    if not self._left:
                        self._phase = _AFTER_DATA
                elif self._phase == _AFTER_DATA:
                    end = data[at : at + 2]
                    if not b"\r\n".startswith(end):
                        raise Refused(400, "a chunk that is longer than its size")
                    if len(end) < 2:
                        break
                    at += 2
                    self._phase = _SIZE
                else:
                    end_of_line = self._line_end(data, at)
                    if end_of_line < 0:
                        break
                    self._take_line(data[at:end_of_line].decode("latin-1"))
                    at = end_of_line + 2
        except Refused:
            if not parts:
                raise
            # What is wrong is found again, at the same place, when the content has been used.
        return b"".join(parts) if len(parts) != 1 else parts[0], at

    def _line_end(self, data: bytes, at: int) -> int:
        limit = _LONGEST_LINE if self._phase == _SIZE else self._limits.header_size
        end = data.find(b"\n", at, at + limit + 2)
        if end < 0:
            if len(data) - at >= limit + 2:
                raise Refused(400, "a chunk line or a trailer field that is too long")
            return -1
        if data[end - 1 : end] != b"\r" or end == at:
            raise Refused(400, "a line in a chunked body that ends with LF alone")
        return end - 1

    def _take_line(self, line: str) -> None:
        if self._phase == _SIZE:
            match = CHUNK.fullmatch(line)
            if match is None:
                raise Refused(400, "a chunk size that is none, or a chunk extension that is none")
            size = int(match[1], 16)
            self._check(size, len(match[2]))
            self._left = size
            self._phase = _DATA if size else _TRAILER
        elif line:
            self._check(0, len(line) + 2)
            if len(self._lines) >= self._limits.header_count:
                raise Refused(400, "more trailer fields than header-count")
            check_field(line)
            if line.partition(":")[0].lower() in _FORBIDDEN:
                raise Refused(400, "a trailer field that must not be one")
            self._lines.append(line)
        else:
            self.trailers = read_fields(self._lines)
            self._phase = _END

    def _check(self, size: int, overhead: int) -> None:
        """Counts. Nothing is counted twice: a line that is refused here is not taken, and ends the connection."""
        if overhead and self._overhead + overhead > self._limits.header_size:
            raise Refused(400, "more chunk extensions and trailers than header-size")
        most = self._limits.body_size
        if most and self._total + size > most:
            raise Refused(413, f"a chunked body of more than body-size {most}")
        self._overhead += overhead
        self._total += size
