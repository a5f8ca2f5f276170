"""The loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from threading import Event, Thread, get_ident
from typing import Any

from appd.http.log.entrylog import EntryLog, tell_failure
from appd.journal import ERROR

__all__ = ["LoopThread"]

# So long the same answer is given to the question whether it turns, in seconds.
_ASKED = 0.3


class LoopThread:
    """An asyncio loop that runs until it is stopped.

    Args:
        log: The log: what nobody catches in a task or callback is an entry.

    Attributes:
        loop: The loop.
        ident: The thread; 0 before it runs.

    Resource handling: owns a daemon thread from `start` until `stop`; the loop is closed then, and never before.
    """

    def __init__(self, log: EntryLog) -> None:
        self.loop = _new_loop()
        self.loop.set_exception_handler(self._failed)
        self.ident = 0
        self._log = log
        self._thread: Thread | None = None
        self._rides = False
        self._rung = self._heard = 0
        self._asked, self._answered = 0.0, True

    def ride(self, reactor: Any) -> None:
        """Has the thread of the reactor run the loop, and no other; calling again does nothing.

        Args:
            reactor: The reactor, before it runs: `appd.listening.ride`.
        """
        if not self._rides:
            reactor.ride(self.loop, self._end)
            self._rides = True

    def start(self) -> None:
        """Begins to run; calling again does nothing."""
        if self._rides:
            self.ident = get_ident()
        elif self._thread is None:
            running = Event()
            self._thread = Thread(target=self._run, args=(running,), name="loop", daemon=True)
            self._thread.start()
            running.wait()

    def _run(self, running: Event) -> None:
        asyncio.set_event_loop(self.loop)
        assert self._thread is not None
        self.ident = self._thread.ident or 0
        self.loop.call_soon(running.set)
        try:
            self.loop.run_forever()
        finally:
            self._end()
            asyncio.set_event_loop(None)

    def _end(self) -> None:
        with suppress(Exception):  # what is left of hosted code may do anything
            self._end_tasks()
        self.loop.close()

    def _end_tasks(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for one in tasks:
            one.cancel()
        self.loop.run_until_complete(asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1.0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())

    @property
    def apart(self) -> bool:
        """Whether it is a thread of its own that runs."""
        return self._thread is not None

    def stop(self, timeout: float = 2.0) -> bool:
        """Cancels what still runs and ends the thread.

        Args:
            timeout: How long to wait for it, in seconds.

        Returns:
            Whether it has ended.
        """
        if self._thread is None:  # or it ends with the reactor
            return True
        with suppress(RuntimeError):  # it has ended already
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def post(self, call: Callable[..., object], *arguments: Any) -> bool:
        """Has the loop call something. Any thread may ask.

        Returns:
            Whether it will; not when it has ended.
        """
        try:
            self.loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            return False
        return True

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Has the loop run a coroutine. Any other thread may ask."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def alive(self) -> bool:
        """Whether the loop has turned since the last time that this was asked."""
        now = time.monotonic()
        if self.ident and now - self._asked >= _ASKED:
            self._asked, self._answered = now, self._heard >= self._rung
            if self._answered:
                self._rung += 1
                self.post(self._hear, self._rung)
        return self._answered

    def _hear(self, rung: int) -> None:
        self._heard = rung

    def _failed(self, _loop: Any, context: dict[str, Any]) -> None:
        """Something on the loop has raised, and nobody was there to catch it."""
        error, what = context.get("exception"), context.get("message") or "unhandled failure on the loop"
        if error is not None:
            tell_failure(self._log, what, error, LOGGER="asyncio")
        else:
            self._log.write(what, ERROR, LOGGER="asyncio")


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
