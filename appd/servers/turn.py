"""Whose turn it is, between the workers of one supervisor.

What runs in one process only has two copies for a while at each reload: the one before may still be busy when the next
one starts. A `Turn` is a lock on a file in the folder that the workers of a supervisor share, flock(2), which the
kernel gives back when its holder dies, and a line of text in it for whoever has it next. Without a supervisor there is
nobody to share with.
"""

from __future__ import annotations

import fcntl
import os
from hashlib import sha256

__all__ = ["Turn"]


class Turn:
    """One turn.

    Args:
        folder: The folder of the supervisor; "" without one.
        name: What is done in turn; the name of a server.

    Resource handling: `take` opens the file and `give` closes it; the folder goes with the supervisor.
    """

    def __init__(self, folder: str, name: str) -> None:
        # A name may be longer than that of a file, and hold anything.
        self._path = os.path.join(folder, f"turn-{sha256(name.lower().encode()).hexdigest()[:32]}") if folder else ""
        self._descriptor: int | None = None
        self._text = ""

    @property
    def taken(self) -> bool:
        """Whether this process has it."""
        return self._descriptor is not None

    def take(self) -> bool:
        """Takes it if nobody has it.

        Returns:
            Whether it is this process's now.

        Raises:
            OSError: The folder has gone, or there is no room for a file.
        """
        if self._descriptor is not None or not self._path:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def give(self) -> None:
        """Gives it back; it may have been given already."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def read(self) -> str:
        """What who had it last has written; "" when nobody has."""
        if self._descriptor is None:
            return self._text
        return os.pread(self._descriptor, 4096, 0).decode("ascii", "replace")

    def write(self, text: str) -> None:
        """Leaves a text for whoever has it next: ASCII, and short."""
        self._text = text
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode("ascii"), 0)
