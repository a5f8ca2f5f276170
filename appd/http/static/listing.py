"""What is in a folder, as a page of HTML."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from html import escape
from typing import NamedTuple
from urllib.parse import quote

from appd.http.core.date import format_date

__all__ = ["Listed", "page", "read_folder"]

# A page of more helps nobody, and reading the folder holds up whoever else is served.
_MOST = 2000
_HEAD = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font-family: sans-serif; margin: 2em }} td {{ padding: .1em 2em .1em 0 }}</style>
</head><body><h1>{title}</h1><table>
"""


class Listed(NamedTuple):
    """One line.

    Attributes:
        name: Its name in the folder.
        size: Its size in bytes; None for a folder.
        modified: When it was changed, in seconds since the epoch.
    """

    name: bytes
    size: int | None
    modified: float


def read_folder(
    fd: int, hidden: bool, link_status: Callable[[bytes], os.stat_result | None]
) -> tuple[list[Listed], bool]:
    """Reads a folder: what of it is served, folders first, by name.

    Args:
        fd: Its descriptor, which stays open.
        hidden: Whether names that begin with a dot are among it.
        link_status: Says of the name of a symbolic link where it leads; None when that is not served.

    Returns:
        The lines, and whether there are more.

    Raises:
        OSError: The folder cannot be read.
    """
    found: list[Listed] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.name.startswith(".") and not hidden:
                continue
            try:
                name = os.fsencode(entry.name)
                status = link_status(name) if entry.is_symlink() else entry.stat(follow_symlinks=False)
            except OSError:
                continue  # it has gone
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                found.append(Listed(name, None, status.st_mtime))
            elif stat.S_ISREG(status.st_mode):
                found.append(Listed(name, status.st_size, status.st_mtime))
            if len(found) > _MOST:
                break
    more = len(found) > _MOST
    return sorted(found[:_MOST], key=lambda one: (one.size is not None, one.name)), more


def page(path: str, lines: list[Listed], *, more: bool, top: bool) -> bytes:
    """Makes the page.

    Args:
        path: The path of the folder, decoded, for the title.
        lines: What is in it.
        more: Whether there is more.
        top: Whether it is the folder of the mount, above which there is nothing to see.
    """
    rows = [] if top else ['<tr><td><a href="../">../</a></td><td></td><td></td></tr>']
    for one in lines:
        slash = "/" if one.size is None else ""
        # "./": a name with a colon is not a scheme.
        href = escape(f"./{quote(one.name, safe='')}{slash}")
        name = escape(one.name.decode(errors="replace") + slash)
        size = "" if one.size is None else f"{one.size:,}"
        date = format_date(one.modified)
        rows.append(f'<tr><td><a href="{href}">{name}</a></td><td>{size}</td><td>{date}</td></tr>')
    if more:
        rows.append(f"<tr><td>and more than these {len(lines)}</td></tr>")
    title = escape(path)
    return f"{_HEAD.format(title=title)}{chr(10).join(rows)}\n</table></body></html>\n".encode()
