"""Static mounts on twisted.web: files with types, ranges and If-Modified-Since.

Not by twisted.web.static: there a file that shrinks meanwhile makes the producers spin, one that grows is sent beyond
its Content-Length, a suffix range longer than the file raises, If-Range does not count, and a name that nobody knows is
HTML. In Twisted 26 its import warns, too.
"""

from __future__ import annotations

from contextlib import suppress
from mimetypes import guess_type
from typing import Any
from urllib.parse import quote

from twisted.internet.interfaces import IPullProducer
from twisted.web import http
from zope.interface import implementer

from appd.http.files import OpenFile, open_below
from appd.http.ranges import Part, Unsatisfiable, read_range
from appd.servers.http.mounts import Static

__all__ = ["ServeFolder"]

# What is read of a file at a time, in bytes; a smaller file is sent in one go. Twisted's transports buffer as much.
_BLOCK = 65536
# Whatever else it may be, a browser does not run it.
_UNKNOWN = "application/octet-stream"
# Of what Python knows, what clients undo: RFC 9110, 8.4.1, and RFC 7932.
_CODINGS = frozenset({"gzip", "compress", "br"})


class ServeFolder:
    """Answers requests with the files of a folder.

    Args:
        static: The folder.
    """

    def __init__(self, static: Static) -> None:
        self._static = static

    def __call__(self, request: Any, rest: tuple[bytes, ...]) -> None:
        """Answers; arguments as for `appd.servers.http.web_wsgi.ServeApplication`."""
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            request.answer(http.NOT_ALLOWED)
            return
        try:
            found = open_below(self._static.root, rest, self._static.index_file)
        except FileNotFoundError:
            request.answer(http.NOT_FOUND)
        except PermissionError:
            request.answer(http.FORBIDDEN)
        else:
            if found is None:
                request.setHeader(b"Location", _with_slash(request))
                request.answer(http.MOVED_PERMANENTLY)
            else:
                _send(request, found)


def _with_slash(request: Any) -> bytes:
    # A path of this host, never a host: the routes and folders that led here have no empty part at the front.
    path = "/" + "/".join(quote(one, safe="") for one in request.segments) + "/"
    _path, mark, query = request.uri.partition(b"?")
    location: bytes = path.encode() + mark + query
    return location


def _send(request: Any, found: OpenFile) -> None:
    request.setHeader(b"Accept-Ranges", b"bytes")
    if _is_known(request, found.modified):
        found.file.close()
        request.finish()
        return
    type_, encoding = _type_of(found.name)
    request.setHeader(b"Content-Type", type_.encode())
    if encoding:
        request.setHeader(b"Content-Encoding", encoding.encode())
    try:
        part = _part(request, found)
    except Unsatisfiable:
        found.file.close()
        request.setHeader(b"Content-Range", b"bytes */%d" % found.size)
        request.responseHeaders.removeHeader(b"Content-Encoding")
        request.answer(http.REQUESTED_RANGE_NOT_SATISFIABLE)
        return
    if part is not None:
        request.setResponseCode(http.PARTIAL_CONTENT)
        last = part.start + part.length - 1
        request.setHeader(b"Content-Range", b"bytes %d-%d/%d" % (part.start, last, found.size))
    start, length = part or Part(0, found.size)
    request.setHeader(b"Content-Length", b"%d" % length)
    if request.method == b"HEAD" or not length:
        found.file.close()
        request.finish()
        return
    found.file.seek(start)
    _Sender(request, found.file, length).start()


def _type_of(name: str) -> tuple[str, str | None]:
    """The type and the content coding of a file, by its name."""
    # With a folder before it, no name looks like a URL.
    type_, encoding = guess_type(f"./{name}")
    if encoding is not None and encoding not in _CODINGS:
        return _UNKNOWN, None
    return type_ or _UNKNOWN, encoding


def _is_known(request: Any, modified: float) -> bool:
    """Whether the client has this version; notes Last-Modified for the response."""
    # If-None-Match would go first (RFC 9110, 13.2.2); there are no entity tags here, so that none matches.
    if request.getHeader(b"if-none-match") is not None:
        request.requestHeaders.removeHeader(b"if-modified-since")
    known = False
    # Twisted's parser of dates stumbles over some that are none.
    with suppress(IndexError, OverflowError):
        known = request.setLastModified(modified) is http.CACHED
    return known


def _part(request: Any, found: OpenFile) -> Part | None:
    field = request.getHeader(b"range")
    # RFC 9110, 14.2: Range is defined for GET alone.
    if field is None or request.method != b"GET":
        return None
    condition = request.getHeader(b"if-range")
    if condition is not None and condition != http.datetimeToString(request.lastModified):
        return None
    return read_range(field, found.size)


@implementer(IPullProducer)
class _Sender:
    """Sends a part of a file as fast as the client takes it.

    Resource handling: closes the file when all is sent or the connection is lost.
    """

    def __init__(self, request: Any, file: Any, length: int) -> None:
        self._request = request
        self._file = file
        self._left = length

    def start(self) -> None:
        """Begins."""
        if self._left > _BLOCK:
            self._request.registerProducer(self, False)
            return
        # A read may give less than there is, and a file may have become shorter.
        while not self._file.closed:
            self.resumeProducing()

    def resumeProducing(self) -> None:
        """Sends a block. A file that has become too short ends the response early, and the connection with it."""
        if self._file.closed:
            return
        block = self._file.read(min(_BLOCK, self._left))
        self._left -= len(block)
        if block:
            self._request.write(block)
        if not block or not self._left:
            self._file.close()
            self._request.finish()

    def stopProducing(self) -> None:
        """The connection is lost."""
        self._file.close()
