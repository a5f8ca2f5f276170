"""Range fields."""

from __future__ import annotations

import pytest

from appd.http.static.ranges import Part, Unsatisfiable, read_ranges


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("bytes=0-0", Part(0, 1)),
        ("bytes=2-", Part(2, 8)),
        ("bytes=2-99", Part(2, 8)),
        ("BYTES = 2-4 ", Part(2, 3)),
        ("bytes=-3", Part(7, 3)),
        ("bytes=-99", Part(0, 10)),
        ("bytes=2-4,", Part(2, 3)),
        ("bytes=,,2-4", Part(2, 3)),
        ("bytes=99-,2-4", Part(2, 3)),
        ("bytes=-0, 2-4", Part(2, 3)),
    ],
)
def test_one_of_ten_bytes(field: str, part: Part) -> None:
    """What there is of it; of several those that lie inside."""
    assert read_ranges(field, 10) == (part,)


@pytest.mark.parametrize(
    "field",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=4-2",
        "bytes=-",
        "bytes=a-b",
        "bytes=+1-2",
        "bytes=1_0-",
        "bytes=1 - 2",
        "bytes=٣-",
        "bytes 1-2",
        "lines=1-2",
        "bytes=0-1;2-3",
        "bytes=0-1,4-2",
        "bytes=0-1,x",
        "bytes=0-1, bytes=4-5",
        "bytes=" + "9" * 5000 + "-",
        "bytes=" + ",".join(f"{one * 200}-{one * 200}" for one in range(33)),
    ],
)
def test_the_whole_file(field: str) -> None:
    """For what is malformed, in whatever part; of another unit; or too much."""
    assert read_ranges(field, 10_000) == ()


@pytest.mark.parametrize("field", ["bytes=10-", "bytes=-0", "bytes=10-20,99-", "bytes=-0,-0"])
def test_outside(field: str) -> None:
    """Not a byte of the file."""
    with pytest.raises(Unsatisfiable):
        read_ranges(field, 10)


@pytest.mark.parametrize("field", ["bytes=0-", "bytes=-1", "bytes=0-99", "bytes=5-6"])
def test_of_an_empty_file(field: str) -> None:
    """All of it, for clients that bound whatever they ask for."""
    assert read_ranges(field, 0) == ()


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("bytes=0-99,500-599", ((0, 100), (500, 100))),
        ("bytes=500-599,0-99", ((500, 100), (0, 100))),
        ("bytes=0-99,100-199", ((0, 200),)),
        ("bytes=0-99,50-199", ((0, 200),)),
        ("bytes=0-99,180-199", ((0, 200),)),
        ("bytes=0-99,181-199", ((0, 100), (181, 19))),
        ("bytes=500-599,0-99,550-650", ((500, 151), (0, 100))),
        ("bytes=0-,-1,5-6", ((0, 1000),)),
        ("bytes=0-0,-1", ((0, 1), (999, 1))),
    ],
)
def test_several(field: str, parts: tuple[tuple[int, int], ...]) -> None:
    """In their order; those that touch, overlap or nearly do are one (RFC 9110, 15.3.7.2)."""
    assert read_ranges(field, 1000) == parts


def test_thirty_two_are_taken() -> None:
    """One more is not."""
    field = "bytes=" + ",".join(f"{one * 200}-{one * 200}" for one in range(32))
    assert len(read_ranges(field, 10_000)) == 32
