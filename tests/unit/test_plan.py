"""Which sockets each server gets, and what is wrong with a file before anything is made."""

from __future__ import annotations

import sys

import pytest

from appd.config import load
from appd.errors import ConfigurationError
from appd.interfaces import Host, Section
from appd.registry import Registry
from appd.worker.plan import make_plan

SERVER = "<echo e>\n address systemd:name=web\n</echo>\n"


def plan(tmp_path, text, binds=None):
    file = tmp_path / "appd.conf"
    file.write_text(text)
    return make_plan(load(str(file)), Registry(), None, binds or {})


def problems(tmp_path, text) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        plan(tmp_path, text)
    return [str(one).removeprefix(f"{tmp_path}/") for one in raised.value.problems]


def section(*lines: str, name: str = "web") -> str:
    return f"<socket {name}>\n" + "".join(f" {line}\n" for line in lines) + "</socket>\n"


def test_a_misspelt_prefix(tmp_path):
    """Line, server, the nearest known prefix."""
    (one,) = problems(tmp_path, "<echo e>\n address sytemd:name=web\n</echo>\n")
    assert one.startswith("appd.conf:2: server 'e': sytemd:name=web: ") and "did you mean systemd:?" in one


@pytest.mark.parametrize("key", ["user", "group"])
def test_an_owner_that_there_is_not(tmp_path, key):
    """Found in the file, not after bind."""
    for wrong in "no-such-one", "99999999999", "\u00b2":
        (one,) = problems(tmp_path, section("listen /run/x.sock", f"{key} {wrong}") + SERVER)
        assert one == f"appd.conf:3: <socket web>: there is no {key} {wrong!r}"
    plan(tmp_path, section("listen /run/x.sock", f"{key} 0") + SERVER)
    plan(tmp_path, section("listen /run/x.sock", f"{key} root") + SERVER)


@pytest.mark.parametrize("key", ["mode 0660", "user root", "group root"])
@pytest.mark.parametrize("listen", ["8080", "udp:127.0.0.1:514", "@abstract"])
def test_permissions_without_a_path(tmp_path, key, listen):
    """They are for UNIX paths; one path among the addresses is enough."""
    (one,) = problems(tmp_path, section(f"listen {listen}", key) + SERVER)
    name = key.partition(" ")[0]
    assert one == f"appd.conf:3: <socket web>: {name} is for UNIX paths, and no listen address is one"
    plan(tmp_path, section(f"listen {listen}", "listen /run/x.sock", key) + SERVER)


@pytest.mark.parametrize("listen", ["127.0.0.1:80", "/run/x.sock", "udp:0.0.0.0:1"])
def test_ipv6_only_without_ipv6(tmp_path, listen):
    """bind-ipv6-only needs an address that can be IPv6: a host name can."""
    (one,) = problems(tmp_path, section(f"listen {listen}", "bind-ipv6-only both") + SERVER)
    assert one == "appd.conf:3: <socket web>: bind-ipv6-only is for IPv6 addresses, and no listen address is one"
    for good in "[::]:80", "80", "ip6-localhost:80":
        plan(tmp_path, section(f"listen {listen}", f"listen {good}", "bind-ipv6-only both") + SERVER)


TWICE = {
    "two sockets": (section("listen 81", name="a") + section("listen 81", name="b"), 5),
    "one socket": (section("listen /run/x", "listen unix:/run/x:mode=600", name="a"), 3),
    "a socket and an address": (
        section("listen 127.0.0.1:81", name="a") + "<echo f>\n address 127.0.0.1:81\n</echo>\n",
        5,
    ),
    "a shared port and one that is not": (
        section("listen 81", "reuse-port on", name="a") + section("listen 81", name="b"),
        6,
    ),
    "stream and datagram at one path": (section("listen /run/x", "listen unix-dgram:/run/x", name="a"), 3),
}


@pytest.mark.parametrize("case", TWICE)
def test_addresses_twice(tmp_path, case):
    """What would be bound twice, wherever it is written."""
    text, line = TWICE[case]
    (one,) = problems(tmp_path, text + SERVER)
    assert one.startswith(f"appd.conf:{line}: address ") and "is there twice; the first is at" in one


def test_addresses_that_may_be_twice(tmp_path):
    """Ports that the kernel chooses, ports that are shared, positions of one name, stream and datagram of one port."""
    text = (
        section("listen 127.0.0.1:0", "listen 127.0.0.1:0", name="a")
        + section("listen 81", "reuse-port on", name="b")
        + section("listen 81", "reuse-port on", name="c")
        + section("listen 82", "listen udp:*:82", name="d")
        + "<echo e>\n address systemd:name=n:position=0\n address systemd:name=n:position=1\n</echo>\n"
    )
    plan(tmp_path, text)


@pytest.mark.parametrize("other", ["systemd:name=n", "systemd:name=n:position=1"])
def test_positions_that_overlap(tmp_path, other):
    """A name means all of its positions."""
    text = f"<echo e>\n address systemd:name=n:position=0\n address systemd:name=n:position=1\n</echo>\n<echo f>\n address {other}\n</echo>\n"
    (one,) = problems(tmp_path, text)
    assert one.startswith(f"appd.conf:6: address {other} is there twice")


def test_many_servers(tmp_path):
    """The time grows with the number of servers, not with its square."""
    from appd.worker.plan import _addresses_once

    file = tmp_path / "appd.conf"
    file.write_text(
        "".join(
            f"<echo e{n}>\n address systemd:name=n{n}\n address systemd:name=one:position={n}\n</echo>\n"
            for n in range(2000)
        )
    )
    settings = load(str(file))
    found: list = []
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        _addresses_once(settings, found)
    finally:
        sys.setprofile(None)
    # Two addresses of 2000 servers; each with each other would be millions.
    assert not found and calls < 4000 * 50


def test_limits_that_a_server_has_no_use_for(tmp_path):
    """Refused, each at its line, with those that it has."""
    text = "<limits>\n queue 5\n header-count 5\n</limits>\n"
    has = "connections, connections-per-peer, handshake-timeout, idle-timeout"
    one, two = problems(tmp_path, f"<echo e>\n address 8001\n{text}</echo>\n")
    assert one == f"appd.conf:4: server 'e': queue is no limit of <echo>, which has {has}"
    assert two == f"appd.conf:5: server 'e': header-count is no limit of <echo>, which has {has}"
    plan(tmp_path, f"<http e>\n address 8001\n{text}</http>\n<server f>\n address 8002\n type HTTP\n{text}</server>\n")


def test_limits_of_a_server_that_is_not_http(tmp_path):
    """`<server>` finds out when it makes the server."""
    text = (
        "<server chat>\n type twisted.protocols.wire:Echo\n address 8002\n <limits>\n  queue 5\n </limits>\n</server>"
    )
    (planned,) = plan(tmp_path, text).servers
    with pytest.raises(ConfigurationError) as raised:
        planned.server_type.create("chat", None, section=Section(planned.settings, (), Host(None, None, None)))
    assert str(raised.value).endswith(
        "appd.conf:5: server 'chat': queue is no limit of type twisted.protocols.wire:Echo, which has "
        "connections, connections-per-peer, handshake-timeout, idle-timeout"
    )
