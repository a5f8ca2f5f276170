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

__all__ = ["Content", "Fingerprint", "NotHere", "fingerprint", "read", "stamp"]

# Larger than any bundle of authorities.
_LARGEST = 16 * 1024**2
_OTHERS = stat.S_IROTH | stat.S_IWOTH

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
        is_open: Whether every user of the host may read or write it.
    """

    path: str
    stamp: Stamp
    data: bytes
    is_open: bool

    def __repr__(self) -> str:
        # The bytes may hold a key.
        return f"<Content of {self.path}>"


def stamp(path: str) -> Stamp | None:
    """What tells a changed file or folder from the same; None when there is none."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return tuple((name, stamp(os.path.join(path, name))) for name in _pem_names(path))
    except OSError:
        return None
    return _stamp(status)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode


def fingerprint(sources: Iterable[Source]) -> Fingerprint:
    """The stamps of everything that is read."""
    return tuple((one.path, stamp(one.path)) for one in sources if one.path)


def read(source: Source) -> list[Content]:
    """Reads a file, or every PEM file of a folder, by name.

    Args:
        source: What to read.

    Raises:
        NotHere: This process cannot tell.
        ValueError: It cannot be read; the message says why, without the path.
    """
    if not source.path:
        raise NotHere("this process has no credentials (CREDENTIALS_DIRECTORY is not set; see LoadCredential=)")
    try:
        if not os.path.isdir(source.path):
            return [_read_file(source.path)]
        if source.key != "certificate":
            raise ValueError("it is a folder; only certificate takes one")
        names = _pem_names(source.path)
        if not names:
            raise ValueError("the folder holds no file that ends in .pem")
        return [_read_file(os.path.join(source.path, name)) for name in names]
    except PermissionError as error:
        where = f"{error.filename}: " if error.filename != source.path else ""
        raise NotHere(f"{where}{unreadable()}") from None
    except FileNotFoundError as error:
        if source.credential:
            raise ValueError("the service has no such credential (LoadCredential= of the unit)") from None
        raise ValueError(f"there is no such file{_behind(source.path, error)}") from None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None


def _behind(path: str, error: OSError) -> str:
    """Says so when it is a link that leads nowhere, or a file within a folder."""
    if os.path.islink(path):
        return f": the link leads to {os.readlink(path)}"
    return f": {error.filename}" if error.filename != path else ""


def _pem_names(folder: str) -> list[str]:
    return sorted(one for one in os.listdir(folder) if one.endswith(".pem") and not one.startswith("."))


def _read_file(path: str) -> Content:
    # A FIFO would wait for its writer.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST // 1024**2} MB")
    return Content(path, _stamp(status), data, bool(status.st_mode & _OTHERS))
