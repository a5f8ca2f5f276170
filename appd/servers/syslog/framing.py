"""Messages in a stream: RFC 6587, both ways of it, each message by itself.

A message that begins with a digit has its length in front (3.4.1, and RFC 5425 over TLS); another ends with a line
feed, or with a NUL, as some senders have it (3.4.2).
"""

from __future__ import annotations

__all__ = ["Frames", "FramingError"]

_DIGITS = b"123456789"
# A length of more digits is none.
_MOST_DIGITS = 8


class Frames:
    """Takes a stream apart.

    Args:
        most: The longest message, in bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = b""
        self._passing = False

    @property
    def partial(self) -> bool:
        """Whether a message has begun and has not ended."""
        return bool(self._kept) or self._passing

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete by now. Of one without a length that is too long the beginning is one.

        Args:
            data: What has come.

        Raises:
            FramingError: A length is none or too large, and nobody knows where the next message begins.
        """
        data = self._kept + data
        found: list[bytes] = []
        place = 0
        while place < len(data):
            if not self._passing and data[place] in _DIGITS:
                ends, message = self._counted(data, place, found)
            else:
                ends, message = self._lined(data, place)
            if message is not None and message.strip(b"\r\n\0"):
                found.append(message)
            if ends == place:
                break
            place = ends
        self._kept = data[place:]
        return found

    def end(self) -> list[bytes]:
        """What the stream has ended in the middle of: a last line without its end."""
        kept, self._kept = self._kept, b""
        return [kept] if kept and kept[0] not in _DIGITS and not self._passing else []

    def _counted(self, data: bytes, place: int, before: list[bytes]) -> tuple[int, bytes | None]:
        space = data.find(b" ", place, place + _MOST_DIGITS + 1)
        digits = data[place:space] if space >= 0 else data[place : place + _MOST_DIGITS + 1]
        if not digits.isdigit() or (space < 0 and len(digits) > _MOST_DIGITS):
            raise FramingError("a message begins with a digit, but not with its length", before)
        if space < 0:
            return place, None
        if int(digits) > self._most:
            raise FramingError(f"a message of {int(digits)} bytes is longer than message-size {self._most}", before)
        ends = space + 1 + int(digits)
        return (ends, data[space + 1 : ends]) if ends <= len(data) else (place, None)

    def _lined(self, data: bytes, place: int) -> tuple[int, bytes | None]:
        ends = min((one for one in (data.find(b"\n", place), data.find(b"\0", place)) if one >= 0), default=-1)
        if self._passing:
            # The rest of one that was too long.
            self._passing = ends < 0
            return (len(data) if ends < 0 else ends + 1), None
        if ends < 0 and len(data) - place <= self._most:
            return place, None
        if ends < 0:
            self._passing = True
            return len(data), data[place : place + self._most]
        return ends + 1, data[place : min(ends, place + self._most)]


class FramingError(ValueError):
    """A stream that cannot be taken apart any further.

    Args:
        reason: Why.
        before: The messages before it that are complete.
    """

    def __init__(self, reason: str, before: list[bytes]) -> None:
        super().__init__(reason)
        self.before = before
