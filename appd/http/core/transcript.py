"""What a thread has said of a response whose bytes another driver makes: the core's half that speaks, without bytes."""

from __future__ import annotations

from appd.http.core.errors import Incomplete, WrongState
from appd.http.core.response import (
    BARE,
    NOTHING,
    TO_THE_END,
    Fields,
    Prepared,
    frame,
    prepare,
    status_line,
    without_length,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appd.http.core.request import Request

__all__ = ["Transcript"]


class Transcript:
    """As `Connection`: `head`, `body`, `end`; what they give is the body alone.

    Args:
        request: The request that is answered.

    Attributes:
        sending: Whether a response has begun.
        ended: Whether it is complete.
        said: Whether the driver knows that.
        closing: As `Connection.closing`; the driver decides.
        overrun: As `Connection.overrun`.
    """

    def __init__(self, request: Request) -> None:
        self.request: Request | None = request
        self.sending = self.ended = self.said = self.closing = False
        self.overrun = 0
        self._head: tuple[int, Prepared, int | None] | None = None
        self._to_send: int | None = None

    def head(self, status: int | str, fields: Fields | Prepared = (), length: int | None = None) -> bytes:
        """As `Connection.head`."""
        number, _line = status_line(status)
        prepared = fields if isinstance(fields, Prepared) else prepare(fields)
        if number in BARE:
            prepared = without_length(prepared)
        if self.sending or self.ended:
            raise WrongState("a second head")
        request = self.request
        head_only = request is not None and request.method == "HEAD"
        _text, self._to_send = frame(number, prepared.length, length, head_only=head_only, chunks=True)
        self.sending = True
        self._head = (number, prepared, length)
        return b""

    def take_head(self) -> tuple[int, Prepared, int | None] | None:
        """The head, if the driver does not know it yet."""
        head, self._head = self._head, None
        return None if self.said else head

    def body(self, data: bytes) -> bytes:
        """As `Connection.body`."""
        left = self._to_send
        if left is None or left == TO_THE_END:
            return data
        if left == NOTHING:
            return b""
        if len(data) > left:
            self.overrun += len(data) - left
            data = data[:left]
        self._to_send = left - len(data)
        return data

    def pass_by(self, count: int) -> int:
        """As `Connection.pass_by`."""
        left = self._to_send
        if left is None or left == TO_THE_END:
            return count
        sent = min(count, max(left, 0))
        if left != NOTHING:
            self._to_send = left - sent
            self.overrun += count - sent
        return sent

    def end(self, trailers: Fields = ()) -> bytes:
        """As `Connection.end`."""
        left = self._to_send
        if left is not None and left > 0:
            raise Incomplete(f"the body is {left} bytes shorter than its Content-Length")
        self.sending, self.ended = False, True
        return b""

    def whole(self, status: int | str, fields: Fields | Prepared, body: bytes) -> bytes:
        """As `Connection.whole`."""
        data = self.head(status, fields, len(body)) + self.body(body)
        self.end()
        return data
