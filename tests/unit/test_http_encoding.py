"""Which compressed copy a client gets."""

from __future__ import annotations

import pytest

from appd.http.static.encoding import SUFFIXES, choose

ALL = tuple(SUFFIXES)


@pytest.mark.parametrize(
    ("field", "coding"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate", "gzip"),
        ("gzip, deflate, br", "br"),
        ("gzip,zstd", "zstd"),
        ("gzip;q=1.0, br;q=0.9", "gzip"),
        ("gzip ; Q=0.5 , br;q=0.25", "gzip"),
        ("br;q=0", ""),
        ("br;q=0.000, gzip;q=0.001", "gzip"),
        ("*", "br"),
        ("*;q=0", ""),
        ("br;q=0, *", "zstd"),
        ("identity", ""),
        ("identity;q=1, gzip;q=0.5", ""),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0", ""),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("compress", ""),
        # What is malformed does not count.
        ("gzip;q=2", ""),
        ("gzip;q=0.5555", ""),
        ("gzip;q=-1", ""),
        ("gzip;q=", ""),
        ("gzip;level=9", ""),
        ("gzip br", ""),
        ("gzip;q=2, br", "br"),
        (", ,gzip,", "gzip"),
    ],
)
def test_of_all(field: str, coding: str) -> None:
    """RFC 9110, 12.5.3."""
    assert choose(field, ALL) == coding


@pytest.mark.parametrize(("field", "coding"), [("br, gzip;q=0.1", "gzip"), ("br", ""), ("*;q=0.1", "gzip")])
def test_of_one(field: str, coding: str) -> None:
    """What there is."""
    assert choose(field, ("gzip",)) == coding
