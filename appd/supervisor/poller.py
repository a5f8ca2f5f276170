"""A poll loop for a process without threads: descriptors, deadlines, signals."""

from __future__ import annotations

import heapq
import os
import select
import signal
import time

from appd.errors import EX_CONFIG, EX_OK, EX_SOFTWARE, EX_UNAVAILABLE, EX_USAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Poller", "describe_exit", "exit_code"]

_CODES = frozenset([EX_OK, EX_USAGE, EX_UNAVAILABLE, EX_SOFTWARE, EX_CONFIG])


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
        # A pipe holds 65536 signals that nobody has looked at, a socket some 280: a SIGTERM among the ends of very many
        # workers is not to be lost.
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.register(self._woken, self._signalled)

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
        # One that came between the first of these and the last would be lost.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        try:
            signal.signal(number, lambda *_: None)
            signal.siginterrupt(number, False)
            signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

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
            numbers = os.read(self._woken, 65536)
        except BlockingIOError:
            return
        # One SIGCHLD stands for any number of children, but two SIGTERM are two.
        for number in numbers:
            self.take_signal(number)

    def take_signal(self, number: int) -> None:
        """Calls back for a signal that has come, if that is to be."""
        call = self._signals.get(number)
        if call is not None:
            call()

    def close(self) -> None:
        """Closes what it made."""
        signal.set_wakeup_fd(-1)
        os.close(self._wake)
        os.close(self._woken)


def exit_code(status: int) -> int:
    """What a process of appd's ended with, of sysexits(3), or what that comes to when hosted code or Python ended it.

    Args:
        status: What wait(2) says of it.

    Returns:
        0, one of appd's own codes, or 70.
    """
    code = os.waitstatus_to_exitcode(status)
    return code if code in _CODES else EX_SOFTWARE


def describe_exit(status: int) -> str:
    """What wait(2) says of a child, for people."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"was killed by {signal.Signals(number).name}"
        except ValueError:
            return f"was killed by signal {number}"
    return f"ended with {os.waitstatus_to_exitcode(status)}"
