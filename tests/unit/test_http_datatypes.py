"""The values of the keys of <http>."""

from __future__ import annotations

import pytest

from appd.config.loader import schema_with
from appd.http.core.fields import is_token, is_value
from appd.http.core.limits import Limits
from appd.servers.http import datatypes
from appd.servers.http.mounts import LIMITS, read_limits


@pytest.mark.parametrize(
    ("text", "path"), [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/a/b//", "/a/b"), ("/%61", "/%61"), ("/é", "/é")]
)
def test_mount_path(text: str, path: str) -> None:
    """A slash at the end means nothing."""
    assert datatypes.mount_path(text) == path


@pytest.mark.parametrize(
    "text", ["", "a", "*", "/a?b", "/a#b", "/../a", "/a/./b", "/a//b", "/a%2fb", "/a/%2e%2e", "/%00"]
)
def test_no_mount_path(text: str) -> None:
    """No request could be for it, or it would mean another."""
    with pytest.raises(ValueError, match=r"start with|holds"):
        datatypes.mount_path(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [("Example.COM:80", "example.com"), ("bücher.example", "xn--bcher-kva.example"), ("[::1]", "[::1]")],
)
def test_host(text: str, host: str) -> None:
    """As clients send it."""
    assert datatypes.host(text) == host


@pytest.mark.parametrize("text", ["*.example.com", "a b", "http://a", "::1", "ü" * 80])
def test_no_host(text: str) -> None:
    """What no Host field can say."""
    with pytest.raises(ValueError, match="host"):
        datatypes.host(text)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("X-Frame-Options DENY", ("X-Frame-Options", "DENY")),
        ("Cache-Control   max-age=60, public ", ("Cache-Control", "max-age=60, public")),
        ("Content-Security-Policy default-src 'self'; x", ("Content-Security-Policy", "default-src 'self'; x")),
    ],
)
def test_header(text: str, header: tuple[str, str]) -> None:
    """NAME VALUE."""
    assert datatypes.header(text) == header


@pytest.mark.parametrize(
    "text",
    [
        "X-Name",
        "X-Name:  v",
        "X(Y) v",
        "Ü v",
        "X-N v\rSet-Cookie: a",
        "X-N v\nb",
        "X-N a\0b",
        "X-N ü",
        "X-N \x7f",
        "Content-Length 5",
        "connection close",
        "Transfer-Encoding chunked",
        "Date now",
    ],
)
def test_no_header(text: str) -> None:
    """What RFC 9110 does not allow, and what is the server's to say."""
    with pytest.raises(ValueError, match=r"RFC 9110|NAME VALUE|not yours"):
        datatypes.header(text)


@pytest.mark.parametrize("text", ["", ".", "..", "a/b"])
def test_no_file_name(text: str) -> None:
    """An index file lies in the folder itself."""
    with pytest.raises(ValueError, match="file"):
        datatypes.file_name(text)


def test_fields() -> None:
    """Tokens and values of RFC 9110; a final line end does not slip through."""
    assert is_token("!#$%&'*+-.^_`|~aZ09")
    assert not any(map(is_token, ["", "a b", "a:", "é", "a\n", "(a)"]))
    assert all(map(is_value, ["", "a", "a b\tc", "\xff"]))
    assert not any(map(is_value, [" a", "a ", "a\n", "a\r\nb", "a\0", "\u0100"]))


def test_the_defaults_of_limits() -> None:
    """What `appd types http` shows is what the engine has, key by key."""
    section = schema_with().gettype("appd.limits")
    shown = {info.attribute: info.datatype(info.getdefault().value) for key, info in section if key in LIMITS}
    assert shown == Limits()._asdict()
    assert {key for key, _info in section} - LIMITS == {"login-timeout"}
    assert read_limits(None) == Limits()
