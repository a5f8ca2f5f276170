"""WSGI mounts on twisted.web: the application runs in a thread, through WSGIResource."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web.wsgi import WSGIResource
from zope.interface import implementer

from appd.http.log.entrylog import EntryLog
from appd.servers.http.web.application import Call

__all__ = ["ServeApplication"]

_log = Logger(namespace="appd.wsgi")

# While the client takes nothing, an application may still send so many bytes before its thread has to wait, so that
# most responses set the thread free at once whatever the client does.
_AHEAD = 262144
# A client that takes nothing for so many seconds has its response cut; it would hold a thread for ever. The same as
# the channel gives a client that sends nothing.
_STALLED = 60.0


class ServeApplication:
    """Answers requests by calling an application.

    Args:
        application: The application.
        reactor: The reactor.
        threads: The pool that the calls run in.
        log: The log.
    """

    def __init__(self, application: Callable[..., Any], reactor: Any, threads: Any, log: EntryLog) -> None:
        self._application = application
        self._reactor = reactor
        self._threads = threads
        self._log = log

    def __call__(self, request: Any, rest: tuple[bytes, ...]) -> None:
        """Begins to answer.

        Args:
            request: The request.
            rest: The segments of its path below the mount.
        """
        client = _ThreadClient(request, self._reactor)
        call = Call(self._application, client, request.log_fields, self._log)
        length = request.body_length
        # Of a connection over TLS: its version, its client's certificate.
        of_connection = getattr(request.channel.transport, "application_variables", {})

        def corrected(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            _correct(environ, length)
            environ.update(of_connection)
            if request.remote_user is not None:
                environ["REMOTE_USER"] = request.remote_user.encode("utf-8", "surrogateescape").decode("latin-1")
                environ["AUTH_TYPE"] = "Basic"
                environ.pop("HTTP_AUTHORIZATION", None)
            return call(environ, start_response)

        request.registerProducer(client, True)
        request.notifyFinish().addErrback(lambda _reason: client.stopProducing())
        request.prepath, request.postpath = list(request.route_path), list(rest)
        calls = _Calls(request, client, self._reactor, self._threads)
        WSGIResource(self._reactor, calls, corrected).render(request)


def _correct(environ: dict[str, Any], length: int) -> None:
    """What Twisted's environment lacks of PEP 3333's, and of RFC 3875, which that follows."""
    environ.pop("HTTP_CONTENT_TYPE", None)
    environ.pop("HTTP_CONTENT_LENGTH", None)
    # A chunked body was collected, so that its length is known too.
    if length or environ["CONTENT_LENGTH"]:
        environ["CONTENT_LENGTH"] = str(length)
    environ["wsgi.input_terminated"] = True


class _Calls:
    """The pool as WSGIResource has it for one request: a call that is cancelled is answered, like one that ends."""

    def __init__(self, request: Any, client: _ThreadClient, reactor: Any, threads: Any) -> None:
        self._request = request
        self._client = client
        self._reactor = reactor
        self._threads = threads

    def callInThread(self, call: Callable[[], object]) -> None:
        """See IThreadPool."""
        self._threads.callInThreadWithCallback(self._done, call)

    def _done(self, ok: bool, result: Any) -> None:
        if ok:
            return
        if result.check(CancelledError):
            self._reactor.callFromThread(self._dismiss)
        else:
            _log.failure("a call in a thread has failed", result)

    def _dismiss(self) -> None:
        if not self._client.gone:
            self._request.setHeader(b"Retry-After", b"1")
            self._request.answer(503)


@implementer(IPushProducer)
class _ThreadClient:
    """The client as the thread of a call sees it; the transport tells it when to pause."""

    def __init__(self, request: Any, reactor: Any) -> None:
        self.gone = False
        self._request = request
        self._reactor = reactor
        self._flowing = Event()
        self._flowing.set()
        self._ahead = 0

    # In the reactor's thread.

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        self._flowing.clear()

    def resumeProducing(self) -> None:
        """The transport has sent all."""
        self._flowing.set()

    def stopProducing(self) -> None:
        """The connection is lost."""
        self.gone = True
        self._flowing.set()

    # In the thread of the call.

    def pace(self, count: int) -> None:
        if self._flowing.is_set():
            self._ahead = 0
            return
        self._ahead += count
        if self._ahead > _AHEAD and not self._flowing.wait(_STALLED):
            self.gone = True
            self._reactor.callFromThread(self._request.abort)

    def cut(self) -> None:
        self._reactor.callFromThread(self._request.cut)
