"""`appd new-type`: the package of a server type, ready to be installed, tested and changed.

The texts have `@NAME@`, the name of the section and of the distribution, and `@PACKAGE@`, which is the same for Python.
"""

from __future__ import annotations

import keyword
import os
import re
import shutil
import sys

from appd.config.loader import schema_with
from appd.errors import ConfigurationError, HostError, UsageError
from appd.registry import Registry

__all__ = ["new_type"]

# What a section, a distribution (PEP 508) and, with its hyphens as underscores, a Python package may be called.
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST = 60

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "@NAME@"
version = "0.1"
description = "The server type @NAME@ of appd"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["appd"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points."appd.server_types"]
@NAME@ = "@PACKAGE@.server:server_type"

[tool.setuptools]
packages = ["@PACKAGE@"]
package-data = {@PACKAGE@ = ["component.xml"]}
"""

_README = """\
# @NAME@

A server type of appd: it sends every line back, after a word of the configuration file.

    pip install -e '.[test]'    # into the environment of appd
    pytest
    appd types @NAME@

In the configuration file:

    <@NAME@ first>
      address  systemd:name=@NAME@
      word     hello
    </@NAME@>

`@PACKAGE@/component.xml` has its keys, `@PACKAGE@/server.py` its protocol.
To try it without a unit, with the section in try.conf:

    appd run try.conf --bind @NAME@=127.0.0.1:7777
"""

_COMPONENT = """\
<component>
  <sectiontype name="@NAME@" implements="appd.server" extends="appd.listener">
    <description>Sends every line back, after a word.</description>
    <key name="word" datatype="string" default="hello">
      <description>What stands before each line.</description>
    </key>
  </sectiontype>
</component>
"""

_INIT = '''"""The server type @NAME@ of appd."""
'''

_SERVER = '''\
"""The server: a factory from what the section says."""

from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

from appd.servers import ServerType


class Lines(LineOnlyReceiver):
    """Sends every line back, after the word."""

    delimiter = b"\\n"

    def lineReceived(self, line):
        self.sendLine(self.factory.word + b" " + line)


def factory(application, settings):
    """Called once for each section.

    Args:
        application: What the key application-object made; None without it.
        settings: The section: its keys as attributes.
    """
    made = Factory.forProtocol(Lines)
    made.word = settings.word.encode()
    return made


# The port is the usual one for programs that create a server without an address.
server_type = ServerType(factory, 7777)
'''

_TEST = '''\
"""The protocol in memory, and the section by appd itself: @NAME@ must be installed beside it."""

import subprocess
import sys
from types import SimpleNamespace

from twisted.internet.testing import StringTransport

from @PACKAGE@.server import factory


def check(folder, text):
    """What `appd check` says of a file."""
    file = folder / "appd.conf"
    file.write_text(text)
    command = [sys.executable, "-m", "appd", "check", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_line_comes_back():
    protocol = factory(None, SimpleNamespace(word="hello")).buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(b"wor")
    protocol.dataReceived(b"ld\\nand")
    assert transport.value() == b"hello world\\n"


def test_the_section(tmp_path):
    done = check(tmp_path, "<@NAME@ first>\\n  address 127.0.0.1:0\\n  word hi\\n</@NAME@>\\n")
    assert done.returncode == 0, done.stderr


def test_a_key_that_is_none(tmp_path):
    done = check(tmp_path, "<@NAME@ first>\\n  address 127.0.0.1:0\\n  wrod hi\\n</@NAME@>\\n")
    assert done.returncode == 78
    assert "has no key 'wrod'" in done.stderr
'''

_FILES = {
    "pyproject.toml": _PYPROJECT,
    "README.md": _README,
    "@PACKAGE@/__init__.py": _INIT,
    "@PACKAGE@/component.xml": _COMPONENT,
    "@PACKAGE@/server.py": _SERVER,
    "tests/test_@PACKAGE@.py": _TEST,
}


def new_type(name: str, folder: str = ".", registry: Registry | None = None) -> str:
    """Writes the package into a new folder of its name: the whole of it, or nothing.

    Args:
        name: What the section is to be called.
        folder: Where the new folder goes.
        registry: Which server types there are.

    Returns:
        What was done, for people.

    Raises:
        UsageError: It cannot be called so.
        ConfigurationError: There is something of that name in the folder, or two packages bring that server type.
        HostError: The host refuses; nothing is left of it.
    """
    package = _package(name, registry or Registry())
    target = os.path.join(folder, name)
    try:
        # What is there, a link to nowhere too, stays.
        os.mkdir(target)
    except FileExistsError:
        raise ConfigurationError(f"{target} is there already; nothing was changed") from None
    except OSError as error:
        raise HostError(f"{target}: {error.strerror}", number=error.errno) from None
    try:
        for path, text in _FILES.items():
            path, text = (one.replace("@NAME@", name).replace("@PACKAGE@", package) for one in (path, text))
            whole = os.path.join(target, path)
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            with open(whole, "x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise HostError(f"{target}: {error.strerror}", number=error.errno) from None
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return f"{target} is a package with the server type {name!r}: see {os.path.join(target, 'README.md')}"


def _package(name: str, registry: Registry) -> str:
    """What the Python package is called, when the name can be that of a server type."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise UsageError(
            f"{name!r} cannot name a server type: it takes a-z first, then a-z, 0-9 and single hyphens, "
            f"at most {_LONGEST} characters"
        )
    there = registry.find(name)
    if there is not None:
        raise UsageError(f"there is a server type {name!r} already, of {there.distribution} ({there.target})")
    # Those that are nested are `owner.part`, of which the file says the part.
    if name in {one.rpartition(".")[2] for one in schema_with().gettypenames()}:
        raise UsageError(f"{name!r} cannot name a server type: <{name}> is a section of appd's")
    package = name.replace("-", "_")
    if keyword.iskeyword(package) or package in sys.stdlib_module_names or _is_installed(package):
        raise UsageError(f"{name!r} cannot name a server type: Python has a word or module {package} already")
    return package


def _is_installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
