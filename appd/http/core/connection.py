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

from appd.http.core.errors import Incomplete, Misuse, Refused, WrongState
from appd.http.core.receiving import Receiver
from appd.http.core.request import Request
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
from appd.http.core.states import CLOSED, END, NEED_DATA, PAUSED, READING, WRITING, Event

__all__ = ["CLOSED", "END", "NEED_DATA", "PAUSED", "Connection", "Event"]


# Statuses whose responses never have a body.
_BODILESS = frozenset({*BARE, 304})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(Receiver):
    """One connection. One thread at a time.

    Args:
        limits: What a request may take; shared by all connections of a server.
        origin: What responses say of the server; shared too.

    Attributes:
        request: The request that was begun last, until its response has ended.
        requests: How many requests have come.
        closing: Whether the connection ends with the response that is being made, or has ended. Set it before `head` to
            have it so, as a drain does.
        overrun: Bytes that the last response had beyond its Content-Length; they were not sent.
    """

    __slots__ = ()

    # What goes out.

    def go_on(self) -> bytes:
        """The bytes of 100 Continue."""
        if "interim" not in WRITING[self._writing]:
            raise WrongState(f"an interim response while {self._writing}")
        assert self.request is not None
        self.request.expects_continue = False
        return _CONTINUE

    def early(self, fields: Fields) -> bytes:
        """Fields before the response: 103 Early Hints (RFC 8297).

        Args:
            fields: The fields; HTTP/1.0 knows no interim responses, and gets nothing.

        Raises:
            Misuse: They cannot be sent.
        """
        if "interim" not in WRITING[self._writing]:
            raise WrongState(f"an interim response while {self._writing}")
        text = prepare(fields).text
        if self.request is None or not self.request.minor:
            return b""
        return f"HTTP/1.1 103 Early Hints\r\n{text}\r\n".encode("latin-1")

    def head(self, status: int | str, fields: Fields | Prepared = (), length: int | None = None) -> bytes:
        """Begins a response. With a connection on which no request has come it is the last.

        Args:
            status: A number, or number and reason as WSGI has it.
            fields: What the application says, Content-Length included if it likes; or what `prepare` made of it.
            length: Of the body, if that is known; a Content-Length among the fields goes before. Where neither is
                there the body is sent in chunks, to HTTP/1.0 up to the end of the connection.

        Returns:
            The head.

        Raises:
            Misuse: The application's status or fields cannot be sent. Nothing has begun.
        """
        number, line = status_line(status)
        prepared = fields if isinstance(fields, Prepared) else prepare(fields)
        if number in BARE:
            prepared = without_length(prepared)
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
        if prepared.date or prepared.server:
            about = self._origin.fields(server=not prepared.server, date=not prepared.date)
        else:
            about = self._origin.fields()
        if self.closing:
            framing += "Connection: close\r\n"
        elif not minor:
            framing += "Connection: keep-alive\r\n"
        self._writing = WRITING[self._writing]["head"]
        self.overrun = 0
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

    def pass_by(self, count: int) -> int:
        """Bytes of the body that go out past `body`, by sendfile(2): how many of them to send.

        Args:
            count: How many there are; not for a response in chunks.
        """
        left = self._to_send
        if self._writing != "sending" or left is None:
            raise WrongState(f"a file while {self._writing}, or in chunks")
        if left == TO_THE_END:
            return count
        sent = min(count, max(left, 0))
        if left != NOTHING:
            self._to_send = left - sent
            self.overrun += count - sent
        return sent

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
            data = f"0\r\n{_trailers(trailers)}\r\n".encode("latin-1") if trailers else b"0\r\n\r\n"
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

    def whole(self, status: int | str, fields: Fields | Prepared, body: bytes) -> bytes:
        """A response in one go: `head`, `body` and `end`.

        Raises:
            Misuse: As `head`.
            Incomplete: As `end`.
        """
        request = self.request
        if (
            request is not None
            and type(fields) is Prepared
            and fields.length == len(body)
            and (request.is_plain or self._is_plain(request))
            and not (self.closing or self._eof or fields.date or fields.server)
            and self._reading == "ended"
            and self._writing == "due"
        ):
            about = self._origin.fields()
            known, when, head = fields.kept
            if known is not status or when is not about:
                head = self._usual_head(status, about, fields)
            if head:
                # Nearly always: what `head`, `body` and `end` do together, by the tables of `states` too.
                self._writing, self._reading, self.request, self.overrun = "idle", "head", None, 0
                return head + body
        # The length would be that of a body which is not there: RFC 9110, 8.6.
        bare = not body and request is not None and (request.method == "HEAD" or status_line(status)[0] == 304)
        head = self.head(status, fields, None if bare else len(body))
        sent = self.body(body)
        self.end()
        return head + sent

    def _is_plain(self, request: Request) -> bool:
        """Whether the response needs nothing but its own fields, ours, and the body as it is."""
        return request.minor == 1 and request.method != "HEAD" and not self._is_last(request)

    def _usual_head(self, status: int | str, about: str, fields: Prepared) -> bytes:
        """The head of a response that is as most are, kept for its second; nothing for one without a body."""
        number, line = status_line(status)
        if number in _BODILESS:
            return b""
        head = f"{line}{about}{fields.text}\r\n".encode("latin-1")
        fields.kept = (status, about, head)
        return head

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


def _trailers(fields: Fields) -> str:
    prepared = prepare(fields)
    if prepared.length is not None:
        raise Misuse("Content-Length is no trailer")  # RFC 9110, 6.5.1
    return prepared.text
