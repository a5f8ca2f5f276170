"""Resources of twisted.web on the loop: an ASGI application whose answers come from the thread of the reactor.

    loop: ASGI ─▶ callFromThread ─▶ reactor: Channel ─▶ twisted.web's Request ─▶ resource
          send ◀─ call_soon_threadsafe ◀──── said ◀─────────────────┘

So a resource is served by whatever serves ASGI: HTTP/1.1, HTTP/2, TLS, behind proxies, within the limits, beside other
mounts. Nothing waits for the other thread: what was said is taken when it is told, in as few turns as it comes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.python import log

from appd.http.core.errors import AlreadyTold
from appd.servers.http.resource_channel import DONE, Channel, Head, Mounted

__all__ = ["ResourceApplication"]

# A client that leaves is looked for only when an answer takes longer than so many seconds: most take less.
_LATE = 0.05


class ResourceApplication:
    """A resource as an ASGI application.

    Args:
        root: The resource.
        depth: How many segments the path of its mount has.
    """

    def __init__(self, root: Any, depth: int) -> None:
        self._site = Mounted(root, depth)
        self._queue = _Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI 3."""
        if scope["type"] == "http":
            # The one that runs by now; it need not have been there when this was made.
            from twisted.internet import reactor

            await _Visit(self._site, self._queue, reactor, scope, receive, send).run()
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise NotImplementedError(f"a resource knows no {scope['type']}")


class _Queue:
    """What begins in the thread of the reactor: to wake it costs a system call, which many requests of a turn share."""

    def __init__(self) -> None:
        self._begins: deque[Callable[[], None]] = deque()
        self._is_posted = False

    def post(self, begin: Callable[[], None], reactor: Any) -> None:
        """In the thread of the loop."""
        self._begins.append(begin)
        if not self._is_posted:
            self._is_posted = True
            reactor.callFromThread(self._run)

    def _run(self) -> None:
        # In this order: what is put in from here on is posted anew, and stays before what its visit posts later.
        self._is_posted = False
        for _ in range(len(self._begins)):
            try:
                self._begins.popleft()()
            except Exception:
                log.err()


class _Visit:
    """One request, in the thread of the loop."""

    def __init__(self, site: Mounted, queue: _Queue, reactor: Any, scope: Any, receive: Any, send: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(site, scope, self._told)
        self._reactor = reactor
        self._queue = queue
        self._scope = scope
        self._receive = receive
        self._send = send
        self._is_told = False
        self._waiter: asyncio.Future[None] | None = None
        self._gone = False
        self._leaving: asyncio.Task[None] | None = None

    def _told(self) -> None:
        """In the thread of the reactor: something was said."""
        if not self._is_told:
            self._is_told = True
            # A loop that has ended asks no more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def run(self) -> None:
        """Has the resource answer, and passes the answer on."""
        if not await self._pass_request():
            return
        late = self._loop.call_later(_LATE, self._look_for_leaving)
        done = False
        try:
            done = await self._pass_answer()
        finally:
            late.cancel()
            if self._leaving is not None:
                self._leaving.cancel()
            # Who is done need not be told, and the reactor not be woken for it.
            if not done:
                self._reactor.callFromThread(self._channel.lost)

    async def _pass_request(self) -> bool:
        """Returns whether all of it has come."""
        channel, in_reactor = self._channel, self._reactor.callFromThread
        length = self._scope["appd.length"]
        if length == 0:
            self._queue.post(self._begin_whole, self._reactor)
            return True
        in_reactor(channel.begin, length, self._reactor)
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                in_reactor(channel.lost)
                return False
            if message.get("body"):
                in_reactor(channel.body, message["body"])
            if not message.get("more_body", False):
                in_reactor(channel.complete)
                return True

    def _begin_whole(self) -> None:
        """In the thread of the reactor: a request without a body."""
        # Most resources answer at once: the loop is woken when all that they say is there.
        self._is_told = True
        try:
            self._channel.begin(0, self._reactor)
            self._channel.complete()
        finally:
            self._is_told = False
            if self._channel.said:
                self._told()

    def _look_for_leaving(self) -> None:
        self._leaving = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._wake()

    async def _pass_answer(self) -> bool:
        """Returns whether the resource has said all; otherwise the client has left."""
        said, send = self._channel.said, self._send
        while not self._gone:
            # In this order: what is said from here on is told of again.
            self._is_told = False
            body = []
            while said:
                one = said.popleft()
                if type(one) is bytes:
                    body.append(one)
                elif type(one) is Head:
                    await send({"type": "http.response.start", "status": one.status, "headers": one.fields})
                elif one is DONE:
                    await send({"type": "http.response.body", "body": b"".join(body), "more_body": False})
                    return True
                else:
                    await self._pass_body(b"".join(body))
                    raise AlreadyTold("the resource has given up its connection")
            if body:
                await self._pass_body(b"".join(body))
            elif not self._is_told:
                self._waiter = self._loop.create_future()
                await self._waiter
        return False

    async def _pass_body(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        channel = self._channel
        channel.taken += len(data)
        if channel.paused:
            self._reactor.callFromThread(channel.resume)
