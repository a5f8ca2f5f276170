"""SIGTERM and its kin, from the first line of appd's own code on.

Until the reactor runs nothing is in flight, so a signal ends the process where it stands: `Stopped` is raised out of
whatever the main thread does, an import of hosted code included. Once the reactor runs a signal begins the drain, and a
second one ends it.
"""

from __future__ import annotations

import os

from appd.startup.bare import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["RESUME", "StopSignals", "Stopped"]

# The variable that tells a process that it goes on where an earlier version of the program stopped in it, and on which
# descriptor that left its state. Signals are blocked then until it has taken over.
RESUME = "APPD_RESUME"

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Stopped(SystemExit):
    """The process was told to stop before it served.

    No Exception, so that hosted code does not swallow it; uncaught it ends the process with 0.
    """


def _is_lost_in(frame: Any) -> bool:
    """Whether Python would print what is raised there, and go on: in a destructor, or when importlib drops a lock.

    `check` raises it then, a moment later.
    """
    code = frame.f_code if frame is not None else None
    return code is not None and (
        code.co_name == "__del__" or (code.co_name == "cb" and code.co_filename == "<frozen importlib._bootstrap>")
    )


class StopSignals:
    """What the ending signals do.

    Args:
        set_handler: What installs a handler: signal.signal.

    Attributes:
        received: The first ending signal, None before there was one.
        hung_up: Whether SIGHUP came before the reactor ran.
        noted: Those that came after `note`.
        serves: Whether something is in flight already, so that the end takes time: then a further signal does not
            interrupt it by another `Stopped`.
    """

    def __init__(self, set_handler: Callable[..., Any] = signal.signal) -> None:
        self._set_handler = set_handler
        self.received: int | None = None
        self.hung_up = False
        self.noted: list[int] = []
        self.serves = False

    def raise_when_told(self) -> None:
        """For the time before the reactor runs: an ending signal raises `Stopped` in the main thread."""
        for number in _ENDING:
            self._set_handler(number, self._raise)
        # The default action would end a process that only was asked to reload.
        self._set_handler(signal.SIGHUP, self._hang_up)

    def check(self) -> None:
        """Raises `Stopped` if a signal came that hosted code swallowed."""
        if self.received is not None:
            raise Stopped(0)

    def _raise(self, number: int, frame: Any) -> None:
        again, self.received = self.received is not None, number
        if not (again and self.serves) and not _is_lost_in(frame):
            raise Stopped(0)

    def _hang_up(self, _number: int, _frame: Any) -> None:
        self.hung_up = True

    def note(self) -> None:
        """For a moment in which nothing can be ended or reloaded: signals are in `noted`, for who takes them next."""
        for number in (*_ENDING, signal.SIGHUP):
            self._set_handler(number, lambda number, _frame: self.noted.append(number))

    def note_when_told(self, leave: Callable[[], Any], *, insists: bool) -> None:
        """For a drain without the reactor.

        Args:
            leave: Called in the signal handler for SIGQUIT, and for a further signal.
            insists: Whether a further signal means that. A supervisor has SIGQUIT for it, and beside its own word the
                service manager may send each process one.
        """

        def told(number: int, _frame: Any) -> None:
            if insists or number == signal.SIGQUIT:
                leave()

        for number in _ENDING:
            self._set_handler(number, told)

    def exit_when_told(self, code: int) -> None:
        """For the time after the reactor: an ending signal ends the process at once.

        Args:
            code: The exit code.
        """
        for number in _ENDING:
            self._set_handler(number, lambda *_: os._exit(code))

    def call_when_told(
        self,
        call_from_thread: Callable[..., Any],
        drain: Callable[[], Any],
        leave: Callable[[], Any],
        reload: Callable[[], Any],
    ) -> None:
        """For the time when the reactor runs.

        Args:
            call_from_thread: The reactor's callFromThread, which is safe in a signal handler.
            drain: Called for each SIGTERM, SIGINT and SIGQUIT; to be asked again changes nothing.
            leave: Called after it for a second one, and for SIGQUIT.
            reload: Called for SIGHUP, for an earlier one too.
        """

        def told(number: int, _frame: Any) -> None:
            again, self.received = self.received is not None, number
            call_from_thread(drain)
            if again or number == signal.SIGQUIT:
                call_from_thread(leave)

        for number in _ENDING:
            self._set_handler(number, told)
        self._set_handler(signal.SIGHUP, lambda _number, _frame: call_from_thread(reload))
        if self.hung_up:
            call_from_thread(reload)
