"""Sockets that appd makes: what it leaves behind when that fails, and who may connect meanwhile."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import closing

import pytest

from appd.address import Address, parse
from appd.errors import ConfigurationError, HostError
from appd.listening import binding
from appd.listening.binding import BindOptions, bind, path_identity, unlink_bound


@pytest.fixture
def no_umask():
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


def refuse(number: int):
    def refused(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    return refused


@pytest.mark.parametrize("options", [BindOptions(user="nobody-of-that-name"), BindOptions(group="no-such-group")])
def test_an_unknown_owner_leaves_nothing(tmp_path, options):
    """A user or group that there is not: a fault of the file, found before anything is made."""
    path = tmp_path / "x.sock"
    with pytest.raises(ConfigurationError, match=r"there is no (user|group) '"):
        bind(parse(str(path)), options)
    assert not path.exists()


@pytest.mark.parametrize("kind", ["unix", "unix-dgram"])
@pytest.mark.parametrize("step", ["chmod", "chown"])
def test_a_failure_after_bind_removes_the_path(tmp_path, monkeypatch, kind, step):
    """What the host refuses once the path is there."""
    path = tmp_path / "x.sock"
    monkeypatch.setattr(binding.os, step, refuse(errno.EPERM))
    with pytest.raises(HostError, match="permission denied") as raised:
        bind(parse(f"{kind}:{path}"), BindOptions(mode=0o660, group=str(os.getgid())))
    assert raised.value.errno == errno.EPERM
    assert not path.exists()


def test_another_failure_after_bind_removes_the_path(tmp_path, monkeypatch):
    """A stop that is told in the middle of it."""
    path = tmp_path / "x.sock"

    def stop(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(binding.os, "chmod", stop)
    with pytest.raises(KeyboardInterrupt):
        bind(parse(str(path)), BindOptions(mode=0o660))
    assert not path.exists()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "/nowhere/x.sock", "@abstract", "udp:[::1]:0"])
def test_no_descriptor_left(monkeypatch, address):
    """EMFILE is the host's refusal, wherever the descriptor is missing."""
    monkeypatch.setattr(binding.socket, "socket", refuse(errno.EMFILE))
    with pytest.raises(HostError, match="Too many open files") as raised:
        bind(parse(address))
    assert raised.value.errno == errno.EMFILE


def test_nobody_knows_the_network_namespace(tmp_path, monkeypatch):
    """Without that part of proc(5) it is not called private, and a bare port is an IPv4 one."""
    monkeypatch.setattr(binding, "_NET", str(tmp_path))
    with closing(bind(Address("tcp", port=0), environ={"INVOCATION_ID": "0"})) as sock:
        assert sock.family == socket.AF_INET


def test_a_host_name_that_cannot_be_encoded():
    """getaddrinfo(3) is never asked: Python encodes the name first, and raises UnicodeError."""
    with pytest.raises(HostError, match="cannot be resolved"):
        bind(Address("tcp", host="a..b", port=80))


@pytest.mark.parametrize("kind", ["unix", "unix-dgram"])
@pytest.mark.parametrize("group", [None, str(os.getgid())])
def test_never_wider_than_wanted(tmp_path, monkeypatch, no_umask, kind, group):
    """From bind(2) on; until the path has its group, only the owner may connect."""
    path = tmp_path / "x.sock"
    seen: list[int] = []
    for step in "chmod", "chown":
        real = getattr(os, step)

        def watched(*arguments, real=real):
            seen.append(stat.S_IMODE(os.lstat(path).st_mode))
            real(*arguments)

        monkeypatch.setattr(binding.os, step, watched)
    bind(parse(f"{kind}:{path}"), BindOptions(mode=0o660, group=group)).close()
    assert seen[0] == (0o600 if group else 0o660)
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o660


def test_the_mode_is_exact(tmp_path):
    """A strict umask takes nothing from a mode that is asked for; without a mode the umask decides."""
    before = os.umask(0o077)
    try:
        bind(parse(f"unix:{tmp_path}/a:mode=666")).close()
        bind(parse(f"{tmp_path}/b")).close()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(os.lstat(tmp_path / name).st_mode) for name in "ab"] == [0o666, 0o700]


def test_unlink_bound(tmp_path, monkeypatch):
    """Removes its own path, leaves another's, and says why it could not."""
    path = tmp_path / "x.sock"
    with closing(bind(parse(str(path)))) as sock:
        identity = path_identity(sock)
        with monkeypatch.context() as patched:
            patched.setattr(binding.os, "unlink", refuse(errno.EACCES))
            failed = unlink_bound(sock, identity)
        assert failed is not None and failed.errno == errno.EACCES and path.exists()
        assert unlink_bound(sock, identity) is None and not path.exists()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            assert unlink_bound(sock, identity) is None and path.exists()
