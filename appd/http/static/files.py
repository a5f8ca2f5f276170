"""The file below a folder that a path means, opened.

The names are walked one by one, each opened below the one before and no link followed: what is not below the folder
cannot be reached, and nobody who changes the tree meanwhile changes that. Where a link is met, the path is resolved
once, must lie below the folder, and what was resolved is walked in the same way. Linux has openat2(2) for this, with
RESOLVE_BENEATH; Python has not, and it refuses absolute links that stay inside.

Only regular files are opened: a FIFO, a device or a socket could block us, or do something.
"""

from __future__ import annotations

import errno
import os
import stat

from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OpenFile", "is_name", "open_below", "open_folder_below"]

_NOT_THERE = frozenset(
    {
        errno.EINVAL,  # readlink(2) of what was a link a moment ago
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENXIO,
        errno.ESTALE,
    }
)
_REFUSED = frozenset({errno.EACCES, errno.EPERM})
# The folder itself may be reached by links: that is how a deployment switches from one to the next.
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER = _ROOT | os.O_NOFOLLOW
# A FIFO that takes the place of the file after it was looked at does not block either.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class OpenFile(NamedTuple):
    """A regular file.

    Attributes:
        fd: Its descriptor; whoever got it closes it.
        status: What fstat(2) said of it.
    """

    fd: int
    status: os.stat_result


class _Link(Exception):
    """There may be a symbolic link on the way."""


def is_name(name: bytes) -> bool:
    """Whether it can be the name of something in a folder."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


def open_below(root: str, names: Sequence[bytes], *, links_out: bool = False) -> OpenFile:
    """Opens a regular file.

    Args:
        root: The folder.
        names: The names that lead to it from there.
        links_out: Whether symbolic links may lead out of the folder. Those that stay inside are always followed.

    Raises:
        IsADirectoryError: It is a folder.
        FileNotFoundError: There is no regular file of that name inside.
        PermissionError: There is, but it may not be read.
        OSError: The host has trouble.
    """
    return OpenFile(*_open(root, names, links_out, of_folder=False))


def open_folder_below(root: str, names: Sequence[bytes], *, links_out: bool = False) -> int:
    """Opens a folder to be listed.

    Args:
        root: The folder.
        names: The names that lead to the one inside it; none for the folder itself.
        links_out: As for `open_below`.

    Returns:
        Its descriptor; whoever got it closes it.

    Raises:
        OSError: As for `open_below`.
    """
    return _open(root, names, links_out, of_folder=True)[0]


def _open(root: str, names: Sequence[bytes], links_out: bool, *, of_folder: bool) -> tuple[int, os.stat_result]:
    if not all(map(is_name, names)):
        raise FileNotFoundError(errno.ENOENT, "no such file")
    try:
        if links_out:
            return _take(os.path.join(os.fsencode(root), *names), of_folder)
        try:
            return _walk(os.fsencode(root), names, of_folder)
        except (_Link, NotADirectoryError):
            base, found = _resolve(root, names)
            return _walk(base, found, of_folder)
    except _Link:
        raise FileNotFoundError(errno.ENOENT, "a link took its place") from None
    except OSError as error:
        if isinstance(error, IsADirectoryError):
            raise
        if error.errno in _NOT_THERE:
            raise FileNotFoundError(errno.ENOENT, "no such file") from None
        if error.errno in _REFUSED:
            raise PermissionError(errno.EACCES, "not readable") from None
        raise


def _walk(base: bytes, names: Sequence[bytes], of_folder: bool) -> tuple[int, os.stat_result]:
    here = os.open(base, _ROOT)
    try:
        for one in names[:-1]:
            # ENOTDIR for a link as well as for a file.
            inner = os.open(one, _FOLDER, dir_fd=here)
            os.close(here)
            here = inner
        return _take(names[-1] if names else b".", of_folder, here)
    finally:
        os.close(here)


def _resolve(root: str, names: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """The folder and the names from it to what the path means, all without links as far as one can know."""
    base = os.path.realpath(os.fsencode(root), strict=True)
    found = os.path.realpath(os.path.join(base, *names), strict=True)
    inside = base.rstrip(b"/") + b"/"
    if found != base and not found.startswith(inside):
        raise FileNotFoundError(errno.ENOENT, "outside of the folder")
    return base, found[len(inside) :].split(b"/") if found != base else []


def _take(name: bytes, of_folder: bool, here: int | None = None) -> tuple[int, os.stat_result]:
    """Opens the last name, below a folder without following links, or as a path with."""
    follow = here is None
    status = os.stat(name, dir_fd=here, follow_symlinks=follow)
    if stat.S_ISLNK(status.st_mode):
        raise _Link
    if stat.S_ISDIR(status.st_mode) and not of_folder:
        raise IsADirectoryError(errno.EISDIR, "a folder")
    if of_folder:
        return os.open(name, _LISTED | (0 if follow else os.O_NOFOLLOW), dir_fd=here), status
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "no regular file")
    fd = os.open(name, _FILE | (0 if follow else os.O_NOFOLLOW), dir_fd=here)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "no regular file")
    return fd, status
