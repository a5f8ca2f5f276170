"""What a unit allows to servers that open connections."""

from __future__ import annotations

import errno
import socket
from types import SimpleNamespace

import pytest

from appd.systemd.confinement import forbids_outgoing, is_outgoing, may_connect


@pytest.mark.parametrize(
    ("lines", "forbids"),
    [
        ("", False),
        ("RestrictAddressFamilies=AF_UNIX", True),
        ("RestrictAddressFamilies=AF_UNIX AF_INET", False),
        ("RestrictAddressFamilies=AF_UNIX\nRestrictAddressFamilies=AF_INET6", False),
        ("RestrictAddressFamilies=AF_UNIX\nRestrictAddressFamilies=", False),
        ("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\nRestrictAddressFamilies=~AF_INET AF_INET6", True),
        ("RestrictAddressFamilies=~AF_INET", False),
        ("RestrictAddressFamilies=~AF_INET \\\n AF_INET6", True),
        ("RestrictAddressFamilies=none", True),
        ("[Unit]\nRestrictAddressFamilies=AF_UNIX", False),
    ],
)
def test_what_a_unit_leaves(lines, forbids):
    """The directive of systemd.exec(5): lists add up, an empty one takes all back, ~ takes away."""
    assert forbids_outgoing([f"[Service]\n{lines}\n"]) is forbids


def test_drop_ins_go_on_where_the_unit_ends():
    """As `inbound-only.conf` has it: first what the unit allows is taken back."""
    unit = "[Service]\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"
    drop_in = "[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX\n"
    assert not forbids_outgoing([unit])
    assert forbids_outgoing([unit, drop_in])


def test_only_a_family_that_is_not_there_forbids():
    """A process without descriptors is not confined; one family is enough."""

    def refuse(number, families):
        def make(family, _type):
            if family in families:
                raise OSError(number, "")
            return socket.socket(socket.AF_UNIX)

        return make

    both = {socket.AF_INET, socket.AF_INET6}
    assert not may_connect(refuse(errno.EAFNOSUPPORT, both))
    assert may_connect(refuse(errno.EAFNOSUPPORT, {socket.AF_INET6}))
    assert may_connect(refuse(errno.EMFILE, both))


def test_a_server_may_know_better_than_its_type():
    """An attribute of the service, where it is not None, goes before that of the type; without any it is no."""
    type_ = SimpleNamespace(outgoing=True)
    assert is_outgoing(type_)
    assert is_outgoing(type_, SimpleNamespace(outgoing=None))
    assert not is_outgoing(type_, SimpleNamespace(outgoing=False))
    assert is_outgoing(SimpleNamespace(), SimpleNamespace(outgoing=True))
    assert not is_outgoing(SimpleNamespace(), SimpleNamespace())
