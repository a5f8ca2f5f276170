"""The beginning and the end of an ASGI application: https://asgi.readthedocs.io/en/latest/specs/lifespan.html.

An application that raises before it has asked for an event does not know of lifespans, says the specification, and is
served all the same. One that raises afterwards has failed to begin: served without what it wanted to have it would
fail request by request, so that the start fails (hypercorn and uvicorn go on here with a warning).
"""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any

from appd.http.log.entrylog import EntryLog, tell_failure
from appd.journal import ERROR, WARNING

if TYPE_CHECKING:
    from appd.http.site import Asgi

__all__ = ["Lifespan", "LifespanFailed"]


class LifespanFailed(Exception):
    """An application cannot begin.

    Attributes:
        dotted: Which.
        reason: One line.
        traceback: Its own, as text; "" for none.
    """

    def __init__(self, dotted: str, reason: str, traceback: str = "") -> None:
        super().__init__(f"{dotted}: {reason}")
        self.dotted = dotted
        self.reason = reason
        self.traceback = traceback


class Lifespan:
    """The lifespan of one application. In the thread of the loop only.

    Args:
        serves: The application.
        log: The log.

    Attributes:
        state: What it put into its state; None when it has none.
    """

    def __init__(self, serves: Asgi, log: EntryLog) -> None:
        self.state: dict[str, Any] | None = None
        self._serves = serves
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._asked = False
        self._answer: asyncio.Future[str | None] | None = None
        self._begun = self._ended = False

    async def start_up(self) -> None:
        """Has the application begin; calling again does nothing.

        Raises:
            LifespanFailed: It says that it cannot, or raises.
        """
        if self._begun or self._serves.lifespan == "off":
            return
        self._begun = True
        loop = asyncio.get_running_loop()
        self.state = {}
        self._answer = answer = loop.create_future()
        self._events.put_nowait({"type": "lifespan.startup"})
        self._task = loop.create_task(self._run(), name=f"lifespan of {self._serves.dotted}")
        await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            reason = answer.result()
            if reason is not None:
                self._ended = True
                *more, last = reason.strip().split("\n")
                raise LifespanFailed(self._serves.dotted, last, reason if more else "")
            return
        self._ended = True
        error = self._task.exception() if not self._task.cancelled() else None
        if error is None:
            if self._serves.lifespan == "on":
                raise LifespanFailed(self._serves.dotted, "it returned without lifespan.startup.complete")
        elif self._asked or self._serves.lifespan == "on":
            raise LifespanFailed(
                self._serves.dotted,
                (f"{type(error).__name__}: {error}".splitlines() or [""])[0],
                "".join(traceback.format_exception(error)),
            )
        self.state = None

    async def shut_down(self) -> None:
        """Has the application end; nothing is raised, and what it raises is logged."""
        if not self._begun or self._ended or self._task is None:
            return
        self._ended = True
        if self._task.done():
            self._tell_end()
            return
        self._answer = answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            reason = answer.result()
            if reason is not None:
                self._log.write(f"{self._serves.dotted} failed to shut down: {reason}", ERROR, LOGGER="appd.asgi")
        self._tell_end()

    def _tell_end(self) -> None:
        assert self._task is not None
        if self._task.done() and not self._task.cancelled() and (error := self._task.exception()) is not None:
            tell_failure(self._log, f"{self._serves.dotted} failed in its lifespan", error, LOGGER="appd.asgi")

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._serves.application(scope, self._receive, self._send)
        except (SystemExit, KeyboardInterrupt) as error:
            # These would end the loop.
            raise RuntimeError(f"it raised {type(error).__name__}({error})") from error

    async def _receive(self) -> dict[str, Any]:
        self._asked = True
        return await self._events.get()

    async def _send(self, message: Any) -> None:
        kind, answer = message["type"], self._answer
        if kind not in _ANSWERS:
            raise RuntimeError(f"{kind!r} is no message of the lifespan protocol")
        if answer is None or answer.done():
            self._log.write(f"{self._serves.dotted} sent {kind} when it was not its turn", WARNING, LOGGER="appd.asgi")
            return
        answer.set_result((message.get("message") or "it says no more") if kind.endswith(".failed") else None)


_ANSWERS = (
    "lifespan.startup.complete",
    "lifespan.startup.failed",
    "lifespan.shutdown.complete",
    "lifespan.shutdown.failed",
)
