"""A connection of HTTP/1.1 on the loop: what comes in becomes exchanges, what goes out is given to the transport.

    bytes ─▶ preface? ─▶ core ─▶ Request ─▶ mount ─▶ exchange ─▶ core ─▶ bytes

Everything here runs in the thread of the loop, but `drain` and `abort`. The deadlines are those of the lane: an
absolute one for a head, a rate for a body, idleness, and a client that takes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from appd.http.core.connection import CLOSED, END, NEED_DATA, PAUSED
from appd.http.core.errors import Refused
from appd.http.core.proxyprotocol import read_proxy_header
from appd.http.core.request import Request
from appd.http.handover import Handed
from appd.http.lane.client import DRAIN_LINGER
from appd.http.lane.leaving import Phase
from appd.http.loop.leaver import LoopLeaver
from appd.http.loop.visit import Visit

if TYPE_CHECKING:
    from appd.http.core.limits import Limits
    from appd.http.lane.mounted import Mounted
    from appd.http.loop.arrival import Arrival
    from appd.http.loop.driver import Driver

__all__ = ["LoopClient"]

# Kestrel's MinRequestBodyDataRate comes with 5 seconds of grace.
_GRACE = 5.0
# So much is read ahead of the response that is being made.
_AHEAD = 65536


class LoopClient(LoopLeaver):
    """A connection; see `Caller`.

    Args:
        driver: What has it.
        door: Where it came in.
        host: The address of the peer, "" when it has none.
        port: Its port.
        before: What had it before: another driver, or its handshake of TLS; None for a new one.

    Attributes:
        alpn: What the handshake of TLS has agreed on; "" for nothing.
        preface: What has come of a PROXY header.
    """

    __slots__ = ("_advancing", "_before", "_began_body", "_took", "alpn", "preface")

    def __init__(self, driver: Driver, door: Any, host: str, port: int, before: Handed | Arrival | None = None) -> None:
        super().__init__(driver, door, host, port, getattr(before, "connection", None))
        self._before = before
        self.alpn = ""
        self.preface = b""
        self._began_body = 0.0
        self._took = 0
        self._advancing = False
        if before is not None:
            self.secure, self.is_beyond, self.counted = before.secure, before.is_beyond, before.counted
        elif self.server.proxy_protocol:
            self.phase = Phase.PREFACE

    # What the transport calls.

    def connection_made(self, transport: Any) -> None:
        """The transport is there."""
        super().connection_made(transport)
        before, self._before = self._before, None
        if before is None:
            self.server.welcome(self)
        elif isinstance(before, Handed):
            self._go_on(before)
        else:
            before.introduce(self)

    def _go_on(self, handed: Handed) -> None:
        """Goes on where another driver has stopped."""
        if handed.request is None:
            self._switch_to_http2()
            return
        self.begin_request(handed.request)
        self.advance()

    def _switch_to_http2(self) -> None:
        """The connection speaks HTTP/2 from now on, or has from its first byte on."""
        # Late: hpack is an extra.
        from appd.http.loop.http2 import Http2

        http2 = Http2(self)
        rest = self.hand_to(http2)
        if self.server.draining:
            http2.drain(0.0)
        if rest:
            http2.data_received(rest)

    @property
    def patience(self) -> float:
        """How long the first step may take, in seconds."""
        limits: Limits = self.server.limits
        return limits.header_timeout if self.phase == Phase.PREFACE else limits.idle_timeout

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._unheard = 0
        driver = self.driver
        if driver.sleeps:
            driver.wake()
        phase = self.phase
        if phase == Phase.LINGERING or phase == Phase.CLOSED:
            self.linger()
            return
        if phase == Phase.PREFACE:
            data = self._read_preface(data)
            if not data:
                return
        connection = self.connection
        connection.receive(data)
        if self.server.http2 and not connection.requests and self._is_http2():
            self._switch_to_http2()
            return
        if self.exchange is not None and not self._body_comes:
            # The next request waits for the end of this one.
            if connection.buffered > _AHEAD:
                self.pause()
            return
        self.advance()

    def _is_http2(self) -> bool:
        """Whether what has come is the beginning of the connection, and HTTP/2's; or TLS has agreed on that."""
        if self.phase not in (Phase.IDLE, Phase.HEAD):
            return False
        return self.alpn == "h2" or self.connection.begins_with(b"PRI * HTTP/2.0\r\n")

    def eof_received(self) -> bool:
        """The client has ended its side. What it has asked for it still gets, who listens for its end hears of it."""
        self.ended = True
        if self.phase == Phase.LINGERING or self.phase == Phase.CLOSED or self.phase == Phase.PREFACE:
            self.close()
            return False
        halves = self.transport.get_extra_info("ssl_object") is None
        if not halves:
            # There is no half of a connection in the TLS of loops: what is written from here on is dropped, and each
            # time a warning is logged.
            self.broken = True
        self.connection.receive(b"")
        exchange = self.exchange
        if exchange is not None and not self._body_comes:
            exchange.lost()
        else:
            self.advance()
        return halves

    def _read_preface(self, data: bytes) -> bytes:
        """Takes what the proxy in front says of the connection, before the client's first byte."""
        self.preface += data
        try:
            proxied = read_proxy_header(self.preface)
        except Refused:
            self.close()
            return b""
        if proxied is None:
            return b""
        rest, self.preface = self.preface[proxied.used :], b""
        self.phase = Phase.IDLE
        if not self.server.introduce(self, proxied):
            self.refuse(Refused(503, "too many connections"))
            return b""
        self._wait()
        return rest

    # What has come.

    def advance(self) -> None:
        """Goes on with what was received."""
        # A response that is there at once ends within this, and the connection goes on here.
        if not self._advancing:
            self._advancing = True
            try:
                self._advance()
            finally:
                self._advancing = False

    def _advance(self) -> None:
        connection = self.connection
        while True:
            try:
                event = connection.next()
            except Refused as refused:
                self._refused(refused)
                return
            if type(event) is Request:
                if self.blocked is not None:
                    # Nothing more is begun for a client that does not take what it has asked for.
                    self.postponed = event
                    return
                self.begin_request(event)
            elif event is NEED_DATA:
                self._wait()
                return
            elif event is END:
                self._body_comes = False
                if self.exchange is not None:
                    self.phase = Phase.ANSWERING
                    self.exchange.end_body()
                return
            elif event is PAUSED:
                return
            elif event is CLOSED:
                self.finish()
                return
            else:
                self._feed(event)  # type: ignore[arg-type]  # a part of the body

    def begin_request(self, request: Request) -> None:
        """Finds what answers a request and has it begin."""
        self.began = time.monotonic()
        self.phase = Phase.ANSWERING
        self.status = self.sent = 0
        server = self.server
        self.request = request
        if self.forbidden:
            self.refuse(Refused(403, "its certificate has none of the names (client-names)"))
            return
        try:
            found = server.find_for(self, request)
        except Refused as refused:
            self.refuse(refused)
            return
        if found is None:
            server.requests += 1
            self.mounted = None
            self._body_comes = False
            self.plain(200 if request.path == "*" else 404)
            return
        self.mounted = mounted = found.mounted
        if mounted.driver is None:
            self._visit(request, mounted)
            return
        server.requests += 1
        self._expect_body(request)
        limit = server.limits.request_timeout
        if limit:
            self.driver.alarm.deadlines.put(self, self.began + limit)
        mounted.begin(self, request)

    def _expect_body(self, request: Request) -> None:
        if request.length != 0:
            self.phase = Phase.BODY
            self._body_comes = True
            self._began_body, self._took = self.began, 0

    def _visit(self, request: Request, mounted: Mounted) -> None:
        """Has the lane answer."""
        self._expect_body(request)
        visit = self.exchange = Visit(self, request, mounted)
        visit.begin()

    def _feed(self, data: bytes) -> None:
        self._took += len(data)
        if self.exchange is not None and not self.exchange.feed(data):
            self.pause()

    def took(self, _size: int) -> None:
        """The application has taken what there was of a body."""
        if self.paused and self._body_comes:
            # From here on the client is measured anew: it was we who did not read.
            self._began_body, self._took = time.monotonic(), 0
            self.unpause()
            self._watch_body()

    def wants_body(self) -> None:
        """Somebody waits for the body."""
        if self.connection.continue_due:
            self.transport.write(self.connection.go_on())

    # How long it may take.

    def _wait(self) -> None:
        """Waits for what the client sends next, as long as that may take."""
        connection, limits = self.connection, self.server.limits
        if self.phase == Phase.BODY:
            if self.exchange is not None:
                self._watch_body()
        elif connection.idle:
            self.wait_idle()
        elif self.phase != Phase.HEAD:
            # Absolute: however busily a head trickles, it does not last longer.
            self.phase = Phase.HEAD
            self.driver.alarm.deadlines.put(self, time.monotonic() + limits.header_timeout)

    def _watch_body(self) -> None:
        limits = self.server.limits
        rate = limits.body_rate
        deadline = self._began_body + _GRACE + self._took / rate if rate else time.monotonic() + limits.idle_timeout
        limit = self.call_limit
        if limit:
            deadline = min(deadline, self.began + limit)
        self.driver.alarm.deadlines.put(self, deadline)

    def wait_idle(self) -> None:
        """Waits for the next request."""
        self.phase = Phase.IDLE
        if self.blocked is not None:
            # Not before the client has taken its response; that has a deadline of its own.
            return
        wait = DRAIN_LINGER if self.server.draining else self.server.limits.idle_timeout
        self.driver.alarm.deadlines.put(self, time.monotonic() + wait)

    def expired(self) -> None:
        """The deadline has passed."""
        now, phase, limit = time.monotonic(), self.phase, self.call_limit
        exchange = self.exchange
        if limit and exchange is not None and now >= self.began + limit:
            self.overdue(limit)
        elif self.blocked is not None and phase != Phase.CLOSED:
            if now < self._writes_by:
                self.driver.alarm.deadlines.put(self, self._writes_by)
            elif self.is_stuck(now):
                self.reset()
        elif phase == Phase.IDLE:
            if self.connection.idle:
                self.finish()
        elif phase in (Phase.LINGERING, Phase.PREFACE):
            self.close()
        elif phase == Phase.CLOSED:
            return
        elif phase == Phase.HEAD or (self._body_comes and not self.paused):
            self._refused(Refused(408, "too slow"))
        elif limit:
            self.driver.alarm.deadlines.put(self, self.began + limit)

    def _refused(self, refused: Refused) -> None:
        """The client has broken the rules, perhaps within a body."""
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            exchange.done = True
            exchange.lost()
            if not self.ended:
                # Who has only left in the middle is missed by the call itself.
                exchange.cancel()
        if self.connection.sending:
            self.cut()
        else:
            self.refuse(refused)

    def http_version(self, request: Request) -> str:
        """For the scope."""
        return "1.1" if request.minor else "1.0"

    def complete(self, exchange: Any) -> None:
        """A response has ended; the connection goes on, or ends."""
        if exchange is not None and exchange is not self.exchange:
            return
        self.exchange = None
        self._body_comes = False
        self.ended_response()
        if self.phase == Phase.CLOSED:
            return
        connection = self.connection
        if connection.closing:
            self.finish()
        elif connection.idle and not self.ended:
            self.wait_idle()
            self.unpause()
        else:
            self.phase = Phase.IDLE
            self.unpause()
            self.advance()

    def resume_writing(self) -> None:
        """The client has taken what waited."""
        super().resume_writing()
        postponed, self.postponed = self.postponed, None
        if postponed is not None:
            self.begin_request(postponed)
            self.advance()
        elif self.phase == Phase.IDLE:
            self.wait_idle()
