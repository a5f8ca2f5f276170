"""Range fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appd.http.ranges import Part, Unsatisfiable, read_range


@pytest.mark.parametrize(
    ("field", "part"),
    [
        (b"bytes=0-0", Part(0, 1)),
        (b"bytes=2-", Part(2, 8)),
        (b"bytes=2-99", Part(2, 8)),
        (b"BYTES = 2-4 ", Part(2, 3)),
        (b"bytes=-3", Part(7, 3)),
        (b"bytes=-99", Part(0, 10)),
        (b"bytes=4-2", None),
        (b"bytes=-", None),
        (b"bytes=a-b", None),
        (b"bytes=+1-2", None),
        (b"bytes=1_0-", None),
        (b"bytes 1-2", None),
        (b"lines=1-2", None),
        (b"bytes=0-1,3-4", None),
        (b"bytes=" + b"9" * 5000 + b"-", None),
    ],
)
def test_of_ten_bytes(field: bytes, part: Part | None) -> None:
    """None is the whole file."""
    assert read_range(field, 10) == part


@pytest.mark.parametrize(("field", "size"), [(b"bytes=10-", 10), (b"bytes=-0", 10), (b"bytes=0-", 0), (b"bytes=-1", 0)])
def test_outside(field: bytes, size: int) -> None:
    """A range of nothing."""
    with pytest.raises(Unsatisfiable):
        read_range(field, size)


@given(st.from_regex(rb"bytes=[0-9]{0,4}-[0-9]{0,4}", fullmatch=True), st.integers(0, 2000))
def test_a_part_lies_inside(field: bytes, size: int) -> None:
    """Whatever is asked for."""
    try:
        part = read_range(field, size)
    except Unsatisfiable:
        return
    assert part is None or (part.length > 0 and part.start >= 0 and part.start + part.length <= size)
