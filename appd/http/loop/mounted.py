"""An ASGI application that is being served."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from appd.http.loop.exchange import Exchange
from appd.http.loop.scope import make_scope
from appd.http.mounted import Mounted

if TYPE_CHECKING:
    from appd.http.loop.driver import Driver
    from appd.http.loop.lifespan import Lifespan
    from appd.http.request import Request
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
        tasks: The calls that run.
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

    @property
    def state(self) -> dict[str, Any] | None:
        """What the application put there when it began."""
        return self.lifespan.state

    def begin(self, line: Any, request: Request) -> None:
        """Calls the application for a request, in the thread of the loop."""
        exchange = Exchange(line, request, self, make_scope(line, request, self))
        line.exchange = exchange
        task = exchange.task = self.driver.loop.create_task(exchange.run())
        self.tasks.add(task)
        # Not at the end of its coroutine: one that is cancelled early enough never begins.
        task.add_done_callback(self.tasks.discard)
