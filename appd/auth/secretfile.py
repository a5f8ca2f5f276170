"""Files that hold secrets: read only if nobody else may read them, and read anew when they have changed."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

__all__ = ["Read", "Stamp", "read", "stamp"]

# A passwd file of a hundred thousand users has 12 MB.
_LARGEST = 32 * 1024**2

Stamp = tuple[int, int, int, int, int]


class Read(NamedTuple):
    """What a file holds, and what it was when it was read."""

    text: str
    stamp: Stamp

    def __repr__(self) -> str:
        return "<Read>"


def stamp(path: str) -> Stamp | None:
    """What tells a changed file from the same; None when there is none."""
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(status: os.stat_result) -> Stamp:
    # The change time tells of a rename over it and of a new mode as well.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read(path: str, forbidden: int, whose: str) -> Read:
    """Reads a file.

    Args:
        path: The file.
        forbidden: Mode bits that it may not have.
        whose: What to say of a file that has them, the word of chmod(1) that mends it in it.

    Raises:
        PermissionError: This process may not read it.
        ValueError: It is not there or will not do; the message says why, without the path.
    """
    try:
        # A FIFO would wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError:
        raise
    except FileNotFoundError:
        raise ValueError("there is no such file") from None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise ValueError("it is no regular file")
    with open(fd, "rb") as file:
        if status.st_mode & forbidden:
            raise ValueError(whose)
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST // 1024**2} MB")
    try:
        return Read(data.decode("utf-8"), _stamp(status))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 text (byte {error.start})") from None
