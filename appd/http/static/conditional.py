"""The conditions of a request against what is there: RFC 9110, 13.

A condition is a question about versions: is mine still yours? Entity tags answer it exactly, dates to the second.
"""

from __future__ import annotations

from appd.http.core.date import parse_date
from appd.startup.patterns import pattern
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Version", "counts_range", "tags_of", "verdict"]

# RFC 9110, 8.8.3: entity-tag = [ weak ] opaque-tag
_TAG = pattern(r'[ \t]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|\Z)|[ \t]*,')


class Version(NamedTuple):
    """What tells one version of a file from the others.

    Attributes:
        etag: Its entity tag, with the quotes; "" without one.
        last_modified: Last-Modified, as it is sent; "" without one.
        modified: The same in seconds since the epoch.
        settled: Whether the file has been left alone for long enough that its date names this version and no other.
    """

    etag: str
    last_modified: str
    modified: int
    settled: bool


def verdict(method: str, named: Mapping[str, str], version: Version) -> int:
    """Weighs the conditions of a request in the order of RFC 9110, 13.2.2.

    Args:
        method: The method.
        named: The fields of the request by their lower-case names.
        version: What is there.

    Returns:
        304 or 412, which is the answer; 0 when the request is to be answered as if it had none.
    """
    reads = method in ("GET", "HEAD")
    if (field := named.get("if-match")) is not None:
        if not _matches_strongly(field, version.etag):
            return 412
    elif (field := named.get("if-unmodified-since")) is not None and _is_later(version, field):
        return 412
    if (field := named.get("if-none-match")) is not None:
        if _matches_weakly(field, version.etag):
            return 304 if reads else 412
    elif reads and (field := named.get("if-modified-since")) is not None and _is_known(version, field):
        return 304
    return 0


def counts_range(named: Mapping[str, str], version: Version) -> bool:
    """Whether a Range field counts: without If-Range, or when that names this very version (13.1.5)."""
    field = named.get("if-range")
    if field is None:
        return True
    if field.startswith(('"', "W/")):
        return field == version.etag and not field.startswith("W/")
    # A date that is not settled could stand for two versions (8.8.2.2).
    return field == version.last_modified and version.settled and bool(field)


def tags_of(field: str) -> list[str]:
    """The entity tags of a field; none when it is malformed, for half of a list could mean anything."""
    tags: list[str] = []
    place = 0
    while place < len(field):
        match = _TAG.match(field, place)
        if match is None:
            return []
        if match[1]:
            tags.append(match[1])
        place = match.end()
    return tags


def _matches_strongly(field: str, etag: str) -> bool:
    # 13.1.1: `*` is true for whatever is there, and a weak tag is equal to none.
    return field == "*" or (bool(etag) and not etag.startswith("W/") and etag in tags_of(field))


def _matches_weakly(field: str, etag: str) -> bool:
    if field in ("*", etag):
        return bool(field)
    plain = etag.removeprefix("W/")
    return bool(plain) and any(one.removeprefix("W/") == plain for one in tags_of(field))


def _is_known(version: Version, field: str) -> bool:
    if not version.last_modified:
        return False
    if field == version.last_modified:
        return True
    since = parse_date(field)
    return since is not None and version.modified <= since


def _is_later(version: Version, field: str) -> bool:
    # Without a date of its own a file cannot be known to be older; a date that is none does not count (13.1.4).
    since = parse_date(field)
    return since is not None and (not version.last_modified or version.modified > since)
