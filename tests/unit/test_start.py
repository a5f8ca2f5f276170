"""What makes a start quick and is meant to change nothing else: records, declarations, the usual command line."""

from __future__ import annotations

import subprocess
import sys
import typing

import pytest
from zope.interface.verify import verifyObject

from appd.cli import RunOptions, plain_run
from appd.commands.arguments import parser
from appd.interfaces import IServerType, ISSLServerType
from appd.registry import Registry
from appd.servers import ServerType, SSLServerType
from appd.startup import records

FIELDS = "    '''A record.'''\n    first: Missing\n    second: int = 2\n    def total(self):\n        return self.first + self.second\n"


@pytest.mark.parametrize("base", [records.NamedTuple, typing.NamedTuple], ids=["ours", "typing's"])
def test_a_record(base):
    """Both do the same, whatever the annotations name."""
    space = {"Base": base, "__name__": "somewhere"}
    exec(f"from __future__ import annotations\nclass One(Base):\n{FIELDS}", space)
    one = space["One"](1)
    assert one == (1, 2) and one.total() == 3 and one._replace(first=5).total() == 7
    assert repr(one) == "One(first=1, second=2)" and one._fields == ("first", "second")
    assert space["One"].__doc__ == "A record." and space["One"].__module__ == "somewhere"
    assert list(space["One"].__annotations__) == ["first", "second"]
    with pytest.raises(AttributeError):
        one.first = 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "a.conf"],
        ["run", "a.conf", "--single"],
        ["run", "--control", "/run/c", "a.conf", "--bind", "http=8080", "--bind", "http=unix:/x", "--bind", "b=1"],
    ],
)
def test_the_usual_command_line_is_read_as_argparse_reads_it(arguments):
    found = parser().parse_args(arguments)
    assert plain_run(arguments) == RunOptions(found.file, found.bind, found.single, found.control)


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["check", "a.conf"], ["run"], ["run", "a", "b"], ["run", "--help"], ["run", "a", "--sing"],
        ["run", "a", "--bind=http=8080"], ["run", "a", "--bind"], ["run", "a", "--bind", "nonsense"],
        ["run", "a", "--control", "--single"], ["run", "--", "a"], ["run", "a", "-x"],
    ],
)  # fmt: skip
def test_everything_else_is_for_argparse(arguments):
    assert plain_run(arguments) is None


def test_what_is_declared_later_is_declared():
    """To zope.interface our types are as others."""
    assert verifyObject(IServerType, ServerType(lambda _db: None, 1))
    assert ISSLServerType.providedBy(SSLServerType(lambda _db: None, 1))
    for one in Registry(entry_points=lambda: ()).all():
        assert IServerType.providedBy(one.load()), one.name


def run(code: str) -> str:
    """What a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_a_type_is_made_without_zope():
    code = (
        "import sys\nfrom appd.servers.http.http import server_type\nprint('zope.interface' in sys.modules)\n"
        "from zope.interface import implementedBy, providedBy\nfrom appd.interfaces import IServerType\n"
        "print(IServerType.providedBy(server_type), IServerType in providedBy(server_type),"
        " IServerType.implementedBy(type(server_type)))"
    )
    assert run(code).split() == ["False", "True", "True", "True"]


def test_what_awaits_a_module():
    """It is done once, before the importer goes on, and the module is as ever."""
    code = (
        "import sys\nfrom appd.journal.awaited import when_imported\n"
        "when_imported('colorsys', lambda: print('now', hasattr(sys.modules['colorsys'], 'rgb_to_hsv')))\n"
        "print('before')\nimport colorsys\nprint('after', type(colorsys.__loader__).__name__)\n"
        "import importlib\nimportlib.reload(colorsys)"
    )
    assert run(code).splitlines() == ["before", "now True", "after SourceFileLoader"]
