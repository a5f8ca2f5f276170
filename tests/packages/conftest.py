"""Hosts that packages are installed on: a Debian 13 that has never seen appd, for each test anew."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from system.conftest import pytest_runtest_makereport as pytest_runtest_makereport
from system.disposable_host import Host, boot, unavailable

from appd import messages

_HERE = Path(__file__).parent
CHECKOUT = _HERE.parent.parent
DIST = CHECKOUT / "dist"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a host, and packages."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.package)


def _give_up(reason: str) -> None:
    if os.environ.get("APPD_REQUIRE_SYSTEM_TESTS") == "1":
        pytest.fail(f"APPD_REQUIRE_SYSTEM_TESTS=1, but {reason}")
    pytest.skip(reason)


def _root(name: str) -> Path:
    """A root file system of packaging/root, made when it is not there."""
    if os.geteuid() != 0:
        _give_up("booting a disposable host needs root")
    made = subprocess.run([CHECKOUT / "packaging/root", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        _give_up(f"there is no root {name}: {made.stderr.strip()}")
    root = Path(made.stdout.strip())
    reason = unavailable(root, bare=True)
    if reason is not None:
        _give_up(reason)
    return root


@pytest.fixture
def host_of(request: pytest.FixtureRequest) -> Iterator[Callable[..., Host]]:
    """Boots hosts without appd, in which `dist` of the checkout can be seen; they end with the test."""
    node: Any = request.node
    node.hosts = hosts = []

    def make(name: str, **options: Any) -> Host:
        hosts.append(boot(root=_root(name), bare=DIST, **options))
        return hosts[-1]

    yield make
    for one in hosts:
        one.close()


@pytest.fixture
def bare_host(host_of: Callable[..., Host]) -> Host:
    """A Debian 13 without appd."""
    return host_of("trixie")


def _package(pattern: str, made_by: str, folder: Path = DIST) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        _give_up(f"there is no {pattern} in {folder}: `{made_by}` makes it")
    assert len(found) == 1, f"which of {found}?"
    return found[0]


def made_in(root: str, name: str, command: str) -> Path:
    """A folder of `dist` that a command has filled in a root, kept for the next time.

    Args:
        root: The root of packaging/root.
        name: What is in it.
        command: For sh(1); in $0 is the folder.
    """
    folder = DIST / f"{name}-{_root(root).name}"
    if not (folder / ".made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        enter = [CHECKOUT / "packaging/root", root, "--bind", str(DIST)]
        subprocess.run([*enter, "sh", "-euc", command, str(folder)], check=True, timeout=300)
        (folder / ".made").touch()
    return folder


def _earlier() -> Path:
    """The folder of the packages of the commit that packaging/previous names."""
    [commit] = re.findall("^[0-9a-f]{40}$", (CHECKOUT / "packaging/previous").read_text(), re.M)
    return DIST / "previous" / commit


@pytest.fixture
def deb() -> Path:
    """The Debian package."""
    return _package("appd_*_all.deb", "make deb")


@pytest.fixture
def bookworm_deb() -> Path:
    """The Debian package for Debian 12."""
    return _package("appd_*_all.deb", "make deb DIST=bookworm", DIST / "bookworm")


@pytest.fixture
def earlier_deb() -> Path:
    """That of an earlier commit, with a lower version."""
    return _package("appd_*_all.deb", "make test-packages", _earlier())


@pytest.fixture
def rpm() -> Path:
    """The rpm."""
    return _package("appd-*.noarch.rpm", "make rpm")


@pytest.fixture
def earlier_rpm() -> Path:
    """That of an earlier commit, with a lower version."""
    return _package("appd-*.noarch.rpm", "make test-packages", _earlier())


def readme(heading: str) -> str:
    """The commands below a heading of the README."""
    text = (CHECKOUT / "README.md").read_text()
    section = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##)", text, re.M | re.S)
    assert section is not None, heading
    [commands] = re.findall(r"^```\n(.*?)^```", section[1], re.M | re.S)
    return commands


def explained(host: Host) -> None:
    """`journalctl -x` of a host explains every MESSAGE_ID that appd sends, and its catalogue has no other of appd's."""
    catalogue = (CHECKOUT / "packaging/appd.catalog").read_text()
    subjects = dict(re.findall(r"^-- ([0-9a-f]{32})\nSubject: (.+)$", catalogue, re.M))
    ids = {getattr(messages, name) for name in messages.__all__}
    listed = host.run("journalctl", "--list-catalog").stdout
    assert set(re.findall("^([0-9a-f]{32}) appd: ", listed, re.M)) == ids
    for one in ids:
        host.run("logger", "--journald", input=f"MESSAGE=an entry to explain\nMESSAGE_ID={one}\n")
    host.run("journalctl", "--sync")
    for one in ids:
        said = host.run("journalctl", "-x", "--no-pager", f"MESSAGE_ID={one}").stdout
        assert subjects[one] in said and "Defined-By: appd" in said


@pytest.fixture
def installed(bare_host: Host, deb: Path) -> Host:
    """A host with the Debian package."""
    bare_host.run("dpkg", "--install", str(deb))
    return bare_host
