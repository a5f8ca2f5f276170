"""Hosts that packages are installed on: a Debian 13 that has never seen appd, for each test anew."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from system.conftest import pytest_runtest_makereport as pytest_runtest_makereport
from system.disposable_host import Host, boot, unavailable

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


def _earlier() -> Path:
    """The folder of the packages of the commit that packaging/previous names."""
    [commit] = re.findall("^[0-9a-f]{40}$", (CHECKOUT / "packaging/previous").read_text(), re.M)
    return DIST / "previous" / commit


@pytest.fixture
def deb() -> Path:
    """The Debian package."""
    return _package("appd_*_all.deb", "make deb")


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


@pytest.fixture
def installed(bare_host: Host, deb: Path) -> Host:
    """A host with the Debian package."""
    bare_host.run("dpkg", "--install", str(deb))
    return bare_host
