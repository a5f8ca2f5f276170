"""Conditions of requests against the text of RFC 9110, 13.2.2, written down a second time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appd.http.core.date import format_date
from appd.http.static.conditional import Version, counts_range, tags_of, verdict

TAGS = ['"a"', '"b"', 'W/"a"', 'W/"b"', '""']
DATES = [1_700_000_000 + one for one in (-1, 0, 1)]
LISTS = st.one_of(st.just("*"), st.lists(st.sampled_from(TAGS), min_size=1, max_size=3).map(", ".join))
VERSIONS = st.builds(
    lambda tag, at, settled: Version(tag, format_date(at), at, settled),
    st.sampled_from(TAGS),
    st.sampled_from(DATES),
    st.booleans(),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "if-match": LISTS,
        "if-none-match": LISTS,
        "if-modified-since": st.sampled_from(DATES).map(format_date),
        "if-unmodified-since": st.sampled_from(DATES).map(format_date),
    },
)


def strong(one: str, other: str) -> bool:
    return one == other and not one.startswith("W/")


def weak(one: str, other: str) -> bool:
    return one.removeprefix("W/") == other.removeprefix("W/")


def as_it_is_written(method: str, named: dict[str, str], version: Version) -> int:
    """Steps 1 to 4 of the RFC."""
    dates = {format_date(one): one for one in DATES}
    if "if-match" in named:
        field = named["if-match"]
        if field != "*" and not any(strong(one, version.etag) for one in field.split(", ")):
            return 412
    elif "if-unmodified-since" in named and not version.modified <= dates[named["if-unmodified-since"]]:
        return 412
    if "if-none-match" in named:
        field = named["if-none-match"]
        if field == "*" or any(weak(one, version.etag) for one in field.split(", ")):
            return 304 if method in ("GET", "HEAD") else 412
    elif (
        method in ("GET", "HEAD")
        and "if-modified-since" in named
        and version.modified <= dates[named["if-modified-since"]]
    ):
        return 304
    return 0


@given(st.sampled_from(["GET", "HEAD", "PUT"]), FIELDS, VERSIONS)
def test_the_order_of_the_rfc(method: str, named: dict[str, str], version: Version) -> None:
    """Whatever conditions come together."""
    assert verdict(method, named, version) == as_it_is_written(method, named, version)


@given(st.one_of(st.sampled_from(TAGS), st.sampled_from(DATES).map(format_date), st.text(max_size=8)), VERSIONS)
def test_if_range(field: str, version: Version) -> None:
    """Only the very version, and only when that is sure."""
    by_tag = strong(field, version.etag)
    by_date = field == version.last_modified and version.settled
    assert counts_range({"if-range": field}, version) is (by_tag or by_date)
    assert counts_range({}, version)


@given(st.text(st.characters(max_codepoint=255), max_size=30))
def test_any_text(field: str) -> None:
    """Ends, and what comes out was in it."""
    assert all(one in field for one in tags_of(field))
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
        verdict("GET", {name: field}, Version('"a"', "x", 1, True))
