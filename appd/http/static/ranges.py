"""The Range field of a request → parts of a file: RFC 9110, 14.

What a client asks for cannot make more out of a file than there is: ranges that overlap, touch or nearly touch are
merged, as 15.3.7.2 allows, so that the parts of one answer are disjoint, and there are few of them.
"""

from __future__ import annotations

from appd.startup.patterns import pattern
from appd.startup.records import NamedTuple

__all__ = ["Part", "Unsatisfiable", "read_ranges"]

# Sizes that a file can have; longer runs of digits are nobody's.
_SPEC = pattern(r"(?a)([0-9]{0,18})-([0-9]{0,18})\Z")
# Apache's MaxRanges is 200, and half of that is said to be an attack; a PDF viewer asks for some ten at a time.
_MOST = 32
# What stands between two parts is about as long: sending a smaller gap is cheaper than leaving it out (15.3.7.2).
_GAP = 80


class Part(NamedTuple):
    """A part of a file, in bytes."""

    start: int
    length: int


class Unsatisfiable(Exception):
    """Every range lies outside of the file."""


def read_ranges(field: str, size: int) -> tuple[Part, ...]:
    """Reads a Range field.

    Args:
        field: Its value.
        size: The size of the file.

    Returns:
        The parts, disjoint, in the order in which they were asked for; none for the whole file: the field is malformed,
        not one that we take, or asks for more ranges than anybody needs (14.2 lets a server ignore it).

    Raises:
        Unsatisfiable: It deserves a 416.
    """
    unit, found, ranges = field.partition("=")
    # Go's precedent for an empty file: some clients bound every request by a range, and mean no harm.
    if not found or unit.strip(" \t").lower() != "bytes" or not size or ranges.count(",") >= _MOST:
        return ()
    parts: list[Part] = []
    wanted = False
    for one in ranges.split(","):
        text = one.strip(" \t")
        if not text:
            continue
        match = _SPEC.match(text)
        if match is None or not (match[1] or match[2]) or (match[1] and match[2] and int(match[2]) < int(match[1])):
            return ()
        wanted = True
        part = _part(match[1], match[2], size)
        if part is not None:
            parts.append(part)
    if wanted and not parts:
        raise Unsatisfiable
    return tuple(parts) if len(parts) < 2 else _merged(parts)


def _part(first: str, last: str, size: int) -> Part | None:
    if not first:
        length = min(int(last), size)
        return Part(size - length, length) if length else None
    start = int(first)
    if start >= size:
        return None
    stop = min(int(last) + 1, size) if last else size
    return Part(start, stop - start)


def _merged(parts: list[Part]) -> tuple[Part, ...]:
    merged: list[tuple[int, int, int]] = []  # the place of the first that went in, start, stop
    for place, part in sorted(enumerate(parts), key=lambda one: one[1]):
        if merged and part.start <= merged[-1][2] + _GAP:
            first, start, stop = merged[-1]
            merged[-1] = (min(first, place), start, max(stop, part.start + part.length))
        else:
            merged.append((place, part.start, part.start + part.length))
    return tuple(Part(start, stop - start) for _place, start, stop in sorted(merged))
