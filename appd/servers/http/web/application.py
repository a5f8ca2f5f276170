"""The application side of PEP 3333, whichever engine calls.

A `Call` stands between the engine and the application, and is itself an application: one that never raises, always
starts a response that is in order, calls `close()` whatever happened, and reads no further ahead of the client than it
may. The engine's own gateway therefore meets only good behaviour.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from appd.http.core.fields import is_token, is_value
from appd.http.log.entrylog import EntryLog, tell_failure
from appd.http.log.errorlines import ErrorLines
from appd.journal.entry import Value

__all__ = ["Call", "Client"]

Headers = list[tuple[str, str]]

_STATUS = re.compile(r"([2-5][0-9][0-9])(?: ([\t \x21-\x7e\x80-\xff]*))?\Z")
# A large chunk is passed on in parts of so many bytes, so that the pace of the client shows between them.
_PIECE = 262144


class Client(Protocol):
    """What a call needs to know of the other end. Its methods are called in the thread of the application."""

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the response any more."""

    def pace(self, count: int) -> None:
        """Waits until so many more bytes may be sent."""

    def cut(self) -> None:
        """Has the response end so that the client notices that it is not complete."""


class Call:
    """One call of a WSGI application.

    Args:
        application: The application.
        client: The other end.
        fields: Fields of the log entries: what is known of the request.
        log: The log of the process.
    """

    def __init__(
        self, application: Callable[..., Any], client: Client, fields: Mapping[str, Value], log: EntryLog
    ) -> None:
        self._application = application
        self._client = client
        self._fields = fields
        self._log = log
        self._head: tuple[str, Headers] | None = None
        self._start: Callable[[str, Headers], Callable[[bytes], None]] | None = None
        self._write: Callable[[bytes], None] | None = None

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[[str, Headers], Callable[[bytes], None]]
    ) -> Iterator[bytes]:
        """Calls the application.

        Args:
            environ: The environment; `wsgi.errors` is put in.
            start_response: The engine's; it is called once, with a status and headers that are in order.

        Returns:
            The body. Closing it ends the call.
        """
        self._start = start_response
        errors = environ["wsgi.errors"] = ErrorLines(self._fields, self._log)
        iterable: Any = None
        try:
            # Who has left while the call waited for a thread wants nothing done.
            if self._client.gone:
                return
            iterable = self._application(environ, self._begin)
            yield from self._body(iterable)
        except GeneratorExit:
            raise
        except BaseException as error:  # SystemExit too: an application ends its call, not the process
            yield from self._failed(error)
        finally:
            self._close(iterable)
            errors.end()

    def _body(self, iterable: Iterable[bytes]) -> Iterator[bytes]:
        # What is in memory as a whole needs no pace: the thread had better be free.
        whole = isinstance(iterable, (list, tuple))
        if whole and len(iterable) == 1 and self._head is not None:  # type: ignore[arg-type]  # a list or tuple has one
            self._say_length(len(next(iter(iterable))))
        for chunk in iterable:
            self._check_chunk(chunk)
            if self._head is None:
                raise RuntimeError("the application began its body without calling start_response")
            for start in range(0, len(chunk), len(chunk) if whole else _PIECE) if chunk else ():
                piece = chunk if whole else chunk[start : start + _PIECE]
                self._send_head()
                if not whole:
                    self._client.pace(len(piece))
                if self._client.gone:
                    return
                yield piece
        if self._head is None:
            raise RuntimeError("the application did not call start_response")
        self._send_head()

    def _say_length(self, length: int) -> None:
        assert self._head is not None
        headers = self._head[1]
        if self._write is None and not any(name.lower() == "content-length" for name, _value in headers):
            headers.append(("Content-Length", str(length)))

    def _begin(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        """start_response: keeps the head until the first bytes of the body, as PEP 3333 wants."""
        if exc_info is not None:
            try:
                if self._write is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._head is not None:
            raise RuntimeError("the application called start_response twice, without exc_info")
        self._head = _checked_status(status), _checked_headers(headers)
        return self._write_now

    def _write_now(self, chunk: bytes) -> None:
        self._check_chunk(chunk)
        self._send_head()
        assert self._write is not None
        for start in range(0, len(chunk), _PIECE):
            piece = chunk[start : start + _PIECE]
            self._client.pace(len(piece))
            if self._client.gone:
                return
            self._write(piece)

    def _check_chunk(self, chunk: object) -> None:
        if not isinstance(chunk, bytes):
            raise TypeError(f"the body of a response is bytes, not {type(chunk).__name__}")

    def _send_head(self) -> None:
        if self._write is None:
            assert self._head is not None
            assert self._start is not None
            self._write = self._start(*self._head)

    def _failed(self, error: BaseException) -> Iterator[bytes]:
        """Tells of an exception: the log all, the client nothing but that there is one."""
        self._tell("the application failed", error)
        if self._write is not None:
            self._client.cut()
            return
        body = b"500 Internal Server Error\n"
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        self._head = "500 Internal Server Error", headers
        self._send_head()
        yield body

    def _close(self, iterable: Any) -> None:
        close = getattr(iterable, "close", None)
        if close is not None:
            try:
                close()
            except BaseException as error:  # as above; the response is out already
                self._tell("the application failed in close()", error)

    def _tell(self, what: str, error: BaseException) -> None:
        fields = self._fields
        what = f"{what}: {fields['HTTP_METHOD']!s} {fields['HTTP_PATH']!s}"
        tell_failure(self._log, what, error, LOGGER="appd.wsgi", **fields)


def _checked_status(status: object) -> str:
    if not isinstance(status, str):
        raise TypeError(f"a status is str, not {type(status).__name__}")
    match = _STATUS.match(status)
    if match is None:
        raise ValueError(f"{status!r} is no status of a response like '200 OK'")
    if match[2]:
        return status
    known = {str(one.value): one.phrase for one in HTTPStatus}
    return f"{match[1]} {known.get(match[1], 'Unknown')}"


def _checked_headers(headers: Any) -> Headers:
    checked: Headers = []
    for one in headers:
        name, value = one
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"a header is two str, not {one!r}")
        value = value.strip(" \t")
        if not is_token(name) or not is_value(value):
            raise ValueError(f"{one!r} is no header: RFC 9110, 5.1 and 5.5")
        checked.append((name, value))
    lengths = [value for name, value in checked if name.lower() == "content-length"]
    if lengths and (len(lengths) > 1 or not re.match(r"[0-9]{1,18}\Z", lengths[0])):
        raise ValueError(f"Content-Length {', '.join(lengths)} is not one number")
    return checked
