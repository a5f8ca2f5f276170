"""Conditions of requests, where a folder of files does not show them."""

from __future__ import annotations

import pytest

from appd.http.static.conditional import Version, tags_of, verdict

VERSION = Version('"a"', "Tue, 14 Nov 2023 22:13:20 GMT", 1_700_000_000, True)


@pytest.mark.parametrize(
    ("field", "tags"),
    [
        ('"a"', ['"a"']),
        ('"a","b" , W/"c"', ['"a"', '"b"', 'W/"c"']),
        ('"a,b", ""', ['"a,b"', '""']),
        (', ,"a",,', ['"a"']),
        ('"\xff\x21"', ['"\xff\x21"']),
        ("", []),
        ("a", []),
        ('"a" "b"', []),
        ('"a', []),
        ('w/"a"', []),
        ('W/ "a"', []),
        ('"a b"', []),
        ('"a", *', []),
        ("*", []),
    ],
)
def test_tags(field: str, tags: list[str]) -> None:
    """RFC 9110, 8.8.3; half of a list could mean anything."""
    assert tags_of(field) == tags


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_methods_that_change_something(method: str) -> None:
    """A version that is known is a reason not to: 412, and dates of a cache do not count (13.1.2, 13.1.3)."""
    assert verdict(method, {"if-none-match": "*"}, VERSION) == 412
    assert verdict(method, {"if-none-match": '"a"'}, VERSION) == 412
    assert verdict(method, {"if-none-match": '"b"'}, VERSION) == 0
    assert verdict(method, {"if-modified-since": VERSION.last_modified}, VERSION) == 0
    assert verdict(method, {"if-match": '"b"'}, VERSION) == 412


def test_a_weak_tag() -> None:
    """Equal to itself for a cache, and to nothing for who would change the file."""
    weak = VERSION._replace(etag='W/"a"')
    assert verdict("GET", {"if-none-match": 'W/"a"'}, weak) == 304
    assert verdict("GET", {"if-none-match": '"a"'}, weak) == 304
    assert verdict("GET", {"if-match": 'W/"a"'}, weak) == 412
    assert verdict("GET", {"if-match": "*"}, weak) == 0
