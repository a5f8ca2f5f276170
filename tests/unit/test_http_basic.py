"""Basic authentication, without sockets: RFC 7617."""

from __future__ import annotations

import base64

import pytest

from appd.http.basic import Guard, Refusal


class Passwords:
    """Knows one user, and notes what it is asked."""

    def __init__(self):
        self.looked = []
        self.kept = {}
        self.waits = 0.0
        self.busy = False

    def recall(self, credentials):
        return self.kept.get(credentials)

    def wait(self, peer):
        return self.waits

    def verify(self, user, password, credentials, peer):
        self.looked.append((user, password, peer))
        if self.busy:
            return None
        if (user, password) == ("alice", b"secret"):
            self.kept[credentials] = user
            return True
        return False


@pytest.fixture
def passwords():
    return Passwords()


@pytest.fixture
def guard(passwords):
    return Guard('the "shop"', passwords)


def basic(text):
    return "Basic " + base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


@pytest.mark.parametrize(
    "shown",
    [None, "", "Basic", "Basic ", "Bearer abc", "Basic !!!", "Basic YWxpY2U=", "Basic a", "Basic YWxpY2U6c2VjcmV0, Basic x",
     "Basic " + "QUFB" * 2000, "Digest username=alice", "Basic YWxpY2U6c2Vjcm\u00e9"],
)  # fmt: skip
def test_without_credentials_it_asks(guard, passwords, shown):
    """With the realm, quoted, and UTF-8; nothing is looked at."""
    assert guard.known(shown) is None
    refusal = guard.refusal(shown, "192.0.2.1")
    assert refusal == Refusal(401, (("WWW-Authenticate", 'Basic realm="the \\"shop\\"", charset="UTF-8"'),))
    assert passwords.looked == []


def test_who_may_is_known_from_then_on(guard, passwords):
    """The password is looked at once."""
    shown = basic("alice:secret")
    assert guard.known(shown) is None and guard.refusal(shown, "192.0.2.1") is None
    assert guard.verify(shown, "192.0.2.1") == "alice"
    assert guard.known(shown) == "alice"
    assert passwords.looked == [("alice", b"secret", "192.0.2.1")]


def test_who_may_not_is_asked_again(guard, passwords):
    """And slowed with 429; who is known is not."""
    assert guard.verify(basic("alice:secret"), "") == "alice"
    assert guard.verify(basic("alice:wrong"), "").status == 401
    passwords.waits = 3.2
    assert guard.refusal(basic("alice:other"), "") == Refusal(429, (("Retry-After", "4"),))
    assert guard.known(basic("alice:secret")) == "alice"
    assert guard.refusal(None, "").status == 401


def test_too_many_at_a_time(guard, passwords):
    """503, with a moment to wait."""
    passwords.busy = True
    assert guard.verify(basic("alice:secret"), "") == Refusal(503, (("Retry-After", "1"),))


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [("alice:a:b", "alice", b"a:b"), (":x", "", b"x"), ("x:", "x", b""), ("j\u00f6rg:p\u00e4ss", "j\u00f6rg", "p\u00e4ss".encode()),
     ("j\u00f6rg:x".encode("latin-1"), "j\u00f6rg", b"x"), ("a:\0", "a", b"\0")],
)  # fmt: skip
def test_names_and_passwords(guard, passwords, text, user, password):
    """The first colon ends the name; UTF-8, else Latin-1."""
    guard.verify(basic(text), "p")
    assert passwords.looked == [(user, password, "p")]


def test_the_scheme_is_in_any_case(guard):
    """RFC 9110, 11.1."""
    assert guard.verify(basic("alice:secret").replace("Basic ", "bASIC  "), "") == "alice"
