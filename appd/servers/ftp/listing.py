"""Lines of lists of files."""

from __future__ import annotations

import stat
import time

from appd.servers.rooted import Entry

__all__ = ["as_ls", "facts"]


def as_ls(one: Entry) -> bytes:
    """A line of ls -l, the owners as numbers: their names are nobody's business."""
    status = one.status
    modified = time.gmtime(status.st_mtime)
    recent = abs(time.time() - status.st_mtime) < 180 * 86400
    when = time.strftime("%b %d %H:%M" if recent else "%b %d  %Y", modified)
    owners = f"{status.st_uid:<8} {status.st_gid:<8}"
    line = f"{stat.filemode(status.st_mode)} {status.st_nlink:3} {owners} {status.st_size:12} {when} "
    return line.encode() + one.name


def facts(one: Entry) -> bytes:
    """RFC 3659, 7.2."""
    mode = one.status.st_mode
    kind = "dir" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "OS.unix=special"
    modified = time.strftime("%Y%m%d%H%M%S", time.gmtime(one.status.st_mtime))
    return f"type={kind};size={one.status.st_size};modify={modified}; ".encode() + one.name
