"""What comes in on a connection: bytes to events."""

from __future__ import annotations

from appd.http.core.date import Origin
from appd.http.core.errors import Refused
from appd.http.core.framing import Chunked
from appd.http.core.head import keep_head, read_head, scan, seen_head
from appd.http.core.limits import Limits
from appd.http.core.request import Request
from appd.http.core.states import CLOSED, END, NEED_DATA, PAUSED, READING, WRITING, Event

__all__ = ["Receiver"]

_RETURN = 13
# In place of what is known of a head: an empty line has come before it.
_SKIPPED = -1


class Receiver:
    """The half of a connection that takes requests.

    Args:
        limits: What a request may take; shared by all connections of a server.
        origin: What responses say of the server; shared too.

    Attributes:
        request: The request that was begun last, until its response has ended.
        requests: How many requests have come.
        closing: Whether the connection ends with the response that is being made, or has ended. Set it before `head` to
            have it so, as a drain does.
        overrun: Bytes that the response had beyond its Content-Length; they were not sent.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_checked",
        "_chunked",
        "_eof",
        "_left",
        "_limits",
        "_origin",
        "_reading",
        "_to_send",
        "_writing",
        "closing",
        "overrun",
        "request",
        "requests",
    )

    def __init__(self, limits: Limits, origin: Origin) -> None:
        self._limits = limits
        self._origin = origin
        self._buffer = b""
        self._at = 0  # where in the buffer the unread begins
        self._checked = 0  # how much of an incomplete head is known to be good; -1: an empty line came before it
        self._reading = "head"
        self._writing = "idle"
        self.closing = False
        self._eof = False
        self._left = 0  # of a body of known length
        self._chunked: Chunked | None = None
        self._to_send: int | None = 0  # as `response.frame` says
        self.request: Request | None = None
        self.requests = 0
        self.overrun = 0

    # What comes in.

    def receive(self, data: bytes) -> None:
        """Takes bytes from the socket.

        Ask for them when `next` says NEED_DATA: what is received while a response is made is kept, without a bound.

        Args:
            data: The bytes; none when the client has ended its side.
        """
        if not data:
            self._eof = True
        elif not self._buffer:
            self._buffer = data
        else:
            self._buffer = self._buffer[self._at :] + data
            self._at = 0

    def take(self, data: bytes) -> Request | None:
        """Takes bytes; if nothing waits to be read and they are one head that was seen before, that is all.

        Returns:
            What came, as `next` would say it. None when `next` has to be asked.
        """
        if not (self._buffer or self._checked) and self._reading == "head" and self._writing == "idle":
            # Nearly always.
            request = seen_head(data, self._limits)
            if request is not None:
                self.request = request
                self.requests += 1
                self._reading, self._writing = "ended", "due"
                return request
        self.receive(data)
        return None

    def next(self) -> Event:
        """Says what has come.

        Raises:
            Refused: The client has broken the rules. Nothing is read any more.
        """
        reading = self._reading
        if reading == "head":
            if self._at >= len(self._buffer):
                if not self._eof:
                    return NEED_DATA
                self._close()
                return CLOSED
            return self._next_head()
        if reading == "ended":
            return PAUSED
        if reading == "closed":
            return CLOSED if self._writing in ("closed", "idle") else PAUSED
        try:
            return self._next_chunks() if reading == "chunks" else self._next_part()
        except Refused:
            self._refuse()
            raise

    def _next_head(self) -> Event:
        buffer = self._buffer
        try:
            if not self._at and not self._checked and buffer.endswith(b"\r\n\r\n"):
                # Nearly always all that has come is one whole head.
                known = seen_head(buffer, self._limits)
                if known is not None:
                    self._buffer = b""
                    return self._begin(known)
                lines = str(buffer, "latin-1").split("\r\n")
                if lines.index("") == len(lines) - 2:
                    del lines[-2:]
                    request = read_head(lines, len(buffer) - 2, self._limits)
                    keep_head(buffer, self._limits, lines, request)
                    self._buffer = b""
                    return self._begin(request)
            return self._search_head()
        except Refused:
            self._refuse()
            raise

    def _search_head(self) -> Event:
        """Takes a head where there may be less than one, or more, or an empty line before it."""
        buffer, at = self._buffer, self._at
        if buffer[at] == _RETURN and self._checked != _SKIPPED:
            # RFC 9112, 2.2: one empty line before a request line is forgiven.
            line = buffer[at : at + 2]
            if line == b"\r" and not self._eof:
                return NEED_DATA
            if line == b"\r\n":
                self._at += 2
                self._checked = _SKIPPED
                return self.next()
        checked = max(self._checked, 0)
        end = buffer.find(b"\r\n\r\n", at + max(checked - 2, 0))
        if end < 0:
            checked = scan(buffer[at:], checked, self._limits)
            self._checked = checked or self._checked
            if self._eof:
                raise Refused(400, "the connection ended within a head")
            return NEED_DATA
        request = read_head(str(buffer[at:end], "latin-1").split("\r\n"), end + 2 - at, self._limits)
        self._checked = 0
        self._at = end + 4
        if self._at == len(buffer):
            self._buffer = b""
            self._at = 0
        return self._begin(request)

    def _begin(self, request: Request) -> Request:
        self.request = request
        self.requests += 1
        self._writing = WRITING[self._writing]["request"]
        length = request.length
        if length == 0:
            self._reading = READING["head"]["request"]
        elif length is None:
            self._chunked = Chunked(self._limits)
            self._reading = READING["head"]["chunks"]
        else:
            self._left = length
            self._reading = READING["head"]["length"]
        return request

    def _next_part(self) -> Event:
        left = self._left
        if not left:
            self._reading = READING["length"]["end"]
            return END
        at = self._at
        data = self._buffer[at : at + left]
        if not data:
            return self._starved()
        self._left -= len(data)
        self._took(at + len(data))
        return data

    def _next_chunks(self) -> Event:
        chunked = self._chunked
        assert chunked is not None and self.request is not None
        data, at = chunked.take(self._buffer, self._at)
        self._took(at)
        if data:
            return data
        if not chunked.ended:
            return self._starved()
        self.request.trailers = chunked.trailers
        self._chunked = None
        self._reading = READING["chunks"]["end"]
        return END

    def _took(self, at: int) -> None:
        """Notes that the buffer was read up to there, and that a client that says so does not wait for a 100."""
        if at == self._at:
            return
        if at >= len(self._buffer):
            self._buffer = b""
            at = 0
        self._at = at
        if self.request is not None:
            self.request.expects_continue = False

    def _starved(self) -> Event:
        if self._eof:
            raise Refused(400, "the connection ended within a body")
        return NEED_DATA

    def _refuse(self) -> None:
        """Reads nothing any more, and makes the response that is due, if one is, the last."""
        self._reading = READING[self._reading]["close"]
        self._buffer = b""
        self._at = 0
        self._chunked = None
        self.closing = True

    @property
    def buffered(self) -> int:
        """How many bytes were received and not read yet."""
        return len(self._buffer) - self._at

    def begins_with(self, text: bytes) -> bool:
        """Whether what was received and not read yet begins so."""
        return self._buffer.startswith(text, self._at)

    @property
    def idle(self) -> bool:
        """Whether no request has begun: not a byte of one has come, and none is being answered."""
        return self._writing == "idle" and self._reading == "head" and self._at >= len(self._buffer)

    @property
    def ended(self) -> bool:
        """Whether the client sends nothing more."""
        return self._eof

    def is_as_new(self) -> bool:
        """Whether nothing of it is needed for what comes next, but for the number of requests."""
        return not (self._buffer or self._checked or self._eof or self.closing) and (
            self._reading == "head" and self._writing == "idle"
        )

    @property
    def sending(self) -> bool:
        """Whether a response has begun: another one would be read as a part of it."""
        return self._writing == "sending"

    @property
    def continue_due(self) -> bool:
        """Whether the client waits for `go_on` before it sends a byte of the body."""
        request = self.request
        return (
            request is not None
            and request.expects_continue
            and self._writing == "due"
            and self._reading in ("length", "chunks")
            and self._at >= len(self._buffer)
        )

    def rest(self) -> bytes:
        """Takes the unread bytes away: the connection is handed to somebody else, between two requests."""
        rest = self._buffer[self._at :]
        self._close()
        return rest

    def _close(self) -> None:
        self._refuse()
        self._writing = WRITING[self._writing]["close"]
        self.request = None
