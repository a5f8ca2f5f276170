"""How many processors this process may use: what `workers auto` means.

CPUAffinity= and AllowedCPUs= of a unit show in sched_getaffinity(2). CPUQuota= does not: a service that may use a
fifth of a large host would have a worker for each of its processors. cgroups(7): cpu.max of the unit's group and of
every slice above it.
"""

from __future__ import annotations

import os

__all__ = ["count_processors"]


def count_processors(groups: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> int:
    """Counts them, from 1 on; a part of one counts as one.

    Args:
        groups: Where cgroup2 is mounted.
        own: The file that says in which group this process is.
    """
    allowed = len(os.sched_getaffinity(0))
    path = _group(own)
    while path is not None:
        allowed = min(allowed, _quota(f"{groups}{path}/cpu.max", allowed))
        path = path.rpartition("/")[0] if path else None
    return max(1, allowed)


def _group(own: str) -> str | None:
    try:
        lines = _read(own).splitlines()
    except OSError:
        return None
    paths = [line[3:].rstrip("/") for line in lines if line.startswith("0::")]
    return paths[0] if paths else None


def _quota(file: str, otherwise: int) -> int:
    """Of "150000 100000", microseconds in each period, it makes 2. The root has no such file, nor has version 1."""
    try:
        quota, period = _read(file).split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return otherwise  # "max" among others


def _read(file: str) -> str:
    """What a file of the kernel says: a start asks for several, and text files of Python cost ten times as much."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536).decode(errors="surrogateescape")
    finally:
        os.close(fd)
