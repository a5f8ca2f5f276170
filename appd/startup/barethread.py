"""A thread of ours that `threading` knows nothing of, so that starting it imports nothing and waits for nothing."""

from __future__ import annotations

from _thread import get_ident, get_native_id, start_new_thread

from appd.startup.bare import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["BareThread", "claim_main_thread", "names"]

names: dict[int, str] = {}
"""Those that run, by their identity, for people."""


class BareThread:
    """A thread that ends with the process at the latest.

    Hosted code that runs in one finds a `threading.current_thread()` that is no real one, as in threads of C.

    Args:
        task: What it does.
        name: What people call it.

    Attributes:
        native_id: Its number in the kernel; 0 before it runs.
    """

    def __init__(self, task: Callable[[], None], name: str) -> None:
        self._task = task
        self._name = name
        self.native_id = 0
        # Held while it runs.
        self._runs = Lock()

    def start(self) -> None:
        """Starts it, once.

        Raises:
            RuntimeError: The system allows no further thread.
        """
        self._runs.acquire()
        try:
            start_new_thread(self._run, ())
        except RuntimeError:
            self._runs.release()
            raise

    def _run(self) -> None:
        names[get_ident()], self.native_id = self._name, get_native_id()
        try:
            self._task()
        finally:
            del names[get_ident()]
            self._runs.release()

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._runs.locked()

    def join(self, timeout: float) -> None:
        """Waits for its end.

        Args:
            timeout: For so many seconds at most.
        """
        if self._runs.acquire(timeout=timeout):
            self._runs.release()


def claim_main_thread() -> None:
    """Has `threading` know the main thread, which is to call this.

    Up to Python 3.12 it takes for that whoever imports it first, and hosted code may have done so in a thread of ours.
    """
    import threading

    taken = threading.main_thread()
    if taken.ident != get_ident():
        inside: Any = threading
        inside._active.pop(taken.ident, None)
        inside._main_thread = inside._MainThread()
