"""Static mounts and redirects on twisted.web: what they answer, sent.

Not by twisted.web.static: there a file that shrinks meanwhile makes the producers spin, one that grows is sent beyond
its Content-Length, a suffix range longer than the file raises, If-Range does not count, and a name that nobody knows is
HTML. In Twisted 26 its import warns, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from appd.http.core.request import Request
from appd.http.core.response import Parts, Response

__all__ = ["ServeResponses"]

# What is read of a file at a time, in bytes; a smaller one is sent in one go. Twisted's transports buffer as much.
_BLOCK = 65536


class ServeResponses:
    """Answers requests with responses that are complete but for a file.

    Args:
        respond: Makes them, from the head of a request and the rest of its path.
    """

    def __init__(self, respond: Callable[[Request, tuple[bytes, ...]], Response]) -> None:
        self._respond = respond

    def __call__(self, request: Any, rest: tuple[bytes, ...]) -> None:
        """Answers; arguments as for `appd.servers.http.web.wsgi.ServeApplication`."""
        response = self._respond(_head(request), rest)
        request.setResponseCode(response.status)
        for name, value in response.fields:
            request.responseHeaders.addRawHeader(name.encode("latin-1"), value.encode("latin-1"))
        body = response.body
        length = len(body) if isinstance(body, bytes) else response.length
        if length is not None and response.status not in (204, 304):
            request.setHeader(b"Content-Length", b"%d" % length)
        if isinstance(body, Parts):
            _Sender(request, body).start()
            return
        if body is not None and request.method != b"HEAD":
            request.write(body)
        request.finish()


def _head(request: Any) -> Request:
    """The head of a request as the engine of appd has it."""
    fields = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, values in request.requestHeaders.getAllRawHeaders()
        for value in values
    ]
    named: dict[str, str] = {}
    for name, value in fields:
        named[name] = f"{named[name]}, {value}" if name in named else value
    target = request.uri.decode("latin-1")
    # Of an absolute target the path alone; and encoded anew, since Twisted's request keeps only what it means.
    path = "/" + "/".join(quote(one, safe="") for one in request.segments)
    authority, host = named.get("host", ""), request.getRequestHostname().decode("latin-1")
    aim = (authority, host, path, target.partition("?")[2])
    return Request(request.method.decode("latin-1"), target, 1, fields, named, aim)


@implementer(IPullProducer)
class _Sender:
    """Sends a body as fast as the client takes it.

    Resource handling: closes the file when all is sent or the connection is lost.
    """

    def __init__(self, request: Any, body: Parts) -> None:
        self._request = request
        self._fd = body.descriptor
        self._pieces = list(body.pieces)
        self._left = sum(len(one) if isinstance(one, bytes) else one[1] for one in body.pieces)

    def start(self) -> None:
        """Begins."""
        if self._left > _BLOCK:
            self._request.registerProducer(self, False)
            return
        # A read may give less than there is, and a file may have become shorter.
        while self._fd >= 0:
            self.resumeProducing()

    def resumeProducing(self) -> None:
        """Sends a block. A file that has become too short ends the response early, and the connection with it."""
        if self._fd < 0:
            return
        piece = self._pieces[0]
        if isinstance(piece, bytes):
            block = piece
            del self._pieces[0]
        else:
            block = os.pread(self._fd, min(_BLOCK, piece[1]), piece[0])
            rest = (piece[0] + len(block), piece[1] - len(block))
            self._pieces[:1] = [rest] if rest[1] else []
        self._left -= len(block)
        if block:
            self._request.write(block)
        if not block or not self._left:
            self.stopProducing()
            self._request.finish()

    def stopProducing(self) -> None:
        """The connection is lost."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
