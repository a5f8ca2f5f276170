"""Applications that block the loop: who keeps everybody waiting is named in the journal, with where it is.

A thread looks now and then whether the loop has turned since; while nothing happens it sleeps.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from appd.http.log.entrylog import EntryLog
from appd.http.loop.thread import LoopThread
from appd.journal import WARNING

__all__ = ["Watch"]

# How often is looked, and how long the loop may stand still, in seconds. asyncio's debug mode calls 0.1 s slow; at a
# second people notice.
_TICK, _PATIENCE = 0.25, 1.0
# After so many looks at which nothing had happened it sleeps.
_STILL = 8
# The next is told after so many seconds.
_AGAIN = 60.0


class Watch:
    """Looks after a loop.

    Args:
        thread: The loop.
        log: The log.
        who: Tells which application a task is of; "" for none.

    Resource handling: owns a daemon thread from `start` until `stop`.
    """

    def __init__(self, thread: LoopThread, log: EntryLog, who: Callable[[Any], str]) -> None:
        self._thread = thread
        self._log = log
        self._who = who
        self._awake = Event()
        self._stopping = False
        self._turns = 0
        self._watching: Thread | None = None
        self._told = 0.0

    def start(self, asleep: Callable[[], None]) -> None:
        """Begins to look; calling again does nothing.

        Args:
            asleep: Called when nothing happens any more: who sees something happen calls `wake` then.
        """
        if self._watching is None:
            self._watching = Thread(target=self._run, args=(asleep,), name="loop-watch", daemon=True)
            self._watching.start()

    def stop(self) -> None:
        """Looks no more."""
        self._stopping = True
        self._awake.set()

    def wake(self) -> None:
        """Something happens. Any thread may call."""
        self._turns += 1
        self._awake.set()

    def _run(self, asleep: Callable[[], None]) -> None:
        while not self._stopping:
            self._awake.wait()
            self._awake.clear()
            still = 0
            while still < _STILL and not self._stopping:
                still += 1
                if not self._look():
                    still = 0
            # Whoever sees something happen from here on wakes us.
            asleep()

    def _look(self) -> bool:
        """Asks the loop to turn. Returns whether it has in time."""
        turned = Event()
        self._thread.post(turned.set)
        if turned.wait(_PATIENCE):
            self._awake.wait(_TICK)
            return True
        if self._stopping:
            return True
        self._tell()
        while not turned.wait(_TICK) and not self._stopping:
            pass
        return False

    def _tell(self) -> None:
        now = time.monotonic()
        frame = sys._current_frames().get(self._thread.ident)
        if frame is None or (self._told and now < self._told + _AGAIN):
            return
        self._told = now
        task = asyncio.current_task(self._thread.loop)
        who = self._who(task) or "something"
        where = "".join(traceback.format_stack(frame)).rstrip()
        line = f"{who} has blocked the loop for {_PATIENCE:g} s, and everybody on it waits; it is at:\n{where}"
        self._log.write(line, WARNING, LOGGER="appd.asgi")
