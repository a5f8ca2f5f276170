"""One connection, without the socket: bytes in, events out; responses in, bytes out.

What comes in goes through `receive` and comes out of `next`:

    Request     a head is complete. If its length is not 0, parts of the body and END follow.
    bytes       a part of the body.
    END         the body is complete; `request.trailers` are there.
    NEED_DATA   nothing more can be said: call `receive` with what the socket has, b"" for its end.
    PAUSED      the request has ended; the next one, which may be here already, waits for the end of the response.
    CLOSED      nothing will come: close the socket, or what is left of it.

`Refused` means that the client has broken the rules: answer with `refusal` if no response has begun, then close.

A response is `head`, any number of `body`, and `end`; or `whole` for all of it. Each gives bytes to send. Afterwards
`closing` says whether the connection ends; if it does not, call `next` again: a request may be waiting.

The states are the two tables in `states`.
"""

from __future__ import annotations

from appd.http.date import Origin
from appd.http.errors import Incomplete, Refused, WrongState
from appd.http.framing import Chunked
from appd.http.head import Request, read_head, scan
from appd.http.limits import Limits
from appd.http.response import BARE, NOTHING, TO_THE_END, Fields, frame, prepare, status_line
from appd.http.states import CLOSED, END, NEED_DATA, PAUSED, READING, WRITING, Event

__all__ = ["CLOSED", "END", "NEED_DATA", "PAUSED", "Connection", "Event"]


_RETURN = 13
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection:
    """One connection. One thread at a time.

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
        buffer, at = self._buffer, self._at
        if buffer[at] == _RETURN and self._checked != -1:
            # RFC 9112, 2.2: one empty line before a request line is forgiven.
            line = buffer[at : at + 2]
            if line == b"\r" and not self._eof:
                return NEED_DATA
            if line == b"\r\n":
                self._at += 2
                self._checked = -1
                return self.next()
        checked = max(self._checked, 0)
        end = buffer.find(b"\r\n\r\n", at + max(checked - 2, 0))
        try:
            if end < 0:
                checked = scan(buffer[at:] if at else buffer, checked, self._limits)
                self._checked = checked or self._checked
                if self._eof:
                    raise Refused(400, "the connection ended within a head")
                return NEED_DATA
            request = read_head(buffer[at:end].decode("latin-1"), self._limits)
        except Refused:
            self._refuse()
            raise
        end += 4
        if end == len(buffer):
            self._buffer = b""
            end = 0
        self._at = end
        self._checked = 0
        self.request = request
        self.requests += 1
        self._writing = WRITING[self._writing]["request"]
        if request.length is None:
            self._chunked = Chunked(self._limits)
            self._reading = READING["head"]["chunks"]
        else:
            self._left = request.length
            self._reading = READING["head"]["length" if request.length else "request"]
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

    @property
    def idle(self) -> bool:
        """Whether no request has begun: not a byte of one has come, and none is being answered."""
        return self._writing == "idle" and self._reading == "head" and self._at >= len(self._buffer)

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

    # What goes out.

    def go_on(self) -> bytes:
        """The bytes of 100 Continue."""
        if "interim" not in WRITING[self._writing]:
            raise WrongState(f"an interim response while {self._writing}")
        assert self.request is not None
        self.request.expects_continue = False
        return _CONTINUE

    def head(self, status: int | str, fields: Fields = (), length: int | None = None) -> bytes:
        """Begins a response. With a connection on which no request has come it is the last.

        Args:
            status: A number, or number and reason as WSGI has it.
            fields: What the application says, Content-Length included if it likes.
            length: Of the body, if that is known; a Content-Length among the fields goes before. Where neither is
                there the body is sent in chunks, to HTTP/1.0 up to the end of the connection.

        Returns:
            The head.

        Raises:
            Misuse: The application's status or fields cannot be sent. Nothing has begun.
        """
        number, line = status_line(status)
        if number in BARE:
            fields = [one for one in fields if one[0].lower() != "content-length"]
        prepared = prepare(fields)
        if "head" not in WRITING[self._writing]:
            raise WrongState(f"a head while {self._writing}")
        request = self.request
        if request is None:
            method, minor = "", 0
            self.closing = True
        else:
            method, minor = request.method, request.minor
        framing, self._to_send = frame(number, prepared.length, length, head_only=method == "HEAD", chunks=minor == 1)
        if self._to_send == TO_THE_END or (request is not None and self._is_last(request)):
            self.closing = True
        about = self._origin.fields(server=not prepared.server, date=not prepared.date)
        if self.closing:
            framing += "Connection: close\r\n"
        elif not minor:
            framing += "Connection: keep-alive\r\n"
        self._writing = WRITING[self._writing]["head"]
        return f"{line}{about}{prepared.text}{framing}\r\n".encode("latin-1")

    def _is_last(self, request: Request) -> bool:
        """Whether the connection cannot stay after this one. A body that was not asked for is not waited for."""
        if not request.keep_alive or request.expects_continue:
            return True
        most = self._limits.requests_per_connection
        return bool(most and self.requests >= most) or (self._eof and self._at >= len(self._buffer))

    def body(self, data: bytes) -> bytes:
        """A part of the body.

        Args:
            data: The part; nothing is sent for an empty one.

        Returns:
            What to send for it: nothing where the response has no body. What is beyond Content-Length is not sent
            but counted in `overrun`.
        """
        if self._writing != "sending":
            raise WrongState(f"a body while {self._writing}")
        left = self._to_send
        if left is None:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if left == TO_THE_END:
            return data
        if left == NOTHING:
            return b""
        size = len(data)
        if size > left:
            self.overrun += size - left
            data = data[:left]
            size = left
        self._to_send = left - size
        return data

    def end(self, trailers: Fields = ()) -> bytes:
        """Ends a response, and the connection if it is to end.

        Args:
            trailers: Fields after the body; they are sent where it goes out in chunks, else nobody could tell them.

        Returns:
            What to send.

        Raises:
            Incomplete: The body is shorter than Content-Length: cut the connection, so that the client sees it.
            Misuse: A trailer cannot be sent; the response has not ended.
        """
        if self._writing != "sending":
            raise WrongState(f"an end while {self._writing}")
        left = self._to_send
        data = b""
        if left is None:
            data = f"0\r\n{prepare(trailers).text}\r\n".encode("latin-1") if trailers else b"0\r\n\r\n"
        elif left > 0:
            self._close()
            raise Incomplete(f"the body is {left} bytes shorter than its Content-Length")
        self._writing = WRITING["sending"]["end"]
        if self.closing or self._reading != "ended":
            # What is left of the body is not waited for: it may be long, or never come.
            self._close()
        else:
            self._reading = READING["ended"]["again"]
            self._writing = WRITING["ended"]["again"]
            self.request = None
            self._to_send = 0
        return data

    def whole(self, status: int | str, fields: Fields, body: bytes) -> bytes:
        """A response in one go: `head`, `body` and `end`.

        Raises:
            Misuse: As `head`.
            Incomplete: As `end`.
        """
        request = self.request
        bare = not body and request is not None and request.method == "HEAD"
        head = self.head(status, fields, None if bare else len(body))
        sent = self.body(body)
        self.end()
        return head + sent

    def refusal(self, refused: Refused) -> bytes:
        """The answer to what was refused, and the end; nothing when a response is being sent already."""
        if self._writing not in ("idle", "due"):
            self._close()
            return b""
        self.closing = True
        text = status_line(refused.status)[1].removeprefix("HTTP/1.1 ").replace("\r", "")
        return self.whole(refused.status, (("Content-Type", "text/plain; charset=utf-8"),), text.encode())

    def cut(self) -> None:
        """Ends everything: the response cannot be completed, or the client has gone. The driver closes the socket."""
        self._close()

    def _close(self) -> None:
        self._refuse()
        self._writing = WRITING[self._writing]["close"]
        self.request = None
