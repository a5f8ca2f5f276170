"""An ASGI application that is being served."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from appd.http.core.errors import Refused
from appd.http.lane.mounted import Mounted
from appd.http.loop.exchange import Exchange
from appd.http.loop.scope import make_scope
from appd.http.loop.upgrade import asks_for_websocket, read_offer

if TYPE_CHECKING:
    from appd.http.core.request import Request
    from appd.http.loop.driver import Driver
    from appd.http.loop.lifespan import Lifespan
    from appd.http.site import Asgi, Mount

__all__ = ["AsgiMounted"]


class AsgiMounted(Mounted):
    """An application.

    Args:
        mount: What the file says of it.
        serves: The application.
        driver: The loop that runs it.
        lifespan: Its beginning and end.

    Attributes:
        application: What is called.
        dotted: What people call it.
        root_path: The path of the mount, decoded, for the scope.
        tasks: The calls that run; each takes itself out when it ends.
        heads: Heads of responses that were checked.
    """

    wants_body = True

    def __init__(self, mount: Mount, serves: Asgi, driver: Driver, lifespan: Lifespan) -> None:
        super().__init__(mount)
        self.driver = driver
        self.serves = serves
        self.dotted = serves.dotted
        self.application = serves.application
        self.lifespan = lifespan
        self.root_path = mount.route.text.rstrip("/")
        self.tasks: set[asyncio.Task[Any]] = set()
        self.heads: dict[Any, Any] = {}
        self._create_task = driver.loop.create_task
        # What of ours is no coroutine, and answers when it likes: a resource.
        self._begin_directly = getattr(serves.application, "begin", None)

    @property
    def state(self) -> dict[str, Any] | None:
        """What the application put there when it began."""
        return self.lifespan.state

    def begin(self, line: Any, request: Request) -> None:
        """Calls the application for a request, in the thread of the loop."""
        if self._begin_directly is not None:
            self._begin_directly(line, request, self)
            return
        if line.protocol or (self.serves.websocket and "upgrade" in request.named and asks_for_websocket(request)):
            self._begin_websocket(line, request)
            return
        exchange = line.exchange = Exchange(line, request, self, make_scope(line, request, self))
        task = exchange.task = self._create_task(exchange.run())
        self.tasks.add(task)

    def _begin_websocket(self, line: Any, request: Request) -> None:
        # Late: wsproto is an extra.
        from appd.http.loop.handshake import Handshake

        if request.named.get("sec-websocket-version", "").strip() != "13":
            line.plain(426, ("Sec-WebSocket-Version", "13"))
            return
        try:
            offer = read_offer(request, tunnel=bool(line.protocol))
        except Refused as refused:
            line.refuse(refused)
            return
        scope = make_scope(line, request, self, websocket=True)
        scope["subprotocols"] = offer.subprotocols
        handshake = line.exchange = Handshake(line, request, self, scope, offer)
        task = handshake.task = self._create_task(handshake.run())
        self.tasks.add(task)

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancels a call. One that has not begun never does, and cannot take itself out of `tasks` at its end."""
        task.add_done_callback(self.tasks.discard)
        task.cancel()
