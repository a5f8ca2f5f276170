"""The half of a connection of HTTP/2 that ends: when what was said goes out, how long everything may take, and the end.

What is said within a turn of the loop goes out at once, at its end: one call of the transport for all answers.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from appd.http.h2.codes import Code
from appd.http.h2.connection import Connection
from appd.http.lane.client import DRAIN_LINGER
from appd.http.log.peer import peer_text
from appd.http.loop.parting import is_gone, part, reset
from appd.journal import DEBUG

if TYPE_CHECKING:
    from appd.http.loop.leaver import LoopLeaver
    from appd.http.loop.stream import Stream
    from appd.http.loop.tunnel import Tunnel

__all__ = ["HELD", "Http2Leaver"]

# nginx http2_max_concurrent_streams 128, Apache H2MaxSessionStreams 100, the least that RFC 9113, 6.5.2 recommends.
_STREAMS = 100
# How long a client has to end its side when we have ended ours, in seconds.
_LINGER = 1.0
HELD = 1 << 18
"""So much is kept for the end of a turn, in bytes."""


class Http2Leaver(asyncio.Protocol):
    """See `Http2`.

    Attributes:
        bodies: Streams whose body needs a deadline, if it is not complete when the turn ends.
        client: That: who it is.
        core: The protocol.
        counted: See `Server.lost`.
        is_full: Whether the client takes less than is sent.
        host: See `Server.lost`.
    """

    __slots__ = (
        "_asked",
        "_closing",
        "_draining",
        "_idle_until",
        "_in_turn",
        "_leaves",
        "_rest",
        "_rest_until",
        "_streams",
        "_stuck",
        "_unheard",
        "bodies",
        "client",
        "core",
        "counted",
        "deadline",
        "host",
        "is_full",
        "tick",
        "transport",
    )

    def __init__(self, client: LoopLeaver) -> None:
        self.client = client
        self.transport = client.transport
        self.host, self.counted = client.host, client.counted
        self.deadline, self.tick = 0.0, 0
        limits = client.server.limits
        self._streams: dict[int, Stream] = {}
        self.bodies: list[Stream] = []
        self._closing = self._draining = self._leaves = self.is_full = self._in_turn = False
        self._idle_until = self._rest_until = 0.0
        # Whether anything was asked since the connection was idle last.
        self._asked = True
        self._rest = self._stuck = self._unheard = 0
        self.core = Connection(_STREAMS, limits.header_size + limits.request_line, tunnels=client.server.tunnels)

    # Turns.

    def _begin_turn(self) -> None:
        """Keeps what is said until the turn ends, which is when the applications that were called have had theirs."""
        if not self._in_turn:
            self._in_turn = True
            self.client.loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._in_turn = False
        if self._closing:
            return
        core = self.core
        if core.out:
            self._give()
        if self.bodies:
            bodies, self.bodies = self.bodies, []
            for one in bodies:
                one.end_turn()
        if not self._streams:
            if self._leaves:
                self._close()
            else:
                self._wait_idle()

    def _write(self) -> None:
        """Has the transport given what there is, at the end of the turn; at once when that is too much to be kept."""
        if self._closing:
            # Our side has ended; what streams still say is for nobody.
            self.core.take_out()
        elif self.core.size >= HELD:
            self._give()
        elif not self._in_turn:
            self._begin_turn()

    def _give(self) -> None:
        """Gives the transport what there is."""
        client, data = self.client, self.core.take_out()
        if client.broken:
            return
        self._unheard += 1
        if is_gone(self.transport, secure=client.tls is not None, unheard=self._unheard):
            self._abandon()
            self._part()
        else:
            self.transport.write(data)

    def _abandon(self) -> None:
        """Nothing is sent any more, and nobody listens."""
        self._closing = True
        self.client.broken = True
        streams, self._streams = list(self._streams.values()), {}
        for one in streams:
            one.lost()

    # The end.

    def _tell(self, reason: str) -> None:
        peer = peer_text(self.client.host, self.client.port) or "a UNIX peer"
        log, name = self.client.server.log, self.client.server.name
        log.write(f"{peer} is refused: {reason}", DEBUG, LOGGER="appd.http", APPD_SERVER=name)

    def _fail(self, code: Code, reason: str) -> None:
        """Ends the connection for what the client does."""
        self._tell(f"{reason} ({code.name})")
        self.core.go_away(code, reason)
        self._close()

    def _is_over(self) -> bool:
        return self._closing

    def _close(self) -> None:
        if not self._closing:
            self._closing = True
            if self.core.out:
                self._give()
            if self.transport.can_write_eof():
                # What comes still is read: to close a socket with something unread would be a reset, which may destroy
                # what we have said.
                self.transport.write_eof()
                self._arm(time.monotonic() + _LINGER)
            else:
                self._part()

    def _part(self) -> None:
        part(self.client.driver.alarm, self.transport, self.client.server.limits.write_timeout)

    # Time.

    def _arm(self, deadline: float) -> None:
        self.client.driver.alarm.deadlines.put(self, deadline)

    def _wait_idle(self) -> None:
        if self._asked:
            # As gRPC's MAX_CONNECTION_IDLE: from the end of the last stream; what asks for nothing does not put it off.
            self._asked = False
            wait = DRAIN_LINGER if self._draining else self.client.server.limits.idle_timeout
            self._idle_until = time.monotonic() + wait
        if not self._rest_until and not self.is_full:
            self._arm(self._idle_until)

    def _watch_rest(self) -> None:
        """Sees to it that a frame, or a head of several, comes to its end in time, however busily it trickles."""
        partial = self.core.partial
        if not partial:
            self._rest_until = 0.0
        elif partial != self._rest or not self._rest_until:
            limits = self.client.server.limits
            # A part of a body may take as long as it may.
            wait = self.core.missing / limits.body_rate if limits.body_rate else 0.0
            self._rest, self._rest_until = partial, time.monotonic() + limits.header_timeout + wait
            if not self.is_full:
                # What a client begins to send does not put off the time for which it may take nothing.
                self._arm(self._rest_until)

    def expired(self) -> None:
        """The deadline has passed: one of those that there are."""
        now = time.monotonic()
        if self._closing:
            self._part()
        elif self.is_full:
            size = self.transport.get_write_buffer_size()
            if size >= self._stuck:
                reset(self.transport)
                return
            self._stuck = size
            self._arm(now + self.client.server.limits.write_timeout)
        elif self._rest_until and now >= self._rest_until:
            self._fail(Code.ENHANCE_YOUR_CALM, "a frame or a head that does not end within header-timeout")
        elif not self._streams and now >= self._idle_until:
            if not self._draining:
                self._say_goodbye()
            self._close()
        elif self._rest_until or not self._streams:
            self._arm(self._rest_until or self._idle_until)

    def _say_goodbye(self) -> None:
        self._draining = self._asked = True
        self.core.go_away()
        self._write()

    def drain(self, _ends: float) -> None:
        """A drain begins: no further stream is taken, those that are open are answered. Any thread may call."""
        self.client.driver.post(self._drain)

    def _drain(self) -> None:
        if not self._draining and not self._closing:
            self._say_goodbye()
            self._begin_turn()
            for one in self._tunnels():
                one.drain()

    def _tunnels(self) -> list[Tunnel]:
        """The streams that carry WebSockets."""
        return [one.tunnel for one in self._streams.values() if one.tunnel is not None]

    def abort(self) -> None:
        """Cuts the connection at once. Any thread may call."""
        self.client.driver.post(self._abort)

    def _abort(self) -> None:
        for one in self._tunnels():
            one.leave()
        if self._streams:
            self.transport.abort()
            return
        # All was answered, and may be on its way.
        if self.core.out:
            self._give()
        self._part()
