"""What a resource of twisted.web answers through, and what the loop has for its request: channel and exchange in one.

    line: feed, end_body, lost ─▶ Channel ─▶ twisted.web's Request ─▶ resource
          begin, data, end     ◀─ Channel ◀────────────┘

twisted.web's Request wants a channel: here it is one that has no transport but a line, HTTP/1.1's connection or a
stream of HTTP/2; twisted.web's own HTTP/2 has such channels too. All of it runs in the one thread of the loop and the
reactor, see `appd.listening.ride`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IConsumer
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from appd.http.core.errors import Incomplete, Misuse, Refused
from appd.http.loop.heads import make_head
from appd.http.loop.scope import raw_of
from appd.listening.ride import outside

__all__ = ["Channel"]

# Who ends its side behind its request has mostly left; but it may have said all that it has to say, and waits. So it is
# answered when that takes no longer than so many seconds.
_LATE = 0.05
# As the loop has it: nginx's status for a client that left before the head of its response was out; only ever logged.
_CLIENT_GONE = 499
_NOT_MODIFIED = 304


@implementer(IConsumer)
class Channel:
    """One request of a resource, and its response.

    Args:
        site: What twisted.web knows of the mount.
        line: What the request came on.
        request: The request.
        mounted: The mount.

    Attributes:
        request: The request.
        done: Whether the line waits for nothing more; for others to set, too.
        task: No task of asyncio runs it.
    """

    # What twisted.web looks for in a channel.
    factory = None
    # What the loop looks for in an exchange.
    task = None

    def __init__(self, site: Any, line: Any, request: Any, mounted: Any) -> None:
        self.site = site
        self.request = request
        self.done = False
        self._line = line
        self._mounted = mounted
        self._asked: Any = None
        self._ended = False
        # The head, and what follows it while the resource is still asked: mostly that is all.
        self._head: Any = None
        self._body: list[bytes] = []
        self._holds = self._begun = False
        self._producer: Any = None
        self._streaming = self._waits = False

    @property
    def transport(self) -> Channel:
        """What twisted.web asks who is there: this. Nothing here refers to itself, so that nothing becomes garbage."""
        return self

    # The request; called by the line.

    def begin(self, *, without: bytes = b"") -> None:
        """Begins, in the thread of the loop.

        Args:
            without: The name of a field that the resource is not told.
        """
        line, request = self._line, self.request
        host, port, scheme, authority = line.seen()
        self._peer, self._secure = (host, port), scheme == "https"
        asked = self._asked = self.site.requestFactory(self, queued=False)
        add = asked.requestHeaders.addRawHeader
        for name, value in raw_of(request).fields:
            if name == b"host" and authority is not None:
                value = authority.encode("latin-1")
            if name != without:
                add(name, value)
        asked.gotLength(request.length)
        if request.length == 0:
            self.end_body()
        else:
            line.wants_body()

    def feed(self, data: bytes) -> bool:
        """Takes a part of the body.

        Returns:
            Whether there is room for more: there always is.
        """
        if not self._ended:
            try:
                self._asked.handleContentChunk(data)
            except OSError as failed:
                self._line.tell(self.request, "cannot keep the body of a request", failed)
                self._refuse(Refused(503, "no room for the body"))
        return True

    def end_body(self) -> None:
        """The body is complete: the resource is asked."""
        if self._ended:
            return
        request, asked, raw = self.request, self._asked, raw_of(self.request)
        target = raw.raw_path + b"?" + raw.query if raw.query else raw.raw_path
        version = b"HTTP/1.0" if self._line.http_version(request) == "1.0" else b"HTTP/1.1"
        asked.parseCookies()
        self._holds = True
        self._call(asked.requestReceived, request.method.encode("latin-1"), target, version)
        self._holds = False
        if self._head is not None:
            self._release()

    def lost(self) -> None:
        """The client has left, or sends nothing more."""
        if self._line.broken or self.done:
            self.cancel()
        elif not self._ended:
            self._line.loop.call_later(_LATE, self._leave)

    def _leave(self) -> None:
        if not self._ended:
            self.cancel()
            self._line.status = self._line.status or _CLIENT_GONE
            self._line.cut()

    def cancel(self) -> None:
        """Nobody waits for the answer any more: the resource is told."""
        if not self._ended:
            self._end()
            outside(self._tell_resource)

    def _end(self) -> None:
        self._ended = self.done = True
        self._head = None
        self._body.clear()

    def _tell_resource(self) -> None:
        asked, self._asked = self._asked, None
        producer, self._producer = self._producer, None
        try:
            if producer is not None:
                producer.stopProducing()
            # Before a password was looked at there is no request that it knows of.
            if asked is not None:
                asked.connectionLost(Failure(error.ConnectionLost()))
        except Exception:
            log.err(None, "a resource that was told that its client has left")

    def _call(self, call: Callable[..., object], *arguments: Any) -> None:
        """Calls what is the resource's."""
        driver = self._line.driver
        driver.answering = self._mounted.dotted
        try:
            outside(call, *arguments)
        except Exception as failed:
            self._failed(failed)
        finally:
            driver.answering = ""

    def _failed(self, failed: Exception) -> None:
        """The resource cannot go on, or what it says cannot be sent."""
        self._line.tell(self.request, "the resource failed", failed)
        self.cancel()
        self._give_up()

    def _give_up(self) -> None:
        line = self._line
        if line.broken:
            return
        if self._begun:
            line.cut()
        else:
            line.fail()
            line.complete(self)

    def _refuse(self, refused: Refused) -> None:
        line = self._line
        self.cancel()
        line.exchange = None
        line.refuse(refused)

    # What twisted.web says.

    def writeHeaders(self, _version: bytes, code: bytes, _reason: bytes, headers: Any) -> None:
        """The head of the response."""
        if self._ended:
            return
        # Whoever has the connection frames the body.
        self._asked.chunked = 0
        status = int(code)
        if isinstance(headers, list):  # releases of Twisted before Headers came here
            fields = headers
        else:
            fields = [(name, value) for name, values in headers.getAllRawHeaders() for value in values]
        if status == _NOT_MODIFIED:
            # twisted.web tells the length of the empty body that it has for it; RFC 9110, 8.6.
            fields = [one for one in fields if one[0].lower() != b"content-length"]
        try:
            self._head = make_head(self._mounted, status, fields)
        except Misuse as failed:
            self._failed(failed)

    def write(self, data: bytes) -> None:
        """A part of the body."""
        if self._ended or not data:
            return
        if self._head is not None:
            if self._holds and self._producer is None:
                self._body.append(data)
                return
            self._release()
        self._send(data)

    def writeSequence(self, parts: Iterable[bytes]) -> None:
        """Several parts of the body."""
        self.write(b"".join(parts))

    def _release(self) -> None:
        """Sends the head, and what of the body was held back."""
        (status, prepared), self._head = self._head, None
        body = b"".join(self._body)
        self._body.clear()
        self._begun = True
        self._line.begin(status, prepared, None)
        if body:
            self._send(body)

    def _send(self, data: bytes) -> None:
        line = self._line
        line.data(data)
        if line.blocked is not None and self._producer is not None and not self._waits:
            self._wait()

    def requestDone(self, _request: Any) -> None:
        """The response is complete."""
        if self._ended:
            return
        line, head, body = self._line, self._head, b"".join(self._body)
        self._asked = None
        self._end()
        try:
            if head is not None:
                line.whole(*head, body)
            else:
                line.end()
        except Incomplete as failed:  # the line has ended it
            line.tell(self.request, "the resource failed", failed)
        else:
            line.complete(self)

    def loseConnection(self) -> None:
        """The response will not be complete."""
        if not self._ended:
            if self._head is not None:
                self._release()
            self.cancel()
            self._give_up()

    abortConnection = loseConnection

    def _respondToBadRequestAndDisconnect(self) -> None:
        """twisted.web cannot take the body for what the request says that it is."""
        self._refuse(Refused(400, "a form that cannot be read"))

    # Producers.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """A producer of the body."""
        if self._ended:
            producer.stopProducing()
            return
        self._producer, self._streaming = producer, streaming
        if not streaming:
            self._pull()

    def unregisterProducer(self) -> None:
        """It has no more."""
        self._producer = None

    def _wait(self) -> None:
        """Has the producer pause until the client takes more."""
        self._waits = True
        self._line.blocked.add_done_callback(self._go_on)
        if self._streaming:
            self._producer.pauseProducing()

    def _go_on(self, _free: Any) -> None:
        self._waits = False
        if self._producer is not None:
            if self._streaming:
                self._call(self._producer.resumeProducing)
            else:
                self._pull()

    def _pull(self) -> None:
        """Asks a producer that waits to be asked; between two parts others have their turn."""
        if self._producer is not None and not self._waits:
            self._call(self._producer.resumeProducing)
            self._line.loop.call_soon(self._pull)

    # Who is there.

    def getPeer(self) -> Any:
        """The address of the client."""
        return _address(*self._peer)

    def getHost(self) -> Any:
        """The address that it came to."""
        return _address(*(self._line.door.address or ("", None)))

    def isSecure(self) -> bool:
        """Whether it came by TLS."""
        return bool(self._secure)

    def getPeerCertificate(self) -> Any:
        """The certificate of the client, as pyOpenSSL has it; None without one."""
        chain = (self._line.tls or {}).get("client_cert_chain")
        if not chain:
            return None
        # Late: few ask.
        from OpenSSL.crypto import FILETYPE_PEM, load_certificate

        return load_certificate(FILETYPE_PEM, chain[0].encode("ascii"))


@lru_cache(maxsize=1024)
def _address(host: str, port: int | None) -> Any:
    if port is None or not host:
        return UNIXAddress(host or None)
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)
