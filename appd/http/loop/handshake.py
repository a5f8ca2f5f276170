"""A request for a WebSocket, until the application has accepted it or said no."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from appd.http.loop.exchange import is_ours
from appd.http.loop.heads import make_head
from appd.http.loop.pump import Disconnected
from appd.http.loop.upgrade import Offer
from appd.http.loop.websocket import INTERNAL, NORMAL, WebSocket

if TYPE_CHECKING:
    from appd.http.core.request import Request

__all__ = ["Handshake"]

_EMPTY = b""
_FORBIDDEN = 403
# What of the handshake is ours to say.
_OURS = frozenset({"sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-protocol", "content-length"})


class Handshake:
    """To the connection it is what an `Exchange` is.

    Args:
        line: The connection, or a stream of one.
        request: The request.
        mount: The mount.
        scope: What the application is told.
        offer: What the client asks for.

    Attributes:
        task: What runs the application.
        done: Whether it is over, one way or the other.
    """

    __slots__ = (
        "_begun",
        "_head",
        "_lost",
        "_offer",
        "_told",
        "_waiter",
        "_websocket",
        "done",
        "line",
        "mount",
        "request",
        "scope",
        "task",
    )

    def __init__(self, line: Any, request: Request, mount: Any, scope: dict[str, Any], offer: Offer) -> None:
        self.line = line
        self.request = request
        self.mount = mount
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        self.done = False
        self._offer = offer
        self._told = self._lost = self._begun = False
        self._head: tuple[int, Any] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._websocket: WebSocket | None = None

    # As of an exchange.

    def feed(self, data: bytes) -> bool:
        """There is no body."""
        return True

    def end_body(self) -> None:
        """There is no body."""

    def lost(self) -> None:
        """The client has left."""
        self._lost = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the application calls.

    async def receive(self) -> dict[str, Any]:
        """websocket.connect, then what comes."""
        if self._websocket is not None:
            return await self._websocket.receive()
        if not self._told:
            self._told = True
            return {"type": "websocket.connect"}
        while not (self._lost or self.done):
            if self._waiter is None or self._waiter.done():
                self._waiter = self.line.loop.create_future()
            await asyncio.shield(self._waiter)
        return {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    async def send(self, message: Any) -> None:
        """Accepts, or answers.

        Raises:
            Disconnected: The client has left.
            RuntimeError: It is not its turn.
        """
        if self._websocket is not None:
            await self._websocket.send(message)
            return
        kind = message["type"]
        if self.line.broken:
            raise Disconnected("the client has left")
        if self.done:
            raise RuntimeError(f"{kind} was sent after the end")
        if kind == "websocket.accept" and self._head is None:
            self._accept(message)
        elif kind == "websocket.close" and self._head is None:
            self._answer(_FORBIDDEN, [], _EMPTY)
        elif kind == "websocket.http.response.start" and self._head is None:
            self._head = make_head(self.mount, message["status"], message.get("headers", ()))
        elif kind == "websocket.http.response.body" and self._head is not None:
            await self._answer_part(message)
        else:
            raise RuntimeError(f"{kind!r} was sent when it was not its turn")

    def _accept(self, message: Any) -> None:
        line, offer, serves = self.line, self._offer, self.mount.serves
        extensions, said = offer.deflate() if serves.compression else ([], "")
        fields = []
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            if subprotocol not in offer.subprotocols:
                raise RuntimeError(f"the client does not speak the subprotocol {subprotocol!r}")
            fields.append(("Sec-WebSocket-Protocol", subprotocol))
        if said:
            fields.append(("Sec-WebSocket-Extensions", said))
        given = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers") or ()]
        given = self.mount.with_headers([one for one in given if one[0].lower() not in _OURS])
        client = line.accept(offer.accept, [*fields, *given])
        self.done = True
        websocket = self._websocket = WebSocket(client, self.request, self.mount, extensions)
        rest = client.hand_to(websocket)
        if line.server.draining:
            websocket.drain(0.0)
        if rest:
            websocket.data_received(rest)
        if client.ended:
            websocket.transport.close()

    def _answer(self, status: int, fields: Any, body: bytes) -> None:
        self.done = True
        head = make_head(self.mount, status, fields)
        self.line.whole(head[0], head[1], body)
        self.line.complete(self)

    async def _answer_part(self, message: Any) -> None:
        line, head = self.line, self._head
        assert head is not None
        data, more = message.get("body", b""), message.get("more_body", False)
        if not more and not self._begun:
            self.done = True
            line.whole(head[0], head[1], data)
            line.complete(self)
            return
        if not self._begun:
            self._begun = True
            line.begin(head[0], head[1], None)
        line.data(data)
        if not more:
            self.done = True
            line.end(())
            line.complete(self)
        elif line.blocked is not None:
            await line.drained()

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
            self._give_up(None)
        finally:
            self.mount.tasks.discard(self.task)

    def _give_up(self, error: BaseException | None) -> None:
        line, websocket = self.line, self._websocket
        gone = line.broken or (websocket is not None and websocket.closed is not None)
        if error is not None and not (gone and is_ours(error)):
            line.tell(self.request, "the application failed", error)
        if websocket is not None:
            websocket.close(INTERNAL if error is not None else NORMAL)
            return
        if self.done:
            return
        self.done = True
        if line.broken:
            return
        if self._begun:
            line.cut()
            return
        if error is None:
            line.tell(self.request, "the application neither accepted nor closed the WebSocket", None)
        line.fail()
        line.complete(self)
