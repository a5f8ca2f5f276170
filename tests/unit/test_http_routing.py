"""Which mount answers a host and a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appd.http.routing import Route, Router, host_name, read_target, segments_of


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


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("Shop.Example", "shop.example"),
        ("shop.example:8080", "shop.example"),
        ("shop.example:", "shop.example"),
        ("shop.example.", "shop.example"),
        ("[::1]:80", "[::1]"),
        ("[FE80::1]", "[fe80::1]"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("", ""),
    ],
)
def test_host_name(authority: str, host: str) -> None:
    """Lower case, without the port."""
    assert host_name(authority) == host


@pytest.mark.parametrize("authority", ["a b", "a/b", "a:b", "u@h", "a\n", "::1", "[::1", "a:1:2", "a\0", "é"])
def test_no_host_name(authority: str) -> None:
    """What cannot be one."""
    with pytest.raises(ValueError):
        host_name(authority)


HTTP = b"HTTP/1.1"


@pytest.mark.parametrize(
    ("method", "target", "hosts", "expected"),
    [
        (b"GET", b"/a?b", [b"X:80"], ("X:80", "x", b"/a")),
        (b"GET", b"//a", [b"x"], ("x", "x", b"//a")),
        (b"GET", b"http://Y:1/a?b", [b"x"], ("Y:1", "y", b"/a")),
        (b"GET", b"HTTPS://y", [b"x"], ("y", "y", b"/")),
        (b"GET", b"http://y?q", [b"x"], ("y", "y", b"/")),
        (b"OPTIONS", b"*", [b"x"], ("x", "x", b"*")),
        (b"GET", b"/", [b""], ("", "", b"/")),
    ],
)
def test_targets(method: bytes, target: bytes, hosts: list[bytes], expected: tuple[str, str, bytes]) -> None:
    """The forms of RFC 9112, 3.2: the host of an absolute one counts."""
    assert read_target(method, target, HTTP, hosts) == expected


@pytest.mark.parametrize(
    ("method", "target", "hosts"),
    [
        (b"GET", b"*", [b"x"]),
        (b"GET", b"a", [b"x"]),
        (b"CONNECT", b"x:80", [b"x"]),
        (b"GET", b"ftp://x/", [b"x"]),
        (b"GET", b"http:///", [b"x"]),
        (b"GET", b"http://u@x/", [b"x"]),
        (b"GET", b"/a\x80", [b"x"]),
        (b"GET", b"/a\tb", [b"x"]),
        (b"GET", b"/", []),
        (b"GET", b"/", [b"x", b"x"]),
        (b"GET", b"/", [b"x/y"]),
        (b"GET", b"/", [b"\xff"]),
    ],
)
def test_bad_targets(method: bytes, target: bytes, hosts: list[bytes]) -> None:
    """What deserves a 400."""
    with pytest.raises(ValueError):
        read_target(method, target, HTTP, hosts)


def test_http_1_0_needs_no_host() -> None:
    """Host came with HTTP/1.1."""
    assert read_target(b"GET", b"/", b"HTTP/1.0", []) == ("", "", b"/")
