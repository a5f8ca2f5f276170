"""A poll loop for a process without threads: descriptors, deadlines, signals."""

from __future__ import annotations

import heapq
import select
import signal
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Poller", "describe_exit"]


class Poller:
    """Calls back when a descriptor is ready, a deadline has come, or a signal.

    Args:
        clock: Monotonic seconds.

    Resource handling: `close` closes what it made for signals; registered descriptors are their owners'.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._poll = select.poll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._fresh: set[int] = set()
        self._deadlines: list[tuple[float, int, list[Callable[[], None] | None]]] = []
        self._count = 0
        self._signals: dict[int, Callable[[], None]] = {}
        self._wake, self._woken = socket.socketpair()
        for one in (self._wake, self._woken):
            one.setblocking(False)
        self.register(self._woken.fileno(), self._signalled)

    def register(self, fd: int, ready: Callable[[], None], events: int = select.POLLIN) -> None:
        """Calls `ready` whenever a descriptor is ready (or broken)."""
        self._ready[fd] = ready
        self._fresh.add(fd)
        self._poll.register(fd, events)

    def unregister(self, fd: int) -> None:
        """Forgets a descriptor; before it is closed."""
        if self._ready.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def on_signal(self, number: int, call: Callable[[], None]) -> None:
        """Calls back for a signal, from the loop and not from the handler."""
        self._signals[number] = call
        signal.signal(number, lambda *_: None)
        signal.siginterrupt(number, False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def call_later(self, delay: float, call: Callable[[], None]) -> Callable[[], None]:
        """Calls back once after some seconds. Returns what takes that back."""
        cell: list[Callable[[], None] | None] = [call]
        self._count += 1
        heapq.heappush(self._deadlines, (self.clock() + delay, self._count, cell))

        def cancel() -> None:
            cell[0] = None

        return cancel

    def turn(self, most: float = 3600.0) -> None:
        """Waits for what comes next and calls back for it.

        Args:
            most: How long to wait at most, in seconds.
        """
        if self._deadlines:
            most = min(most, max(0.0, self._deadlines[0][0] - self.clock()))
        found = self._poll.poll(most * 1000)
        self._fresh.clear()
        for fd, _events in found:
            ready = self._ready.get(fd)
            # A number that was closed and opened anew in this turn is not what was found ready.
            if ready is not None and fd not in self._fresh:
                ready()
        now = self.clock()
        while self._deadlines and self._deadlines[0][0] <= now:
            call = heapq.heappop(self._deadlines)[2][0]
            if call is not None:
                call()

    @property
    def signalled(self) -> bool:
        """Whether a signal has come that nobody was called for yet."""
        return bool(select.select([self._woken], [], [], 0)[0])

    def _signalled(self) -> None:
        try:
            numbers = self._woken.recv(4096)
        except BlockingIOError:
            return
        # One SIGCHLD stands for any number of children, but two SIGTERM are two.
        for number in numbers:
            call = self._signals.get(number)
            if call is not None:
                call()

    def detach(self) -> None:
        """In a forked child: forgets its descriptors without closing them."""
        self._wake.detach()
        self._woken.detach()

    def close(self) -> None:
        """Closes what it made."""
        signal.set_wakeup_fd(-1)
        self._wake.close()
        self._woken.close()


def describe_exit(status: int) -> str:
    """What wait(2) says of a child, for people."""
    import os

    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"was killed by {signal.Signals(number).name}"
        except ValueError:
            return f"was killed by signal {number}"
    return f"ended with {os.waitstatus_to_exitcode(status)}"
