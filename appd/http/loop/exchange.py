"""A request of an ASGI application, and its response: https://asgi.readthedocs.io/en/latest/specs/www.html.

The exchange keeps what has come of the body until the application asks for it, and holds the head back until the first
part of the body is there, so that a small response is one write. What it is said on, a `line`, is HTTP/1.1's connection
or a stream of HTTP/2: both know `begin`, `data`, `end` and `whole`.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from appd.http.core.errors import AlreadyTold, Misuse
from appd.http.loop.heads import make_head
from appd.http.loop.pump import Disconnected, pump

if TYPE_CHECKING:
    from appd.http.core.request import Request
    from appd.http.core.response import Prepared

__all__ = ["Exchange", "is_ours"]

# So much of a body is kept for an application that does not ask for it.
_KEPT = 65536

_NO_BODY = {"type": "http.request", "body": b"", "more_body": False}
_DISCONNECT = {"type": "http.disconnect"}


class Exchange:
    """One call of an application.

    Args:
        line: What the request came on.
        request: The request.
        mount: The mount.
        scope: What the application is told.

    Attributes:
        task: What runs the application.
        begun: Whether a byte of the response has gone out.
        done: Whether the response is complete.
        gone: Whether the client has left.
        held: How many bytes of the body wait for the application.
    """

    __slots__ = (
        "_body_ended",
        "_head",
        "_parts",
        "_taken",
        "_trailers",
        "_trailing",
        "_waiter",
        "begun",
        "done",
        "gone",
        "held",
        "line",
        "mount",
        "request",
        "scope",
        "task",
    )

    def __init__(self, line: Any, request: Request, mount: Any, scope: dict[str, Any]) -> None:
        self.line = line
        self.request = request
        self.mount = mount
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        self.begun = self.done = self.gone = False
        self.held = 0
        self._parts: list[bytes] = []
        self._body_ended = request.length == 0
        self._taken = False
        self._waiter: asyncio.Future[None] | None = None
        self._head: tuple[int, Prepared] | None = None
        self._trailing = False
        self._trailers: list[tuple[str, str]] = []

    # What comes in; called by the line.

    def feed(self, data: bytes) -> bool:
        """Takes a part of the body.

        Returns:
            Whether there is room for more.
        """
        if self.done:
            return True
        self._parts.append(data)
        self.held += len(data)
        self._wake()
        return self.held < _KEPT

    def end_body(self) -> None:
        """The body is complete."""
        self._body_ended = True
        self._wake()

    def lost(self) -> None:
        """The client has left, or sends nothing more."""
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the application calls.

    async def receive(self) -> dict[str, Any]:
        """Gives the next part of the body, or says that the client has left."""
        if not self._taken:
            if self._body_ended and not self._parts:
                self._taken = True
                return _NO_BODY.copy()
            if not self._parts and not self.gone:
                self.line.wants_body()
                await self._wait()
            if self._parts or self._body_ended:
                body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
                self._parts.clear()
                self.line.took(self.held)
                self.held = 0
                self._taken = self._body_ended
                return {"type": "http.request", "body": body, "more_body": not self._body_ended}
            return _DISCONNECT.copy()
        # The response may be over: who asks then is told what will come anyway.
        while not (self.gone or self.done):
            await self._wait()
        return _DISCONNECT.copy()

    async def _wait(self) -> None:
        if self._waiter is None or self._waiter.done():
            self._waiter = self.line.loop.create_future()
        # Who stops waiting does not stop the others.
        await asyncio.shield(self._waiter)

    async def send(self, message: Any) -> None:
        """Sends what the application says.

        Raises:
            Disconnected: The client has left.
            RuntimeError: It is not its turn.
            Misuse: It cannot be sent as it is.
        """
        kind = message["type"]
        line = self.line
        if line.broken or (self.gone and self.done):
            raise Disconnected("the client has left")
        if kind == "http.response.body" and self._head is not None:
            data = message.get("body", b"")
            if not message.get("more_body", False) and not self.begun and not self._trailing:
                head, self._head = self._head, None
                self.begun = self.done = True
                line.whole(head[0], head[1], data if type(data) is bytes else bytes(data))
                self._finish()
                return
            self._start()
            line.data(data if type(data) is bytes else bytes(data))
            if not message.get("more_body", False):
                self._end()
        elif kind == "http.response.start":
            if self.begun or self.done or self._head is not None:
                raise RuntimeError("http.response.start was sent twice")
            self._head = make_head(self.mount, message["status"], message.get("headers", ()))
            self._trailing = bool(message.get("trailers", False))
            return
        elif kind == "http.response.pathsend" and self._head is not None:
            await self._send_file(message["path"])
        elif kind == "http.response.trailers" and self.begun and self._trailing and not self.done:
            self._trailers += [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            if not message.get("more_trailers", False):
                self._trailing = False
                self._end()
        elif kind == "http.response.early_hint" and self._head is None and not self.done:
            line.hint([("Link", one.decode("latin-1")) for one in message["links"]])
        elif kind in _KNOWN:
            raise RuntimeError(f"{kind} was sent when it was not its turn")
        else:
            raise RuntimeError(f"{kind!r} is no message of ASGI that is known here")
        if line.blocked is not None:
            await line.drained()

    def _start(self) -> None:
        if not self.begun:
            assert self._head is not None
            self.begun = True
            self.line.begin(self._head[0], self._head[1], None)

    def _end(self) -> None:
        """The body is complete; perhaps trailers are to come."""
        if self._trailing:
            return
        self.done = True
        self._head = None
        trailers, self._trailers = self._trailers, []
        self.line.end(trailers)
        self._finish()

    def _finish(self) -> None:
        self._parts.clear()
        self.held = 0
        self._wake()
        self.line.complete(self)

    async def _send_file(self, path: Any) -> None:
        """Sends a file as the body. The loop is not held up by a disk: a thread reads."""
        loop = self.line.loop
        if not os.path.isabs(path):
            raise Misuse(f"http.response.pathsend: {path!r} is no absolute path")
        assert self._head is not None
        fd = await loop.run_in_executor(None, os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            if self.line.broken:
                raise Disconnected("the client has left")
            self.begun = True
            self.line.begin(self._head[0], self._head[1], size)
            if self.request.method != "HEAD":
                await pump(self.line, fd, 0, size)
        finally:
            os.close(fd)
        self._end()

    def cancel(self) -> None:
        """Has the call end where it is, or before it has begun."""
        if self.task is not None:
            self.mount.cancel(self.task)

    async def run(self) -> None:
        """Calls the application, and sees to it that there is an end."""
        try:
            await self.mount.application(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._give_up(None)
            raise
        except BaseException as error:
            # Hosted code may raise what it likes, SystemExit too: the loop goes on.
            self._give_up(error)
        else:
            if not self.done:
                self._give_up(None)
        finally:
            self.mount.tasks.discard(self.task)

    def _give_up(self, error: BaseException | None) -> None:
        """The call has ended without the end of its response, or with an exception."""
        line = self.line
        if isinstance(error, AlreadyTold):
            pass
        elif error is not None and not ((line.broken or self.gone) and is_ours(error)):
            line.tell(self.request, "the application failed", error)
        elif error is None and not self.done and not line.broken and not self.gone:
            line.tell(self.request, "the application returned before its response was complete", None)
        if self.done:
            return
        self.done = True
        if line.broken:
            return
        if self.begun:
            line.cut()
            return
        self.begun = True
        line.fail()
        self._finish()


def is_ours(error: BaseException | None) -> bool:
    """Whether an exception of an application comes from ours that says that the client has left."""
    for _ in range(10):
        if error is None:
            return False
        if isinstance(error, Disconnected):
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(map(is_ours, error.exceptions))
        error = error.__cause__ or error.__context__
    return False


_KNOWN = frozenset(
    {
        "http.response.start",
        "http.response.body",
        "http.response.pathsend",
        "http.response.trailers",
        "http.response.early_hint",
    }
)
