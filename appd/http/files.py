"""The file below a folder that a path means, opened.

Symbolic links are followed as long as they stay inside: the path is resolved first and must lie below the folder, then
what was resolved is opened part by part without following any link, so that whoever changes the tree in between gains
nothing. Only regular files are opened: a FIFO or a device could block us or do something.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

__all__ = ["OpenFile", "open_below"]

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO})
_REFUSED = frozenset({errno.EACCES, errno.EPERM})
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO that takes the place of the file after it was looked at does not block either.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class OpenFile(NamedTuple):
    """A regular file.

    Attributes:
        file: The file; whoever got it closes it.
        name: Its name in the path, which may be that of a link; what its type goes by.
        size: Its size in bytes.
        modified: When it was changed, in seconds since the epoch.
    """

    file: BinaryIO
    name: str
    size: int
    modified: float


def open_below(root: str, segments: Sequence[bytes], index: str) -> OpenFile | None:
    """Opens the file that a path means.

    Args:
        root: The folder.
        segments: The rest of the path, decoded; a final empty one asks for a folder, as a final slash does.
        index: The file that stands for a folder.

    Returns:
        The file; None when the path is that of a folder with an index file, without the final slash.

    Raises:
        FileNotFoundError: There is no such regular file inside.
        PermissionError: There is, but it may not be read.
        OSError: The host has trouble.
    """
    names = list(segments)
    asks_for_folder = bool(names) and not names[-1]
    if asks_for_folder:
        names[-1] = os.fsencode(index)
    if any(not one or one in (b".", b"..") or b"/" in one or b"\0" in one for one in names):
        raise FileNotFoundError(errno.ENOENT, "no such file")
    try:
        base = os.path.realpath(os.fsencode(root), strict=True)
        found = _resolve(base, names)
        if os.path.isdir(found):
            if asks_for_folder or not os.path.isfile(_resolve(base, [*names, os.fsencode(index)])):
                raise FileNotFoundError(errno.ENOENT, "a folder")
            return None
        if not names:
            raise FileNotFoundError(errno.ENOENT, "the folder itself is gone")
        return _open(base, found, os.fsdecode(names[-1]))
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise FileNotFoundError(errno.ENOENT, "no such file") from None
        if error.errno in _REFUSED:
            raise PermissionError(errno.EACCES, "not readable") from None
        raise


def _resolve(base: bytes, names: Sequence[bytes]) -> bytes:
    found = os.path.realpath(os.path.join(base, *names), strict=True)
    if found != base and not found.startswith(base.rstrip(b"/") + b"/"):
        raise FileNotFoundError(errno.ENOENT, "outside of the folder")
    return found


def _open(base: bytes, found: bytes, name: str) -> OpenFile:
    *folders, last = found[len(base.rstrip(b"/")) + 1 :].split(b"/")
    here = os.open(base, _FOLDER)
    try:
        for one in folders:
            inner = os.open(one, _FOLDER, dir_fd=here)
            os.close(here)
            here = inner
        if not stat.S_ISREG(os.stat(last, dir_fd=here, follow_symlinks=False).st_mode):
            raise FileNotFoundError(errno.ENOENT, "no regular file")
        fd = os.open(last, _FILE, dir_fd=here)
    finally:
        os.close(here)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "no regular file")
    return OpenFile(os.fdopen(fd, "rb", buffering=0), name, status.st_size, status.st_mtime)
