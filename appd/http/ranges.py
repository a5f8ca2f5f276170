"""The Range field of a request → a part of a file: RFC 9110, 14."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Part", "Unsatisfiable", "read_range"]

# One range with sizes that a file can have. Several are left alone, and then the answer is the whole file (14.2 leaves
# that to the server): a list of overlapping ones makes a large answer out of a small file.
_RANGE = re.compile(rb"bytes[ \t]*=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*\Z", re.I)


class Part(NamedTuple):
    """A part of a file, in bytes."""

    start: int
    length: int


class Unsatisfiable(Exception):
    """The range lies outside of the file."""


def read_range(field: bytes, size: int) -> Part | None:
    """Reads a Range field.

    Args:
        field: Its value.
        size: The size of the file.

    Returns:
        The part; None for the whole file, since the field is malformed or not one we take.

    Raises:
        Unsatisfiable: It deserves a 416.
    """
    match = _RANGE.match(field)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        if not length:
            raise Unsatisfiable
        return Part(size - length, length)
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    stop = min(int(match[2]) + 1, size) if match[2] else size
    return Part(start, stop - start)
