"""Addresses to listeners: what is refused before anything listens, and what a refusal of the host says."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from appd.address import parse
from appd.errors import ConfigurationError, HostError, Place
from appd.listening import binding
from appd.listening.binding import BindOptions
from appd.listening.described import DescribedListener
from appd.listening.endpoints import NamedSocket, resolve
from appd.listening.listeners import BoundListener
from appd.systemd.activation import ClaimError

STREAM = frozenset({"stream"})
PLACE = Place("/etc/appd/appd.conf", 7)


def listeners(text: str, **options):
    return resolve(parse(text), "web", STREAM, None, options.pop("named", {}), **options)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("sytemd:name=web", "did you mean systemd:?"),
        ("unx:/run/x.sock", "did you mean unix:?"),
        ("haproxi:tcp:80", "did you mean haproxy:?"),
        ("SSL:443:privateKey=/x", "did you mean ssl:?"),
        ("nosuch:kind:of=endpoint", "no kind of address begins with 'nosuch' (allowed: "),
    ],
)
def test_a_prefix_that_nobody_knows(text, near):
    """The nearest prefixes, those of Twisted, and the allowed forms."""
    with pytest.raises(ClaimError) as raised:
        listeners(text)
    message = str(raised.value)
    assert near in message and "haproxy:" in message and "systemd:name=NAME" in message and "\n" not in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("haproxy:tcp:http", "ValueError"),
        ("ssl:443:nosuch=option", "TypeError"),
        ("ssl:443:privateKey=/nowhere/at/all.pem", "FileNotFoundError"),
        ("haproxy:sytemd:name=web", "sytemd"),
        ("haproxy:", ""),
    ],
)
def test_a_description_that_twisted_cannot_read(text, reason):
    """Wrong arguments behind a known prefix show before the start."""
    with pytest.raises(ClaimError, match="Twisted cannot read it: ") as raised:
        listeners(text)
    assert reason in str(raised.value)


def test_a_key_that_this_user_may_not_read(monkeypatch):
    """`appd check` runs as anybody: what the service may read is not refused."""

    def denied(_reactor, _text):
        raise PermissionError(errno.EACCES, "Permission denied", "/etc/ssl/private/key.pem")

    monkeypatch.setattr("twisted.internet.endpoints.serverFromString", denied)
    (one,) = listeners("ssl:443:privateKey=/etc/ssl/private/key.pem")
    assert isinstance(one, DescribedListener)


def test_a_good_description():
    """One of Twisted's own endpoint plugins, in any case of its prefix."""
    for text in "haproxy:tcp:0:interface=127.0.0.1", "HAProxy:tcp:0":
        (one,) = listeners(text)
        assert isinstance(one, DescribedListener) and one.where == text


def test_a_refusal_says_where():
    """File, line and server, and the errno of the host."""
    (one,) = listeners("/nowhere/at/all.sock", place=PLACE)
    with pytest.raises(HostError) as raised:
        one.prepare()
    assert str(raised.value) == (
        "/etc/appd/appd.conf:7: server 'web': cannot listen on /nowhere/at/all.sock: there is no folder /nowhere/at"
    )
    assert raised.value.errno == errno.ENOENT


def test_a_fault_of_the_file_says_where(tmp_path):
    """An owner that there is not, asked for by nobody before."""
    one = BoundListener(
        address := parse(f"{tmp_path}/x.sock"), address, BindOptions(user="no-such-user"), server="web", place=PLACE
    )
    with pytest.raises(ConfigurationError, match=r"^/etc/appd/appd.conf:7: server 'web': .*there is no user"):
        one.prepare()


def test_a_named_socket_says_where_its_own_line_is():
    """What is wrong with a `<socket>` is mended there."""
    there = Place("/etc/appd/appd.conf", 2)
    named = {"x": NamedSocket((parse("/nowhere/x"), parse("/nowhere/y")), places=(PLACE, there))}
    (one,) = listeners("systemd:name=x:position=1", named=named, place=Place("other", 1))
    with pytest.raises(HostError, match=r"appd.conf:2: server 'web': cannot listen on /nowhere/y"):
        one.prepare()


def test_without_a_place():
    """A server that was made without a file: the bare line."""
    one = BoundListener(address := parse("/nowhere/x"), address, BindOptions())
    with pytest.raises(HostError, match=r"^cannot listen on /nowhere/x: "):
        one.prepare()


def test_release_closes_whatever_happens_to_the_path(tmp_path, monkeypatch):
    """The folder may not be writable any more, after twistd's --uid."""
    (one,) = listeners(str(tmp_path / "x.sock"))
    one.prepare()

    def denied(_path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(binding.os, "unlink", denied)
    with pytest.raises(PermissionError):
        one.release()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(os.fspath(tmp_path / "x.sock"))
    one.release()
