"""Where redirects lead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.heads import head

from appd.http.core.request import Request
from appd.http.redirect import Redirection, encoded
from appd.http.site import Redirect


def location(to: str, target: str, depth: int = 0, **keys: object) -> str:
    response = Redirection(Redirect(to)._replace(**keys), depth).respond(head(target))
    return dict(response.fields)["Location"]


@pytest.mark.parametrize(
    ("to", "target", "expected"),
    [
        ("https://new.example", "/old", "https://new.example"),
        ("https://new.example", "/old/", "https://new.example/"),
        ("https://new.example", "/old/a/b?c=d", "https://new.example/a/b?c=d"),
        ("https://new.example/", "/old/a", "https://new.example/a"),
        ("https://new.example/shop", "/old", "https://new.example/shop"),
        ("https://new.example/shop", "/old?c=d", "https://new.example/shop?c=d"),
        ("https://new.example/shop/", "/old", "https://new.example/shop/"),
        ("https://new.example/shop/", "/old/a/", "https://new.example/shop/a/"),
        ("/new", "/old/a%20b%2Fc", "/new/a%20b%2Fc"),
        ("/", "/old/a", "/a"),
        ("/", "/old", "/"),
        # By no path to a host of the client's choice.
        ("/", "/old//evil.example", "/evil.example"),
        ("/", "/old///evil.example/%2e", "/evil.example/%2e"),
        ("/", "/old/\\evil.example", "/%5Cevil.example"),
        ("https://new.example", "/old/.evil.example", "https://new.example/.evil.example"),
        ("https://new.example", "/old/@evil.example", "https://new.example/@evil.example"),
    ],
)
def test_with_the_rest_of_the_path(to: str, target: str, expected: str) -> None:
    """Appended as it was sent, and the query too."""
    assert location(to, target, 1) == expected


def test_of_everything() -> None:
    """A mount at / has no segments of its own."""
    assert location("https://new.example", "/a/b") == "https://new.example/a/b"
    assert location("https://new.example", "/") == "https://new.example/"


def test_exactly() -> None:
    """The same place for every path."""
    assert location("/here?a#b", "/old/x?y", 1, exact=True) == "/here?a#b"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_response(status: int) -> None:
    """Of any method, with a small page."""
    for method in ("GET", "POST", "HEAD", "OPTIONS"):
        response = Redirection(Redirect("/x", status), 0).respond(head("/", method))
        assert response.status == status
        assert isinstance(response.body, bytes)
        assert response.body.startswith(b"%d " % status)


def test_encoded() -> None:
    """What is encoded stays, and what must not stand in a URL is encoded."""
    assert encoded("/a%20b?c=[d]&e;f=%3F") == "/a%20b?c=[d]&e;f=%3F"
    assert encoded('/a"<>\\^`{|} \r\nb') == "/a%22%3C%3E%5C%5E%60%7B%7C%7D%20%0D%0Ab"


@given(st.text(st.characters(max_codepoint=255), max_size=30), st.text(st.characters(max_codepoint=255), max_size=10))
def test_no_header_can_be_added(path: str, query: str) -> None:
    """Even by targets that the core refuses."""
    request = Request("GET", "", 1, [], {}, ("", "", f"/{path}", query))
    for to in ("/", "https://new.example/a"):
        response = Redirection(Redirect(to), 0).respond(request)
        found = dict(response.fields)["Location"]
        assert found.startswith(to) and found.isascii() and found.isprintable() and " " not in found
        assert not found.startswith(("//", "/\\"))
