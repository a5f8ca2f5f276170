"""What OpenSSH has added to SFTP, version 3 (its PROTOCOL, section 4), as far as it is served."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from typing import Any

from twisted.conch.ssh import filetransfer as ft
from twisted.conch.ssh.common import getNS

from appd.servers.rooted import Root

__all__ = ["EXTENSIONS", "extension"]

_FSYNC = b"fsync@openssh.com"
_LINK = b"hardlink@openssh.com"
_RENAME = b"posix-rename@openssh.com"
_STATVFS = b"statvfs@openssh.com"
# What the client is told at the start: name → version.
EXTENSIONS: Mapping[bytes, bytes] = {_FSYNC: b"1", _LINK: b"1", _RENAME: b"1", _STATVFS: b"2"}


def extension(name: bytes, rest: bytes, root: Root, files: Mapping[bytes, Any]) -> Callable[[], bytes | None] | None:
    """What a request asks for.

    Args:
        name: The extension.
        rest: The request behind the name.
        root: The files of the user.
        files: Handle → an open file, which has `sync`.

    Returns:
        What does it, for a thread: it gives the reply, or None where "done" is one, and raises OSError. None for an
        extension that is not served.

    Raises:
        SFTPError: There is no such handle.
    """
    if name == _RENAME:
        old, new, _ = getNS(rest, 2)
        return lambda: root.rename(old, new, replace=True)
    if name == _LINK:
        old, new, _ = getNS(rest, 2)
        return lambda: root.link(old, new)
    if name == _STATVFS:
        path, _ = getNS(rest)
        return lambda: _space(root.statvfs(path), root.read_only)
    if name == _FSYNC:
        handle, _ = getNS(rest)
        if handle not in files:
            raise ft.SFTPError(ft.FX_FAILURE, "no such handle")
        sync: Callable[[], None] = files[handle].sync
        return sync
    return None


def _space(found: os.statvfs_result, read_only: bool) -> bytes:
    flags = (found.f_flag & (os.ST_RDONLY | os.ST_NOSUID)) | (os.ST_RDONLY if read_only else 0)
    return struct.pack(
        ">11Q",
        found.f_bsize, found.f_frsize, found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree,
        found.f_favail, found.f_fsid, flags, found.f_namemax,
    )  # fmt: skip
