"""Range fields: whatever is asked for, what is sent is in the file, and no more than the file."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appd.http.static.ranges import Unsatisfiable, read_ranges

SPECS = st.lists(st.from_regex(r"[0-9]{0,4}-[0-9]{0,4}", fullmatch=True), min_size=1, max_size=40)


def wanted(specs: list[str], size: int) -> set[int] | None:
    """The bytes that are asked for, one by one; None when one of the ranges is none."""
    found: set[int] = set()
    for one in specs:
        first, _, last = one.partition("-")
        if not first and not last:
            return None
        if not first:
            found |= set(range(max(0, size - int(last)), size))
        elif last and int(last) < int(first):
            return None
        else:
            found |= set(range(int(first), min(size, int(last) + 1 if last else size)))
    return found


@given(SPECS, st.integers(1, 3000))
def test_what_is_asked_for_is_there(specs: list[str], size: int) -> None:
    """The parts are disjoint and inside, hold all that was asked for, and between what was asked for at most gaps."""
    bytes_ = wanted(specs, size)
    try:
        parts = read_ranges("bytes=" + ",".join(specs), size)
    except Unsatisfiable:
        assert bytes_ == set()
        return
    if not parts:
        assert bytes_ is None or len(specs) > 32
        return
    assert bytes_ is not None
    sent = [place for start, length in parts for place in range(start, start + length)]
    assert len(sent) == len(set(sent)) <= size
    assert bytes_ <= set(sent) <= set(range(size))
    for start, length in parts:
        assert {start, start + length - 1} <= bytes_
        # No part goes on for longer than a gap without a byte that was wanted.
        asked = sorted(bytes_ & set(range(start, start + length)))
        assert all(later - earlier <= 81 for earlier, later in pairwise(asked))


@given(st.text(max_size=30), st.integers(0, 1000))
def test_any_text(field: str, size: int) -> None:
    """Nothing else is raised."""
    for text in (field, f"bytes={field}"):
        try:
            parts = read_ranges(text, size)
        except Unsatisfiable:
            continue
        assert all(length > 0 and start >= 0 and start + length <= size for start, length in parts)
