"""A request on twisted.web, from its head to its line in the access log."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.web import http

from appd.http.core.errors import Refused
from appd.http.core.fields import OF_THE_CONNECTION, is_token, is_value
from appd.http.core.grammar import REQUEST_LINE
from appd.http.core.target import read_target
from appd.http.log.accesslog import Answer, printable
from appd.http.log.entrylog import tell_failure
from appd.http.routing import segments_of
from appd.http.site import Mount
from appd.journal.entry import Value

__all__ = ["Request"]

_MAPPED = "::ffff:"
# nginx's status for a client that left before the head of the response was out; it is only ever logged.
_CLIENT_GONE = 499


class _NoAddress:
    """The client of a UNIX socket, which has neither."""

    host = port = ""


class Request(http.Request):
    """A request.

    Attributes:
        segments: The segments of its path, decoded.
        route_path: Those of them that are the path of its mount.
        body_length: The length of its body in bytes.
        remote_user: Who it is, where a guard has asked.
    """

    channel: Any
    content: Any

    def __init__(self, channel: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(channel, *args, **kwargs)
        self.segments: tuple[bytes, ...] = ()
        self.route_path: tuple[bytes, ...] = ()
        self.body_length = 0
        self.remote_user: str | None = None
        self._site = channel.factory
        self._began = self._site.clock()
        self._mount: Mount | None = None
        self._hostname = ""
        self._left: int | None = None
        self._logged = False

    # What came in.

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Takes over from the channel when the body is there. Unlike Twisted's, it does not look into a form."""
        self.body_length = self.content.tell()
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.path, self.args = path.partition(b"?")[0], {}
        self.process()

    def process(self) -> None:
        """Answers."""
        self._site.count_request()
        self.setHeader(b"Server", b"appd")
        self.setHeader(b"Date", http.datetimeToString(self._site.reactor.seconds()))
        try:
            self._route()
        except Exception as error:
            self.tell_failure(error)

    def tell_failure(self, error: BaseException) -> None:
        """Answers 500, or cuts what was begun, and logs why."""
        fields = self.log_fields
        what = f"cannot answer {fields['HTTP_METHOD']!s} {fields['HTTP_PATH']!s}"
        tell_failure(self._site.entries, what, error, LOGGER="appd.http", **fields)
        if self.startedWriting:
            self.cut()
            self.finish()
        else:
            self.answer(http.INTERNAL_SERVER_ERROR)

    def _route(self) -> None:
        try:
            path = self._read_head()
        except (Refused, ValueError):
            # Whoever frames one request badly may have framed the next one badly too.
            self.channel.persistent = False
            if self.clientproto not in (b"HTTP/1.1", b"HTTP/1.0"):
                self.clientproto = b"HTTP/1.1"
            self.answer(http.BAD_REQUEST)
            return
        if path == "*":
            self.setHeader(b"Content-Length", b"0")
            self.finish()
            return
        segments = segments_of(path)
        place = self._site.router.find(self._hostname, segments) if segments is not None else None
        if segments is None or place is None:
            self.answer(http.NOT_FOUND)
            return
        mount = self._mount = self._site.mounts[place]
        self.segments, self.route_path = segments, mount.route.path
        self._site.serving[place](self, segments[len(self.route_path) :])

    def _read_head(self) -> str:
        """Checks the head and returns the path.

        Raises:
            Refused: Its target or its host is none.
            ValueError: It deserves a 400.
        """
        headers = self.requestHeaders
        fields = [(name.decode("latin-1"), values) for name, values in headers.getAllRawHeaders()]
        line = REQUEST_LINE.fullmatch(b" ".join((self.method, self.uri, self.clientproto)).decode("latin-1"))
        if line is None:
            raise ValueError("a request line that is none")
        for name, values in fields:
            if not is_token(name) or not all(is_value(one.decode("latin-1")) for one in values):
                raise ValueError("a field that is none")
        hosts = [one.decode("latin-1") for one in headers.getRawHeaders(b"host", [])]
        target = read_target(line[1], line[2], int(line[3]), hosts)
        for name, _values in fields:
            # X_Y would arrive at an application as X-Y does, and Proxy as HTTP_PROXY, which programs look at.
            if "_" in name or name.lower() == "proxy":
                headers.removeHeader(name.encode("latin-1"))
        cookies = headers.getRawHeaders(b"cookie", [])
        if len(cookies) > 1:
            headers.setRawHeaders(b"cookie", [b"; ".join(cookies)])
        if target.authority:
            headers.setRawHeaders(b"host", [target.authority.encode()])
        self._hostname = target.host
        return target.path

    # What others ask of it; WSGIResource among them.

    def getClientAddress(self) -> Any:
        """The client's address, with a `host` and a `port` whatever the socket."""
        if not hasattr(self.client, "port"):
            return _NoAddress
        if self.client.host.startswith(_MAPPED) and "." in self.client.host:
            return IPv4Address("TCP", self.client.host[len(_MAPPED) :], self.client.port)
        return self.client

    def getHost(self) -> Any:
        """Our address. PEP 3333 wants a name and a port, so that a UNIX socket is localhost:80."""
        return IPv4Address("TCP", "localhost", 80) if isinstance(self.host, UNIXAddress) else self.host

    def getRequestHostname(self) -> bytes:
        """The host that the request is for, or ours."""
        return (self._hostname or self.getHost().host).encode()

    @cached_property
    def log_fields(self) -> dict[str, Value]:
        """The fields of log entries about this request."""
        fields: dict[str, Value] = {"APPD_PEER": self._peer} if self._peer else {}
        return {
            "APPD_SERVER": self._site.name,
            **fields,
            "HTTP_METHOD": printable(self.method),
            "HTTP_PATH": printable(self.uri.partition(b"?")[0]),
        }

    @property
    def _peer(self) -> str:
        client = self.getClientAddress()
        host = f"[{client.host}]" if ":" in client.host else client.host
        return f"{host}:{client.port}" if host else ""

    # What goes out.

    def answer(self, code: int) -> None:
        """Answers with a status and a small page that names it."""
        self.setResponseCode(code)
        body = b"%d %s\n" % (code, self.code_message)
        self.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()

    def write(self, data: bytes) -> None:
        """Sends a part of the body, after the head; never more than Content-Length has announced."""
        if not self.startedWriting and not self._disconnected:
            self._complete_head()
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        super().write(data)

    def _complete_head(self) -> None:
        headers = self.responseHeaders
        for name in OF_THE_CONNECTION:
            headers.removeHeader(name)
        if self._mount is not None:
            for field, _value in self._mount.headers:
                headers.removeHeader(field)
            for field, value in self._mount.headers:
                headers.addRawHeader(field, value)
        if self.channel.is_last():
            headers.setRawHeaders(b"Connection", [b"close"])
        if self.code == http.NO_CONTENT:
            headers.removeHeader(b"Content-Length")
        if self.method != b"HEAD" and self.code not in http.NO_BODY_CODES:
            lengths = headers.getRawHeaders(b"Content-Length")
            self._left = int(lengths[0]) if lengths else None

    def finish(self) -> None:
        """Ends the response. One that is shorter than announced ends the connection too."""
        if self._disconnected:
            return
        if not self.startedWriting:
            if self.code not in http.NO_BODY_CODES and self.method != b"HEAD":
                headers = self.responseHeaders
                headers.setRawHeaders(b"Content-Length", headers.getRawHeaders(b"Content-Length") or [b"0"])
            self.write(b"")
        if self._left:
            self.channel.persistent = False
        if self.producer is not None:
            self.unregisterProducer()
        super().finish()

    def cut(self) -> None:
        """Has a response that is under way end where it is, so that the client sees that something is missing."""
        if self._disconnected or self.finished:
            return
        if not self.chunked and not self._left:
            # The end of the connection would look like the end of the body.
            self.abort()
            return
        # Without the last chunk.
        self.chunked = 0
        self.channel.persistent = False

    def abort(self) -> None:
        """Drops the connection."""
        if not self._disconnected and not self.finished:
            self.channel.transport.abortConnection()

    def connectionLost(self, reason: Any) -> None:
        """Notes that the client has gone."""
        # Twisted closes the body here, which a thread may still be reading; its last owner closes it now.
        self.content = None
        if self.clientproto != http.Request.clientproto:
            self.log_access(self.code if self.startedWriting else _CLIENT_GONE)
        super().connectionLost(reason)

    def log_access(self, status: int) -> None:
        """Writes the access log, once."""
        format = self._mount.access_log if self._mount is not None else self._site.access_log
        if format == "off" or self._logged:
            return
        self._logged = True
        answer = Answer(
            self.method,
            self.uri,
            self.clientproto,
            status,
            self.sentLength,
            self._site.clock() - self._began,
            self.getClientAddress().host,
            self._peer,
            self.getHeader(b"referer") or b"",
            self.getHeader(b"user-agent") or b"",
        )
        self._site.access.write(answer, format, self._site.reactor.seconds())
