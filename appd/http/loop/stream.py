"""One stream of HTTP/2: a request and its response. To an exchange it is a line, as a connection of HTTP/1.1 is.

A stream sends as its window and the transport allow; what does not go out yet is kept, and beyond a size the
application waits. What comes in is acknowledged when the application has taken it, so that a slow one holds up its own
stream only.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from appd.http.core.errors import Refused
from appd.http.core.response import Fields, Prepared, prepare, status_line
from appd.http.h2.codes import Code
from appd.http.h2.encoding import encode_fields
from appd.http.log.peer import answer_of, peer_text
from appd.http.loop.streamsender import StreamSender
from appd.http.loop.tunnel import Tunnel
from appd.journal import DEBUG, ERROR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appd.http.core.request import Request

__all__ = ["Stream"]

_GRACE = 5.0
_CONTINUE = encode_fields([(":status", "100")])
_PLAIN = (("Content-Type", "text/plain; charset=utf-8"),)


class Stream(StreamSender):
    """See above.

    Args:
        connection: What it is a stream of.
        number: Its identifier.
        request: The request.
        protocol: See `Caller`.

    Attributes:
        tunnel: What the stream has become, where it is none of a request and its response.
    """

    __slots__ = ()

    # What comes in.

    def begin_request(self) -> None:
        """Finds what answers and has it begin."""
        request, server = self.request, self.server
        self.body_comes = request.length != 0
        self.continue_due = request.expects_continue
        try:
            found = server.find_for(self, request)
        except Refused as refused:
            self.refuse(refused)
            return
        limits = server.limits
        if found is None:
            server.requests += 1
            self.plain(200 if request.path == "*" else 404)
            return
        self.mounted = mounted = found.mounted
        if self.protocol:
            if self.protocol != "websocket" or not getattr(getattr(mounted, "serves", None), "websocket", False):
                self.refuse(Refused(501, f"a tunnel for {self.protocol!r}"))
                return
            self.tunnel = Tunnel(self)
        elif self.body_comes:
            self._connection.bodies.append(self)
        if mounted.driver is None:
            self._connection.visit(self, request, mounted)
            return
        server.requests += 1
        mounted.begin(self, request)
        if limits.request_timeout and not self.broken:
            self.watch()

    def feed(self, data: bytes, flow: int) -> None:
        """Takes a part of the body.

        Args:
            data: The part.
            flow: What it counts for in the window.
        """
        self._received += len(data)
        self.continue_due = False
        most = self.server.limits.body_size if not self.protocol else 0
        if most and self._received > most:
            self._refuse_body(Refused(413, f"a body of more than {most} bytes"))
            return
        self._unacknowledged += flow
        if self.tunnel is not None:
            if self.tunnel.feed(data):
                self.acknowledge()
            return
        if self.exchange is None or self.exchange.done or self.exchange.feed(data):
            self.acknowledge()
        if self._body_is_due and not self.broken:
            if self.tick:
                self._watch_body()
            else:
                self._connection.bodies.append(self)

    def end_body(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """The body is complete.

        Args:
            trailers: The fields that follow it.
        """
        if self.tunnel is not None:
            self.body_comes = False
            self.tunnel.end()
            if self.exchange is not None:
                self.exchange.lost()
            return
        self.body_comes = self.continue_due = False
        # One with a body is no other's: see `read_request`.
        self.request.trailers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in trailers]
        if self.exchange is not None:
            self.exchange.end_body()

    def took(self, _size: int) -> None:
        """The application has taken what there was of a body."""
        if self._unacknowledged:
            # From here on the client is measured anew: it was we who did not read.
            self._began_body = time.monotonic()
            self.acknowledge()
            if self.body_comes:
                self._watch_body()

    def acknowledge(self) -> None:
        """Opens the window for what was taken."""
        size, self._unacknowledged = self._unacknowledged, 0
        if size and not self.broken and self.body_comes:
            self._connection.open_window(self._number, size)

    def wants_body(self) -> None:
        """Somebody waits for the body; most clients send it by themselves."""
        if self.continue_due:
            self.continue_due = False
            self._connection.say_head(self._number, _CONTINUE)

    @property
    def sock(self) -> Any:
        """The socket, for questions."""
        return self._connection.client.sock

    def http_version(self, _request: Request) -> str:
        """For the scope."""
        return "2"

    def accept(self, _key: str, fields: Fields) -> Tunnel:
        """Takes up the handshake of a WebSocket: from now on what is in DATA is its frames."""
        tunnel = self.tunnel
        assert tunnel is not None
        self.begin(200, prepare(fields), None)
        self.exchange = None
        self.driver.alarm.deadlines.drop(self)
        return tunnel

    # The end.

    def _over(self) -> None:
        """All is sent: the rest of the request, if there is one, is not waited for."""
        if self.exchange is None:
            self._leave()

    def complete(self, exchange: Any) -> None:
        """A response has ended."""
        self.exchange = None
        self._log(self.status)
        if self._ended or self.broken:
            self._leave()

    def _leave(self) -> None:
        self.driver.alarm.deadlines.drop(self)
        if not self.broken:
            self.broken = True
            self._connection.done_with(self._number, complete=not self.body_comes)
        self._free()
        self._end_tunnel()

    def lost(self) -> None:
        """The client has reset the stream, or has left."""
        if self.broken:
            return
        self.broken = True
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.lost()
            self._log(self.status or 499)
        self.driver.alarm.deadlines.drop(self)
        self._free()
        self._end_tunnel()

    def _end_tunnel(self) -> None:
        tunnel, self.tunnel = self.tunnel, None
        if tunnel is not None:
            tunnel.lost()

    def abandon(self, code: Code) -> None:
        """Resets the stream, and is over."""
        if not self.broken:
            self._connection.reset(self._number, code)
            self.lost()

    def _log(self, status: int) -> None:
        kind = (self.mounted or self.server).access_log
        if kind != "off":
            answer = answer_of(self.request, status, self.sent, time.monotonic() - self.began, *self.far)
            self.server.access.write(answer._replace(version=b"HTTP/2"), kind, time.time())

    def plain(self, status: int, *fields: tuple[str, str]) -> None:
        """Answers with a small page that names the status."""
        text = status_line(status)[1].removeprefix("HTTP/1.1 ").replace("\r", "") if status != 200 else ""
        shown = (*(_PLAIN if text else ()), *fields)
        self.whole(status, self._prepared(shown), text.encode())
        self.complete(None)

    def _prepared(self, fields: Any) -> Prepared:
        return prepare(self.mounted.with_headers(list(fields)) if self.mounted is not None else fields)

    def fail(self) -> None:
        """Tells the client that the application has failed, and nothing else."""
        self.whole(500, self._prepared(_PLAIN), b"500 Internal Server Error\n")

    def refuse(self, refused: Refused) -> None:
        """Answers what the client must not do."""
        peer = peer_text(*self.far) or "a UNIX peer"
        self.server.log.write(f"{peer} is refused: {refused}", DEBUG, LOGGER="appd.http", APPD_SERVER=self.server.name)
        self.plain(refused.status)

    def _end_call(self) -> None:
        """Whatever the call says from now on, nobody hears."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.done = True
            exchange.lost()
            exchange.cancel()

    def _refuse_body(self, refused: Refused) -> None:
        self._end_call()
        if self.status:
            self.cut()
        else:
            self.refuse(refused)

    def too_late(self) -> None:
        """Tells the client that a call takes too long."""
        self.whole(504, prepare(_PLAIN), b"504 Gateway Timeout\n")
        self.complete(None)

    def cut(self) -> None:
        """Ends a response where it is, so that the client sees that something is missing."""
        if self.broken:
            return
        self.exchange = None
        self.broken = True
        self._log(self.status)
        self.driver.alarm.deadlines.drop(self)
        self._connection.reset(self._number, Code.INTERNAL_ERROR)
        self._free()
        self._end_tunnel()

    # Time.

    def end_turn(self) -> None:
        """A turn has ended in which the body has begun, or went on: mostly it is complete by now."""
        if self.body_comes and not self.broken and not self._unacknowledged:
            self._watch_body()

    def _watch_body(self) -> None:
        limits = self.server.limits
        self._body_by = self._body_until() if limits.body_rate else time.monotonic() + limits.idle_timeout
        self.watch()

    def _body_until(self) -> float:
        """When more of the body has to be here, at the least rate that is allowed."""
        received = self._received + self._connection.core.arrived(self._number)
        rate: int = self.server.limits.body_rate
        return self._began_body + _GRACE + received / rate

    def _is_slow(self) -> bool:
        """Whether the deadline of the body has passed: a part of a frame may have come since it was set."""
        return not self.server.limits.body_rate or time.monotonic() >= self._body_until()

    @property
    def _body_is_due(self) -> bool:
        """Whether the body is waited for: not while it is we who do not take it."""
        return self.body_comes and not self._unacknowledged

    @property
    def _call_by(self) -> float:
        """When the call has to be over; infinite for no limit."""
        limit, exchange = self.call_limit, self.exchange
        return self.began + limit if limit and exchange is not None else math.inf

    def watch(self) -> None:
        """Sets the deadline: the earliest of those that there are."""
        first = self._call_by
        if self._writes_by:
            first = min(first, self._writes_by)
        if self._body_is_due and self._body_by:
            first = min(first, self._body_by)
        if first != math.inf:
            self.driver.alarm.deadlines.put(self, first)

    def expired(self) -> None:
        """The deadline has passed: one of those that there are."""
        now = time.monotonic()
        if self.broken:
            return
        if now >= self._call_by:
            self._overdue()
        elif self._writes_by and now >= self._writes_by:
            if self._connection.is_full:
                # All streams wait, and the connection looks after that.
                self._watch_writing()
                return
            # The client opens no window, or a byte at a time for ever.
            self._stuck()
        elif self._body_is_due and self._body_by and now >= self._body_by:
            if self._is_slow():
                self._refuse_body(Refused(408, "too slow"))
            else:
                self._watch_body()
        else:
            self.watch()

    def _overdue(self) -> None:
        """The call has taken longer than it may: it is cancelled, and the client told, if nothing has begun."""
        fields = self.log_fields(self.request)
        what = f"{fields['HTTP_METHOD']!s} {fields['HTTP_PATH']!s} has taken longer than request-timeout"
        what += f" ({self.call_limit:g} s) and is cancelled"
        self.server.log.write(what, ERROR, LOGGER="appd.http", **fields)
        self._end_call()
        if self.status:
            self.cut()
        else:
            self.too_late()

    def _stuck(self) -> None:
        """The client takes nothing."""
        exchange = self.exchange
        self._connection.reset(self._number, Code.CANCEL)
        self.lost()
        if exchange is not None:
            exchange.lost()
