"""Lines of lists of files."""

from __future__ import annotations

import fnmatch
import re
import stat
import time
from collections.abc import Iterable

from appd.servers.rooted import Entry, Root

__all__ = ["as_ls", "bare", "facts", "listed"]

_PATTERN = re.compile(rb"[*?\[]")


def listed(root: Root, path: bytes) -> Iterable[Entry]:
    """What a list of a path has: what is in a folder, a file, or what matches the last name as a pattern.

    Args:
        root: The files of the user.
        path: The path. Clients send `NLST *.txt` for what their users want to have.

    Raises:
        OSError: There is no such thing.
    """
    folder, _slash, name = path.rpartition(b"/")
    try:
        found = root.stat(path)
    except FileNotFoundError:
        if not _PATTERN.search(name):
            raise
        return [one for one in root.entries(folder) if fnmatch.fnmatchcase(one.name, name)]
    return root.entries(path) if stat.S_ISDIR(found.st_mode) else [Entry(name, found)]


def bare(one: Entry) -> bytes:
    """The name alone. One with an end of a line in it, which would be two names, is shown with marks in its place."""
    return one.name.replace(b"\r", b"?").replace(b"\n", b"?")


def as_ls(one: Entry) -> bytes:
    """A line of ls -l, the owners as numbers: their names are nobody's business."""
    status = one.status
    modified = time.gmtime(status.st_mtime)
    recent = abs(time.time() - status.st_mtime) < 180 * 86400
    when = time.strftime("%b %d %H:%M" if recent else "%b %d  %Y", modified)
    owners = f"{status.st_uid:<8} {status.st_gid:<8}"
    line = f"{stat.filemode(status.st_mode)} {status.st_nlink:3} {owners} {status.st_size:12} {when} "
    return line.encode() + bare(one)


def facts(one: Entry) -> bytes:
    """RFC 3659, 7.2."""
    mode = one.status.st_mode
    kind = "dir" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "OS.unix=special"
    modified = time.strftime("%Y%m%d%H%M%S", time.gmtime(one.status.st_mtime))
    return f"type={kind};size={one.status.st_size};modify={modified}; ".encode() + bare(one)
