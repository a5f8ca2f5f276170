"""A child process of the reactor: its output line by line, its end, and what it has left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

__all__ = ["Child", "describe_end"]

# As of `journal.prints`: a program that never ends its line does not collect it in memory for ever.
_LINE_MAX = 48 * 1024
_LISTEN_FDS_START = 3


class Child(ProcessProtocol):
    """One child.

    Args:
        line: Called with each line of its output.
        ended: Called with why, when it has ended and its output is read.
    """

    def __init__(self, line: Callable[[bytes], object], ended: Callable[[Failure], object]) -> None:
        self._line = line
        self._ended = ended
        self._begun = {1: b"", 2: b""}
        self.transport: Any = None
        self.pid = 0

    def start(
        self,
        reactor: Any,
        program: Sequence[str],
        environment: Mapping[str, str],
        directory: str | None,
        descriptors: Sequence[int],
    ) -> None:
        """Starts it.

        Args:
            reactor: The reactor.
            program: What is executed, as `launched` has it.
            environment: Its whole environment.
            directory: Where it is started.
            descriptors: What it gets on 3 and up.

        Raises:
            OSError: There can be no further process.
        """
        fds: dict[int, Any] = {0: os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 1: "r", 2: "r"}
        fds |= dict(enumerate(descriptors, _LISTEN_FDS_START))
        try:
            transport: Any = reactor.spawnProcess(self, program[0], program, dict(environment), directory, childFDs=fds)
        finally:
            os.close(fds[0])
        self.pid = transport.pid

    def signal(self, number: int, whole: bool = False) -> None:
        """Sends it a signal; one that has gone gets none.

        Args:
            number: The signal.
            whole: Whether everything it has started in its group gets it too.
        """
        if not self.pid:
            return
        with suppress(ProcessLookupError, PermissionError):
            if whole:
                os.killpg(self.pid, number)
                return
        if self.transport is not None and self.transport.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.transport.pid, number)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Takes output; the lines of standard output and error do not mix."""
        *lines, rest = (self._begun[childFD] + data).split(b"\n")
        if len(rest) > _LINE_MAX:
            lines.append(rest)
            rest = b""
        self._begun[childFD] = rest
        for line in lines:
            self._line(line.rstrip(b"\r"))

    def processExited(self, reason: Failure) -> None:
        """What it has started is no use without it, and would hold its output open."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def processEnded(self, reason: Failure) -> None:
        """It has been waited for, and its output is read to the end."""
        for rest in self._begun.values():
            if rest:
                self._line(rest)
        self._ended(reason)


def describe_end(reason: Failure) -> str:
    """How a child has ended, for people."""
    error = reason.value
    if isinstance(error, ProcessDone):
        return "has ended with 0"
    if isinstance(error, ProcessTerminated):
        if error.signal:
            return f"was ended by {signal.Signals(error.signal).name}"
        return f"has ended with {error.exitCode}"
    return f"has ended: {error}"
