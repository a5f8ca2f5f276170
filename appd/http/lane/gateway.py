"""A WSGI application and its calls: PEP 3333."""

from __future__ import annotations

import os
import stat
from io import BytesIO

from appd.http.core.errors import Incomplete
from appd.http.core.fields import is_secret
from appd.http.core.response import Prepared, prepare, status_line
from appd.http.lane.environ import add_fields
from appd.http.lane.sending import Gone
from appd.http.log.entrylog import tell_failure
from appd.http.log.errorlines import ErrorLines
from appd.http.spool import Stretch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from appd.http.core.request import Request
    from appd.http.lane.client import Client

__all__ = ["Call", "FileWrapper"]

_FAILED = b"500 Internal Server Error\n"
_PLAIN = (("Content-Type", "text/plain; charset=utf-8"),)

# Heads of responses that are remembered for each mount, and how long one may be.
_MOST_HEADS, _LONGEST_HEAD = 256, 1024

Fields = list[tuple[str, str]]


class FileWrapper:
    """`wsgi.file_wrapper`: a file that is to be sent; by the kernel where it is one.

    Args:
        filelike: The file.
        blksize: Bytes for one read, where it has to be read.
    """

    def __init__(self, filelike: Any, blksize: int = 65536) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.filelike.read(self.blksize), b"")

    def stretch(self, length: int | None) -> Stretch | None:
        """What is left of the file, as far as a length goes; None when it is none that the kernel can send."""
        try:
            fd = self.filelike.fileno()
            status = os.fstat(fd)
            offset = self.filelike.tell()
        except (AttributeError, OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode) or not isinstance(offset, int):
            return None
        left = max(0, status.st_size - offset)
        return Stretch(fd, offset, left if length is None else min(left, length))


class _Errors:
    """`wsgi.errors`, which most calls never write to."""

    __slots__ = ("_call", "lines")

    def __init__(self, call: Call) -> None:
        self._call = call
        self.lines: ErrorLines | None = None

    def _begin(self) -> ErrorLines:
        if self.lines is None:
            client = self._call.client
            self.lines = ErrorLines(client.log_fields(self._call.request), client.server.log)
        return self.lines

    def write(self, text: str) -> None:
        """As `ErrorLines`."""
        self._begin().write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """As `ErrorLines`."""
        self._begin().writelines(lines)

    def flush(self) -> None:
        """As `ErrorLines`."""


class Call:
    """One call of an application, once its request is complete. Either `run` or `cancel` is called, once.

    Args:
        mount: What is called.
        client: Who asks.
        request: The request.
        path_info: The rest of its path.
        body: Its body, from its beginning.
    """

    __slots__ = ("_begun", "_body", "_head", "_path_info", "client", "mount", "request")

    def __init__(self, mount: Any, client: Client, request: Request, path_info: str, body: Any) -> None:
        self.client = client
        self.request = request
        self.mount = mount
        self._path_info = path_info
        self._body = body
        self._head: tuple[int | str, Prepared] | None = None
        self._begun = False

    def run(self) -> bool:
        """Makes the call and the response; raises nothing that the application raises.

        Returns:
            Whether the response waits to be sent; see `Sender.send_whole`.

        Raises:
            Gone: The client gets no more.
        """
        environ = self._environ()
        errors = environ["wsgi.errors"] = _Errors(self)
        waits = False
        try:
            iterable = self.mount.application(environ, self.start_response)
            kind = type(iterable)
            if (kind is list or kind is tuple) and not self._begun:
                # Nothing to close.
                if len(iterable) != 1 or type(iterable[0]) is not bytes:
                    for one in iterable:
                        self._check(one)
                waits = self._whole(iterable[0] if len(iterable) == 1 else b"".join(iterable))
            else:
                try:
                    self._respond(iterable)
                finally:
                    close = getattr(iterable, "close", None)
                    if close is not None:
                        self._close(close)
        except Gone:
            raise
        except Incomplete:
            self.client.cut()
        except BaseException as error:  # SystemExit too: an application ends its call, not the process
            waits = self._failed(error)
        finally:
            self._body.close()
            if errors.lines is not None:
                errors.lines.end()
        return waits

    def cancel(self) -> None:
        """In place of `run`: closes the body of the request, and tells the client."""
        if self._body is not None:
            self._body.close()
        self.client.dismiss()

    def _environ(self) -> dict[str, Any]:
        request, client = self.request, self.client
        kept = request.environ
        environ: dict[str, Any]
        if kept is not None and kept[0] is client.door and kept[1] is self.mount:
            environ = kept[2].copy()
        else:
            environ = self._make_environ(request, client.door, kept)
        body = self._body
        if body is None:
            body = self._body = BytesIO()
        environ["wsgi.input"] = body
        if request.length != 0:
            environ["CONTENT_LENGTH"] = str(client.body_length)
        client.describe_peer(environ)
        return environ

    def _make_environ(self, request: Request, door: Any, kept: Any) -> dict[str, Any]:
        """What is the same in every call for requests with one head; from its second one on that is kept."""
        environ: dict[str, Any] = door.environ.copy()
        environ["REQUEST_METHOD"] = request.method
        environ["SCRIPT_NAME"] = self.mount.script_name
        environ["PATH_INFO"] = self._path_info
        environ["QUERY_STRING"] = request.query
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if request.minor else "HTTP/1.0"
        if request.host:
            environ["SERVER_NAME"] = request.host
        environ["wsgi.file_wrapper"] = FileWrapper
        add_fields(environ, request)
        # Most requests come once.
        request.environ = (None, None, None) if kept is None else (door, self.mount, environ.copy())
        return environ

    def start_response(self, status: str, headers: Fields, exc_info: Any = None) -> Callable[[bytes], None]:
        """Keeps the head until the first bytes of the body, as PEP 3333 wants."""
        if exc_info is not None:
            try:
                if self._begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._head is not None:
            raise RuntimeError("the application called start_response twice, without exc_info")
        try:
            key = (status, *headers)
            head = self.mount.heads.get(key)
        except TypeError:  # not hashable, so none that was seen
            key, head = None, None
        self._head = head or self._make_head(status, headers, key)
        return self.write

    def _make_head(self, status: str, headers: Fields, key: Any) -> tuple[str, Prepared]:
        if type(status) is not str:
            raise TypeError(f"a status is str, not {type(status).__name__}")
        status_line(status)
        head = (status, prepare(self.mount.with_headers(headers)))
        # Most responses of an application have one of a few heads. A secret is not kept, and never the same twice.
        secret = any(is_secret(name.lower()) for name, _value in headers)
        if key is not None and not secret and len(head[1].text) <= _LONGEST_HEAD:
            heads = self.mount.heads
            if len(heads) >= _MOST_HEADS:
                heads.clear()
            heads[key] = head
        return head

    def write(self, data: bytes) -> None:
        """What start_response returns."""
        self._check(data)
        self._begin(None)
        self.client.sent += len(data)
        self.client.send(self.client.connection.body(data))

    def _check(self, data: object) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"the body of a response is bytes, not {type(data).__name__}")

    def _begin(self, length: int | None) -> None:
        if self._begun:
            return
        if self._head is None:
            raise RuntimeError("the application began its body without calling start_response")
        status, prepared = self._head
        client = self.client
        client.claim()
        head = client.connection.head(status, prepared, length)
        self._begun = True
        client.send(head)
        client.status = status_line(status)[0]

    def _respond(self, iterable: Any) -> None:
        if type(iterable) is FileWrapper and not self._begun and self._head is not None:
            stretch = iterable.stretch(self._head[1].length)
            if stretch is not None:
                self._send_file(stretch)
                return
        client, connection = self.client, self.client.connection
        for chunk in iterable:
            self._check(chunk)
            if self._head is None:
                raise RuntimeError("the application began its body without calling start_response")
            if chunk:
                self._begin(None)
                client.sent += len(chunk)
                client.send(connection.body(chunk))
        if self._head is None:
            raise RuntimeError("the application did not call start_response")
        self._begin(0)
        client.send(connection.end())

    def _whole(self, data: bytes) -> bool:
        if self._head is None:
            raise RuntimeError("the application did not call start_response")
        status, prepared = self._head
        client = self.client
        if client.unanswered is not None or client.server.draining:
            client.claim()
        self._begun = True
        return client.send_whole(status, prepared, data)

    def _send_file(self, stretch: Stretch) -> None:
        self._begin(stretch.left)
        client = self.client
        stretch.left = client.connection.pass_by(stretch.left)
        client.sent = stretch.left
        end = client.connection.end()
        # The application closes its file as soon as this is done, and the client may take its time.
        stretch.fd, stretch.owned = os.dup(stretch.fd), True
        client.send_file(stretch)
        client.send(end)

    def _failed(self, error: BaseException) -> bool:
        """Tells of an exception: the log all, the client nothing but that there is one. Returns as `run`."""
        client = self.client
        self._tell("the application failed", error)
        if self._begun:
            client.cut()
            return False
        client.claim()
        return client.send_whole(500, self.mount.with_headers(list(_PLAIN)), _FAILED)

    def _close(self, close: Callable[[], object]) -> None:
        try:
            close()
        except BaseException as error:  # as above; the response is out already
            self._tell("the application failed in close()", error)

    def _tell(self, what: str, error: BaseException) -> None:
        fields = self.client.log_fields(self.request)
        report = self.client.server.report
        if report is not None:
            what = report(what, error, fields)
        message = f"{what}: {fields['HTTP_METHOD']!s} {fields['HTTP_PATH']!s}"
        tell_failure(self.client.server.log, message, error, LOGGER="appd.wsgi", **fields)
