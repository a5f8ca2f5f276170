"""A connection on twisted.web: one response after the other, and an end that loses nothing.

What it adds to Twisted's channel:

* An end in two steps, as RFC 9112, 9.6 advises: first our side is closed, then, when the client has closed its own or a
  moment has passed, the whole. Closing a socket that has unread bytes sends a reset, which can destroy the response on
  its way. While it ends, what comes in is read and dropped.
* A client that closes its side after its requests is still answered.
* A drain: a response that says so ends the connection; an idle one stays for a moment, as a request may be on its way.
* Twisted 22.4 mixes up the responses of pipelined requests unless the distribution has mended it (CVE-2023-46137).
"""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import implementer

from appd.listening.ports import has_unread
from appd.servers.http.web.request import Request

__all__ = ["Channel"]

# How long an idle connection stays open when the drain begins, in seconds: longer than a request is on its way from
# most clients, and short enough that nobody notices when a service stops.
LINGER = 0.2
# How long the client may take to close its side, in seconds. Apache waits 2, nginx 5 between two reads; most clients
# close at once.
LAST_READ = 1.0

_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nServer: appd\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\n\r\n400 Bad Request\n"
)


@implementer(IHalfCloseableProtocol)
class Channel(http.HTTPChannel):
    """A connection."""

    requestFactory = Request
    factory: Any
    transport: Any
    persistent: Any
    _networkProducer: Any

    def __init__(self) -> None:
        super().__init__()
        self._closing = False
        self._peer_done = False
        self._later: Any = None

    def connectionMade(self) -> None:
        """Begins. A connection that was accepted while the drain began is drained too."""
        super().connectionMade()
        # As later versions of Twisted do.
        if isinstance(self.transport, tcp.Connection) and not isinstance(self.transport, unix.Server):
            self.transport.setTcpNoDelay(True)
        self.factory.channels.add(self)
        if self.factory.draining:
            self.drain()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Ends."""
        self._closing = True
        self.factory.channels.discard(self)
        self._call_later(None)
        super().connectionLost(reason)

    # What comes in.

    def dataReceived(self, data: bytes) -> None:
        """Takes bytes; those that come after the last request are dropped."""
        if not self._closing:
            super().dataReceived(data)

    def rawDataReceived(self, data: bytes) -> None:
        """Takes the body of a request, or keeps what comes after it."""
        if self._closing:
            return
        if self._handlingRequest:
            self._dataBuffer.append(data)
            if sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize and not self._waitingForTransport:
                self._networkProducer.pauseProducing()
            return
        super().rawDataReceived(data)

    def _finishRequestBody(self, data: bytes) -> None:
        self._dataBuffer.append(data)
        self.allContentReceived()

    def allContentReceived(self) -> None:
        """A request is complete. The next one waits until it is answered."""
        self._handlingRequest = True
        self.setRawMode()
        super().allContentReceived()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Whether the client lets the connection stay: RFC 9112, 9.3, without the extension for HTTP/1.0."""
        fields = b",".join(request.requestHeaders.getRawHeaders(b"connection", []))
        options = [one.strip().lower() for one in fields.split(b",")]
        return version == b"HTTP/1.1" and b"close" not in options

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line of the head is too long."""
        self._respondToBadRequestAndDisconnect()

    def _respondToBadRequestAndDisconnect(self) -> None:
        if not self._closing:
            self.transport.write(_BAD_REQUEST)
            self.loseConnection()

    def readConnectionLost(self) -> None:
        """The client has sent all it wants to. What it has asked for it still gets."""
        self._peer_done = True
        if self._closing:
            self.transport.loseConnection()
        elif not self._handlingRequest:
            self.loseConnection()

    # The end.

    @property
    def _waiting_bytes(self) -> bool:
        """Whether the next request has begun to arrive, behind the one that is being answered."""
        return bool(self._buffer) or any(self._dataBuffer)

    def is_last(self) -> bool:
        """Whether the connection ends with the response that is being made; asked when its head goes out."""
        if (self.factory.draining or self._peer_done) and not self._waiting_bytes:
            self.persistent = False
        return not self.persistent

    def requestDone(self, request: Any) -> None:
        """A response is complete. One that has not said that it is the last is not: the client may have asked again."""
        super().requestDone(request)
        if self._closing or self.requests or self._handlingRequest:
            return
        if self._peer_done:
            self.loseConnection()
        elif self.factory.draining:
            self.drain()

    def drain(self) -> None:
        """Ends the connection when it is idle, after a moment; one that is busy ends with its response."""
        if not self.requests and not self._closing:
            self._call_later(LINGER, self._drain_idle)

    def _drain_idle(self) -> None:
        # A request that has begun to arrive is waited for, in the kernel's queue too; its response is the last.
        if self.requests or self._waiting_bytes:
            return
        if has_unread(self.transport):
            self._call_later(LINGER, self._drain_idle)
        else:
            self.loseConnection()

    def loseConnection(self) -> None:
        """Ends the connection when all is sent."""
        if self._closing:
            return
        self._closing = True
        self._call_later(None)
        self._dataBuffer = []
        self.setRawMode()
        self._networkProducer.unregisterProducer()
        # A client that does not take the rest is cut off after a time.
        self.setTimeout(self.timeOut)
        if self._peer_done or not isinstance(self.transport, tcp.Connection):
            self.transport.loseConnection()
        else:
            self.transport.resumeProducing()
            self.transport.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        """All is sent, and our side is closed."""
        self._call_later(LAST_READ, self.transport.loseConnection)

    def timeoutConnection(self) -> None:
        """Nothing came for a time. Not worth a line in the log: it is how connections end that nobody uses."""
        if self._closing:
            self.transport.abortConnection()
        else:
            self.loseConnection()

    def _call_later(self, delay: float | None, call: Any = None) -> None:
        """Puts off a call, in place of the one that was put off before."""
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None if delay is None else self.factory.reactor.callLater(delay, call)
