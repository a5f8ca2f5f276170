"""Upstreams: one text, one value."""

from __future__ import annotations

import pytest

from appd.http.proxy.upstream import Upstream, read_upstream

GOOD = {
    "127.0.0.1:9000": (Upstream("http", "127.0.0.1", 9000), "127.0.0.1:9000", "127.0.0.1:9000"),
    "[::1]:9000": (Upstream("http", "::1", 9000), "[::1]:9000", "[::1]:9000"),
    "backend:80": (Upstream("http", "backend", 80), "backend:80", "backend"),
    "http://backend": (Upstream("http", "backend", 80), "backend:80", "backend"),
    "HTTP://backend:81/": (Upstream("http", "backend", 81), "backend:81", "backend:81"),
    "https://backend": (Upstream("https", "backend", 443), "https://backend", "backend"),
    "https://[2001:db8::1]:8443": (
        Upstream("https", "2001:db8::1", 8443),
        "https://[2001:db8::1]:8443",
        "[2001:db8::1]:8443",
    ),
    "/run/x.sock": (Upstream("http", path="/run/x.sock"), "/run/x.sock", "localhost"),
}
BAD = [
    "",
    "backend",
    "127.0.0.1",
    "backend:0",
    "backend:65536",
    "http://backend/path",
    "http://user@backend",
    "http://backend?x",
    "ftp://backend",
    "::1:9000",
    "/" + "x" * 107,
    "a b:80",
]


@pytest.mark.parametrize("text", GOOD)
def test_good(text):
    """What is written, what is meant, what people and the upstream see; and back."""
    expected, shown, authority = GOOD[text]
    upstream = read_upstream(text)
    assert (upstream, str(upstream), upstream.authority) == (expected, shown, authority)
    assert read_upstream(str(upstream)) == upstream


@pytest.mark.parametrize("text", BAD)
def test_bad(text):
    """Each says what was written."""
    with pytest.raises(ValueError) as raised:
        read_upstream(text)
    assert repr(text) in str(raised.value)
