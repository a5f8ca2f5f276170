"""Which mount answers a host and a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appd.http.routing import Route, Router, segments_of


def route(path: str, *hosts: str) -> Route:
    segments = segments_of(path.rstrip("/"))
    assert segments is not None
    return Route(segments, frozenset(hosts))


ROUTES = {
    "everything": route("/"),
    "media": route("/media"),
    "large": route("/media/large"),
    "shop": route("/", "shop.example", "www.shop.example"),
    "shop media": route("/media", "shop.example"),
    "café": route("/caf%C3%A9"),
}


def find(path: str, host: str = "other.example") -> str | None:
    segments = segments_of(path)
    place = Router(list(ROUTES.values())).find(host, segments) if segments is not None else None
    return None if place is None else list(ROUTES)[place]


@pytest.mark.parametrize(
    ("path", "host", "mount"),
    [
        ("/", "", "everything"),
        ("/media", "", "media"),
        ("/media/", "", "media"),
        ("/media/a/b", "", "media"),
        ("/mediax", "", "everything"),
        ("/medi", "", "everything"),
        ("/Media", "", "everything"),
        ("//media", "", "everything"),
        ("/media/large/x", "", "large"),
        ("/media/largex", "", "media"),
        ("/med%69a/x", "", "media"),
        ("/media%2Flarge", "", "everything"),
        ("/media%2fx", "", "everything"),
        ("/media%5cx", "", "everything"),
        ("/media/large%2fx", "", "media"),
        ("/caf%c3%a9/x", "", "café"),
        ("/", "shop.example", "shop"),
        ("/", "www.shop.example", "shop"),
        ("/", "shop.example.org", "everything"),
        ("/media/x", "shop.example", "shop media"),
        ("/media/x", "www.shop.example", "media"),  # the path goes before the host
        ("/media/large/x", "shop.example", "large"),
    ],
)
def test_the_longest_path_wins_then_the_host(path: str, host: str, mount: str) -> None:
    """Segment by segment, after percent-decoding."""
    assert find(path, host) == mount


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/../x",
        "/media/..",
        "/media/../x",
        "/media/%2e%2e/x",
        "/media/%2E./x",
        "/media/.%2e",
        "/media/..%2fx",
        "/media/x%2f..%2f..%2fy",
        "/media/..%5cx",
        "/media/%5c..%5cx",
        "/media/%2f..",
        "/./media",
        "/media/%2e/x",
        "/media/a%00b",
        "/%00",
    ],
)
def test_a_path_that_climbs_is_nobodys(path: str) -> None:
    """However it is spelled."""
    assert segments_of(path) is None


@pytest.mark.parametrize("path", ["/...", "/..a", "/a..", "/.a", "/%252e%252e", "/a..b/c", "/%c0%ae%c0%ae"])
def test_dots_in_names_are_names(path: str) -> None:
    """Decoded once, and only a segment that is nothing but dots climbs."""
    assert find(path) == "everything"


def test_the_order_of_the_file_is_last() -> None:
    """Two mounts that a request fits equally well do not pass `mounts`, but the order would decide."""
    router = Router([route("/a", "x", "y"), route("/a", "y", "z")])
    assert router.find("y", (b"a",)) == 0
    assert router.find("z", (b"a",)) == 1


def test_nothing_matches() -> None:
    """There is no mount of last resort."""
    router = Router([route("/a"), route("/", "x")])
    assert router.find("y", (b"b",)) is None
    assert router.find("x", (b"b",)) == 1


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (route("/a"), route("/a/"), True),
        (route("/a"), route("/%61"), True),
        (route("/a"), route("/a", "x"), False),
        (route("/a", "x"), route("/a", "y"), False),
        (route("/a", "x", "y"), route("/a", "y", "z"), True),
        (route("/a"), route("/b"), False),
    ],
)
def test_clashes(one: Route, other: Route, clash: bool) -> None:
    """The same path, for the same host or both for every host."""
    assert one.clashes(other) is other.clashes(one) is clash


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_segments_never_climb(path: str) -> None:
    """No path at all has a segment by which one could climb or end a string."""
    for one in segments_of("/" + path) or ():
        assert b"\0" not in one
        assert b".." not in one.replace(b"\\", b"/").split(b"/")
