"""What a resource of twisted.web answers through, in the thread of the reactor.

twisted.web's Request wants a channel: here it is one that has no connection, but passes what the resource says to
whoever has the client, in another thread. twisted.web's own HTTP/2 has such channels too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web import resource, server
from twisted.web.http import datetimeToString
from zope.interface import implementer

__all__ = ["DONE", "Channel", "Head", "Mounted"]

# So much of a response waits for the client before its producer is told to pause, and so much is left when it goes on.
_MOST, _LEAST = 131072, 32768


class Head(NamedTuple):
    """The head of a response.

    Attributes:
        status: The status.
        fields: Header fields; names in lower case.
    """

    status: int
    fields: list[tuple[bytes, bytes]]


# The response is complete; None in its place means that it will never be.
DONE = object()


class Mounted(server.Site):
    """What twisted.web knows of a mount.

    Args:
        root: The resource.
        depth: How many segments the path of the mount has: the resource sees what is below.
    """

    def __init__(self, root: Any, depth: int) -> None:
        super().__init__(root, requestFactory=_Request)
        self._depth = depth

    def getResourceFor(self, request: Any) -> Any:
        """Finds the resource below the mount."""
        request.prepath += request.postpath[: self._depth]
        del request.postpath[: self._depth]
        # `/mount` and `/mount/` are the same place to a mount, and have no segment and an empty one.
        if not request.postpath and not self._depth:
            request.postpath.append(b"")
        return super().getResourceFor(request)


class _Request(server.Request):
    """A request; what twisted.web says of the server by itself is told from what a resource says."""

    said_date = b""

    def process(self) -> None:
        """Finds the resource and has it answer."""
        self.said_date = datetimeToString()
        super().process()


@implementer(IConsumer)
class Channel:
    """One request of a resource. All but the attributes is for the thread of the reactor.

    Args:
        site: Of the mount.
        scope: The ASGI scope of the request.
        told: Called when there is something in `said`; any thread's affair how.

    Attributes:
        said: Heads, parts of bodies, and the end.
        taken: How many bytes of it whoever takes it has passed on; for them to set.
        paused: Whether the producer waits for `resume`.
    """

    # What twisted.web looks for in a channel.
    factory = None
    transport: Any

    def __init__(self, site: Mounted, scope: Any, told: Callable[[], None]) -> None:
        self.site = site
        self.transport = self
        self.said: deque[Any] = deque()
        self.taken = 0
        self.paused = False
        self._scope = scope
        self._told = told
        self._written = 0
        self._producer: Any = None
        self._streaming = False
        self._ended = False
        self._request: Any = None

    # The request.

    def begin(self, length: int | None, reactor: Any) -> None:
        """Begins a request.

        Args:
            length: Of its body; None when that is not known.
            reactor: The reactor.
        """
        self._reactor = reactor
        request = self._request = self.site.requestFactory(self, queued=False)
        for name, value in self._scope["headers"]:
            request.requestHeaders.addRawHeader(name, value)
        request.gotLength(length)
        request.parseCookies()

    def body(self, data: bytes) -> None:
        """Takes a part of its body."""
        if not self._ended:
            self._request.handleContentChunk(data)

    def complete(self) -> None:
        """Has the resource answer."""
        if self._ended:
            return
        scope, query = self._scope, self._scope["query_string"]
        target = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        version = b"HTTP/1.0" if scope["http_version"] == "1.0" else b"HTTP/1.1"
        self._request.requestReceived(scope["method"].encode("latin-1"), target, version)

    def lost(self) -> None:
        """The client has left."""
        if not self._ended:
            self._ended = True
            request, self._request = self._request, None
            if self._producer is not None:
                self._producer.stopProducing()
            request.connectionLost(Failure(error.ConnectionLost()))

    # What twisted.web says.

    def writeHeaders(self, _version: bytes, code: bytes, _reason: bytes, headers: Any) -> None:
        """Begins the response."""
        raw: Iterable[tuple[bytes, Any]] = (
            headers.getAllRawHeaders() if hasattr(headers, "getAllRawHeaders") else headers
        )
        fields = []
        for name, values in raw:
            lower = name.lower()
            for value in values if isinstance(values, list) else [values]:
                # Whoever has the connection frames the body, and says who and when we are unless the resource does.
                own = (lower == b"server" and value == server.version) or (
                    lower == b"date" and value == self._request.said_date
                )
                if lower != b"transfer-encoding" and not own:
                    fields.append((lower, value))
        self._request.chunked = 0
        self._say(Head(int(code), fields))

    def write(self, data: bytes) -> None:
        """A part of the body."""
        if self._ended or not data:
            return
        self._written += len(data)
        self._say(data)
        if self._producer is not None and not self.paused and self._written - self.taken > _MOST:
            # In this order: who takes looks at `paused` afterwards, and may have taken all meanwhile.
            self.paused = True
            if self._written - self.taken <= _LEAST:
                self.paused = False
            elif self._streaming:
                self._producer.pauseProducing()

    def writeSequence(self, parts: Iterable[bytes]) -> None:
        """Several parts of the body."""
        self.write(b"".join(parts))

    def requestDone(self, _request: Any) -> None:
        """The response is complete."""
        if not self._ended:
            self._ended = True
            self._say(DONE)

    def loseConnection(self) -> None:
        """The response will not be complete."""
        if not self._ended:
            self._say(None)
            self.lost()

    abortConnection = loseConnection

    def _respondToBadRequestAndDisconnect(self) -> None:
        """twisted.web cannot take the body for what the request says that it is."""
        self._say(Head(400, []))
        self._ended = True
        self._say(DONE)

    def _say(self, one: Any) -> None:
        self.said.append(one)
        self._told()

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
        """It has ended."""
        self._producer = None
        self.paused = False

    def resume(self) -> None:
        """The client has taken enough."""
        if self.paused and self._written - self.taken <= _LEAST:
            self.paused = False
            if self._producer is not None and not self._ended:
                if self._streaming:
                    self._producer.resumeProducing()
                else:
                    self._pull()

    def _pull(self) -> None:
        """Asks a producer that waits to be asked; between two parts others have their turn."""
        if self._producer is not None and not self.paused and not self._ended:
            self._producer.resumeProducing()
            self._reactor.callLater(0, self._pull)

    # Who is there.

    def getPeer(self) -> Any:
        """The address of the client."""
        return _address(self._scope["client"])

    def getHost(self) -> Any:
        """The address that it came to."""
        return _address(self._scope["server"])

    def isSecure(self) -> bool:
        """Whether it came by TLS."""
        return bool(self._scope["scheme"] == "https")


def _address(pair: Any) -> Any:
    if pair is None or pair[1] is None:
        return UNIXAddress((pair[0] or None) if pair is not None else None)
    return (IPv6Address if ":" in pair[0] else IPv4Address)("TCP", pair[0], pair[1])


def is_resource(thing: Any) -> bool:
    """Whether something is a resource."""
    return bool(resource.IResource.providedBy(thing))
