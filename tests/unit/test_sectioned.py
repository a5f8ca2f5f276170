"""Server types that need a section: they are server types all the same, and say so without one."""

from __future__ import annotations

import pytest
from zope.interface.verify import verifyObject

from appd.interfaces import IServerType
from appd.registry import Registry
from appd.servers.sectioned import SectionedServerType

TYPES = {one.name: one.load() for one in Registry().all() if one.is_ours}
SECTIONED = sorted(name for name, one in TYPES.items() if isinstance(one, SectionedServerType))


def test_the_usual_ones_are_among_them():
    assert {"amp", "dns", "ftp", "pb", "smtp", "ssh", "tac", "timer"} <= set(SECTIONED)


@pytest.mark.parametrize("name", SECTIONED)
def test_without_a_section(name):
    """One line that says what it is for; the contract is kept."""
    verifyObject(IServerType, TYPES[name])
    with pytest.raises(TypeError, match=r"^server 'x': this type needs a section of the file, which \w+ .*\w$"):
        TYPES[name].create("x", None, port=0)
