"""What a request is for: its target and its host."""

from __future__ import annotations

import pytest

from appd.http.core.errors import Refused
from appd.http.core.target import host_name, read_target


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


@pytest.mark.parametrize("authority", ["a ", "a/", "a:b", "u@h", "a\n", "::1", "[::1", "a:1:2", "a\0", "é"])
def test_no_host_name(authority: str) -> None:
    """What cannot be one."""
    with pytest.raises(ValueError):
        host_name(authority)


@pytest.mark.parametrize(
    ("method", "target", "hosts", "expected"),
    [
        ("GET", "/a?b", ["X:80"], ("X:80", "x", "/a", "b")),
        ("GET", "//a", ["x"], ("x", "x", "//a", "")),
        ("GET", "http://Y:1/a?b", ["x"], ("Y:1", "y", "/a", "b")),
        ("GET", "HTTPS://y", ["x"], ("y", "y", "/", "")),
        ("GET", "http://y?q", ["x"], ("y", "y", "/", "q")),
        ("OPTIONS", "*", ["x"], ("x", "x", "*", "")),
        ("GET", "/", [""], ("", "", "/", "")),
    ],
)
def test_targets(method: str, target: str, hosts: list[str], expected: tuple[str, str, str, str]) -> None:
    """The forms of RFC 9112, 3.2: the host of an absolute one counts."""
    assert read_target(method, target, 1, hosts) == expected


@pytest.mark.parametrize(
    ("method", "target", "hosts"),
    [
        ("GET", "*", ["x"]),
        ("GET", "a", ["x"]),
        ("CONNECT", "x:80", ["x"]),
        ("GET", "ftp://x/", ["x"]),
        ("GET", "http:///", ["x"]),
        ("GET", "http://u@x/", ["x"]),
        ("GET", "/", []),
        ("GET", "/", ["x", "x"]),
        ("GET", "/", ["x/y"]),
        ("GET", "/", ["\xff"]),
    ],
)
def test_bad_targets(method: str, target: str, hosts: list[str]) -> None:
    """What is refused. That a target is visible ASCII, its caller has seen."""
    with pytest.raises(Refused):
        read_target(method, target, 1, hosts)


def test_http_1_0_needs_no_host() -> None:
    """Host came with HTTP/1.1."""
    assert read_target("GET", "/", 0, []) == ("", "", "/", "")
