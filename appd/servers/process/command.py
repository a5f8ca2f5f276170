"""The command line of a child, and what it is called with: all that is decided without starting anything."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence

__all__ = ["command", "environment", "find_program", "launched", "prefixed_line", "socket_name"]

_LAUNCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch.py")

# What a child must not take for its own: it is systemd's and the supervisor's word with appd.
_NOT_THEIRS = frozenset(
    {
        *("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_PID"),
        *("WATCHDOG_USEC", "MAINPID", "APPD_CHANNEL", "APPD_STACKS", "FDSTORE", "INVOCATION_ID", "JOURNAL_STREAM"),
    }
)


def command(text: str) -> list[str]:
    """A command line, split as POSIX shells do it; the datatype of the key."""
    try:
        found = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no command line: {str(error).lower()}") from None
    if not found:
        raise ValueError("a program is missing")
    return found


def find_program(name: str, directory: str, path: str) -> str:
    """Where a program lies.

    Args:
        name: As it was written: a path, or the name of something in `path`.
        directory: What a relative path is relative to.
        path: PATH.

    Raises:
        ValueError: There is none that can be run.
    """
    wanted = f"{directory}/{name}" if "/" in name and not name.startswith("/") else name
    found = shutil.which(wanted, path=path)
    if found is None:
        where = "" if "/" in name else f" in PATH ({path})"
        raise ValueError(f"there is no program {wanted!r} that can be run{where}")
    return found


def launched(program: Sequence[str], python: str, parent: int) -> list[str]:
    """What is executed for a program to run as a child: `launch`, which becomes it.

    Args:
        program: Its path and its arguments.
        python: The interpreter.
        parent: The process that starts it, with which it ends.
    """
    return [python, "-IS", _LAUNCH, str(parent), *program]


def socket_name(name: str | None, server: str) -> str:
    """What a socket is called in LISTEN_FDNAMES, where a colon would separate.

    Args:
        name: The name that it was passed to appd with; nothing for one that appd has bound without.
        server: The name of the server.
    """
    plain = name or re.sub(r"[^!-9;-~]+", "-", server)
    return plain[:255] or "unknown"


def environment(base: Mapping[str, str], more: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """The environment of a child.

    Args:
        base: That of this process.
        more: What the file adds.
        names: The names of the sockets, in the order of their descriptors.
    """
    made = {key: value for key, value in base.items() if key not in _NOT_THEIRS} | dict(more)
    if names:
        made |= {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
    return made


_PREFIX = re.compile(r"<([0-7])>")


def prefixed_line(line: bytes) -> tuple[int, str]:
    """A line of output, and its priority where it says one as sd-daemon(3) has it: `<3>it is broken`.

    Returns:
        The priority, 6 without one, and the text.
    """
    text = line.decode("utf-8", "replace")
    found = _PREFIX.match(text)
    return (int(found[1]), text[found.end() :]) if found else (6, text)
