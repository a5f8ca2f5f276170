"""Files, folders and credentials → bytes, and what tells whether they have changed.

A stamp is of the file that a path leads to in the end. Renewals that swap a symbolic link (certbot's live folder,
`..data` of Kubernetes) change it as those that write in place do.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from appd.access import unreadable
from appd.tls.policy import Source

__all__ = ["Content", "Fingerprint", "NotHere", "files", "fingerprint", "read", "stamp"]

# Larger than any bundle of authorities.
_LARGEST = 16 * 1024**2

Stamp = tuple[object, ...]
Fingerprint = tuple[tuple[str, Stamp | None], ...]


class NotHere(ValueError):
    """This process cannot look at it, which says nothing of the service: a credential, or permission denied."""


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        path: The file.
        stamp: What it was when it was read.
        data: The bytes.
        mode: Who may do what with it: inode(7).
    """

    path: str
    stamp: Stamp
    data: bytes
    mode: int

    @property
    def is_open(self) -> bool:
        """Whether every user of the host may read or write it."""
        return bool(self.mode & (stat.S_IROTH | stat.S_IWOTH))

    @property
    def is_writable(self) -> bool:
        """Whether every user of the host may write it."""
        return bool(self.mode & stat.S_IWOTH)

    def __repr__(self) -> str:
        # The bytes may hold a key.
        return f"<Content of {self.path}>"


def stamp(path: str) -> Stamp | None:
    """What tells a changed file, or folder of files, from the same; None when there is none."""
    found = _stamp_of(path)
    if found is None or not os.path.isdir(path):
        return found
    try:
        return tuple((name, _stamp_of(os.path.join(path, name))) for name in _pem_names(path))
    except OSError:
        return None


def _stamp_of(path: str) -> Stamp | None:
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode


def fingerprint(sources: Iterable[Source]) -> Fingerprint:
    """The stamps of everything that is read."""
    return tuple((one.path, stamp(one.path)) for one in sources if one.path)


def files(source: Source) -> list[str]:
    """The paths of what is to be read: a file, or every PEM file of a folder, by name.

    Args:
        source: What to read.

    Raises:
        NotHere: This process cannot tell.
        ValueError: It cannot be read; the message says why, without the path.
    """
    if not source.path:
        raise NotHere("this process has no credentials (CREDENTIALS_DIRECTORY is not set; see LoadCredential=)")
    if not os.path.isdir(source.path):
        return [source.path]
    if source.key != "certificate":
        raise ValueError("it is a folder; only certificate takes one")
    try:
        names = _pem_names(source.path)
    except OSError as error:
        raise _refusal(source, source.path, error) from None
    if not names:
        raise ValueError("the folder holds no file that ends in .pem")
    return [os.path.join(source.path, name) for name in names]


def read(source: Source, path: str) -> Content:
    """Reads a file.

    Args:
        source: What names it.
        path: The file: one of `files`.

    Raises:
        NotHere: This process cannot tell.
        ValueError: It cannot be read; the message says why, without the path.
    """
    try:
        return _read_file(path)
    except OSError as error:
        raise _refusal(source, path, error) from None


def _refusal(source: Source, path: str, error: OSError) -> ValueError:
    if isinstance(error, PermissionError):
        return NotHere(unreadable())
    if not isinstance(error, FileNotFoundError):
        return ValueError(f"it cannot be read: {error.strerror}")
    if source.credential:
        return ValueError("the service has no such credential (LoadCredential= of the unit)")
    return ValueError(
        f"there is no such file{f': the link leads to {os.readlink(path)}' if os.path.islink(path) else ''}"
    )


def _pem_names(folder: str) -> list[str]:
    return sorted(one for one in os.listdir(folder) if one.endswith(".pem") and not one.startswith("."))


def _read_file(path: str) -> Content:
    # A FIFO would wait for its writer.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(_LARGEST + 1)
    finally:
        os.close(fd)
    if len(data) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST // 1024**2} MB")
    return Content(path, _stamp(status), data, status.st_mode)
