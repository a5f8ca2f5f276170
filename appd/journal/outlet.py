"""Writing bytes to a descriptor without ever being stuck in it."""

from __future__ import annotations

import os
import select
import time

from appd.startup.bare import Callable

__all__ = ["Patience", "Stopped", "Stream", "wait_writable"]

# Asked again and again while there is nothing to do but wait; False ends the waiting.
Patience = Callable[[], bool]

# pipe(7): what fits is written at once, and not mixed with what other workers write.
_ATOMIC = select.PIPE_BUF
# How late somebody who waits for the journal sees that he need not wait any longer.
_SLICE_MS = 100


class Stopped(Exception):
    """The writer was told to end while it waited; what it had in hand is not written."""


def wait_writable(descriptor: int, patience: Patience) -> None:
    """Wait until a descriptor takes more, or is broken (the next write says how).

    Args:
        descriptor: Any descriptor that poll(2) takes.
        patience: Whether to go on waiting.

    Raises:
        Stopped: Patience ended.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    while not poll.poll(_SLICE_MS):
        if not patience():
            raise Stopped


class Stream:
    """A terminal, pipe or file, most often standard error.

    Resource handling: the descriptor is the caller's and stays open.
    """

    def __init__(self, descriptor: int) -> None:
        """Use a descriptor.

        Args:
            descriptor: Open for writing, blocking or not. One that is closed now is never written to, since its number
                may belong to anything later.
        """
        self._descriptor = descriptor
        try:
            self.status: os.stat_result | None = os.fstat(descriptor)
        except OSError:
            self.status = None

    def is_terminal(self) -> bool:
        """Say whether a person sees what is written here."""
        return self.status is not None and os.isatty(self._descriptor)

    def send(self, data: bytes, patience: Patience) -> None:
        """Write all of it.

        Args:
            data: Whole lines.
            patience: Whether to go on waiting for a slow reader.

        Raises:
            OSError: It is lost, the reader is gone.
            Stopped: Patience ended.
        """
        if self.status is None:
            raise OSError("the stream was closed")
        rest = memoryview(data)
        while rest:
            # A blocking pipe that is writable takes PIPE_BUF bytes without blocking; cut there at the end of a line.
            wait_writable(self._descriptor, patience)
            size = len(rest)
            if size > _ATOMIC:
                size = bytes(rest[:_ATOMIC]).rfind(b"\n") + 1 or _ATOMIC
            try:
                rest = rest[os.write(self._descriptor, rest[:size]) :]
            except BlockingIOError:
                # Non-blocking and less than PIPE_BUF free: poll(2) may call that writable. Do not spin.
                time.sleep(_SLICE_MS / 1000)
                if not patience():
                    raise Stopped from None
