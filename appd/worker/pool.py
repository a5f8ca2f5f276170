"""The threads of whatever is served by Twisted's transports: mail, files, passwords.

Twisted's pool, with an end: what still waits when nothing is waited for any more is cancelled, and whoever waits for it
hears of that (CancelledError), in place of never hearing anything. Of each task either the function or that is called,
once; after the end at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Lock, Thread
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

__all__ = ["ApplicationThreads"]

_Result = Callable[[bool, Any], object]


class _DaemonThread(Thread):
    """A thread that does not keep the process alive: a hosted call may never return."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, daemon=True, **kwargs)


class _Task:
    """What somebody has asked for."""

    __slots__ = ("cancelled", "on_result")

    def __init__(self, on_result: _Result | None) -> None:
        self.on_result = on_result
        self.cancelled = False

    def done(self, ok: bool, result: Any) -> None:
        """A thread has been at it."""
        if not self.cancelled and self.on_result is not None:
            self.on_result(ok, result)

    def cancel(self) -> None:
        """Tells whoever waits for it."""
        if self.on_result is not None:
            self.on_result(False, Failure(CancelledError("the process ends")))


class ApplicationThreads(ThreadPool):
    """The pool that runs blocking calls; it is not started.

    Args:
        most: How many calls run at once.

    Attributes:
        running: How many run.
        cancelled: How many have waited, and were cancelled.
    """

    threadFactory = _DaemonThread

    def __init__(self, most: int) -> None:
        super().__init__(minthreads=0, maxthreads=most, name="application")
        self.running = self.cancelled = 0
        # A dict as a set that keeps the order; who takes a task out of it decides what becomes of it.
        self._waiting: dict[_Task, None] = {}
        self._deciding = Lock()
        self._ended = False

    @property
    def queued(self) -> int:
        """How many wait for a thread."""
        return len(self._waiting)

    def callInThreadWithCallback(self, onResult: Any, func: Any, *args: Any, **kw: Any) -> None:
        """See IThreadPool; a task that is cancelled has its `onResult` called with a CancelledError."""
        task = _Task(onResult)
        with self._deciding:
            ended = self._ended
            if not ended:
                self._waiting[task] = None
        if ended:
            task.cancel()
            return
        # Without anybody to tell, Twisted logs what a function raises.
        done = None if onResult is None else task.done
        super().callInThreadWithCallback(done, self._run, task, partial(func, *args, **kw))

    def _run(self, task: _Task, call: Callable[[], Any]) -> Any:
        with self._deciding:
            if task.cancelled:
                return None
            del self._waiting[task]
            self.running += 1
        try:
            return call()
        finally:
            with self._deciding:
                self.running -= 1

    def end(self) -> int:
        """Cancels what waits, and from now on whatever comes.

        Returns:
            How many have waited.
        """
        with self._deciding:
            self._ended = True
            those, self._waiting = list(self._waiting), {}
            for task in those:
                task.cancelled = True
            self.cancelled += len(those)
        for task in those:
            task.cancel()
        return len(those)
