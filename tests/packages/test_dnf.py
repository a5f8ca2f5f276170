"""The rpm as a Fedora installs it, by dnf from a repository: its metadata, dependencies and scriptlets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from packages.conftest import explained, readme
from system.disposable_host import Host, wait_until

_HERE = Path(__file__).parent
_REPOSITORY = """
[appd]
name=appd
baseurl=file:///srv/repository
gpgcheck=0
"""


@pytest.fixture
def fedora(host_of: Callable[..., Host]) -> Host:
    """A host with dnf and a repository that has what appd asks for, and not appd."""
    host = host_of("trixie-dnf")
    host.write("/srv/distribution.spec", (_HERE / "distribution.spec").read_text())
    host.run(
        "rpmbuild", "--quiet", "-bb", "--define", "_topdir /srv/build", "--define", "_rpmdir /srv/repository",
        "/srv/distribution.spec", timeout=300,
    )  # fmt: skip
    _offer(host)
    host.write("/etc/yum.repos.d/appd.repo", _REPOSITORY)
    host.write("/etc/dnf/vars/releasever", "42")
    return host


def _offer(host: Host, *packages: Path) -> None:
    """Adds packages to the repository."""
    if packages:
        host.run("cp", *map(str, packages), "/srv/repository/")
    host.run("createrepo_c", "--quiet", "/srv/repository", timeout=300)


def _dnf(host: Host, *arguments: str, check: bool = True) -> str:
    done = host.run("dnf", "--assumeyes", "--refresh", *arguments, check=check, timeout=300)
    return done.stdout + done.stderr


def test_the_readme_installs_and_it_answers(fedora: Host, rpm: Path) -> None:
    """Word for word: what it asks for comes along, the user is there, nothing listens before it is enabled."""
    host = fedora
    install, *rest = readme("Fedora and its kin").splitlines()
    assert "dist/appd-" in install
    host.run("sh", "-euc", f"cd {rpm.parent.parent}; {install}", timeout=300)
    assert host.run("rpm", "--query", "--all", "--queryformat", "%{NAME}\n").stdout.split() == ["distribution", "appd"]
    assert host.systemctl("is-enabled", "appd.socket", "appd.service", check=False).stdout.split() == ["disabled"] * 2
    assert "8080" not in host.run("ss", "-ltnH").stdout
    assert "/var/lib/appd:/sbin/nologin" in host.run("getent", "passwd", "appd").stdout
    assert "</html>" in host.run("sh", "-euc", "\n".join(rest)).stdout
    wait_until(lambda: host.state("appd.service") == "active", timeout=90)
    assert host.run("rpm", "--verify", "appd").stdout == ""
    assert _dnf(host, "check").strip() == ""
    explained(host)


def test_what_it_asks_for_is_asked_of_the_repository(fedora: Host, rpm: Path) -> None:
    """Without that, dnf installs nothing and says what is missing."""
    host = fedora
    host.run("sh", "-c", "rm /srv/repository/noarch/distribution-*.rpm")
    _offer(host, rpm)
    said = _dnf(host, "install", "appd", check=False)
    for one in ("python3-twisted >= 22.4", "python3-systemd >= 235", "python3-pyOpenSSL >= 23.0"):
        assert f"nothing provides {one} needed by appd-" in said
    assert not host.path("/usr/bin/appd").exists()


def test_upgraded_downgraded_and_removed(fedora: Host, rpm: Path, earlier_rpm: Path) -> None:
    """From the repository: each step serves on as that version, an edited file stays, and a removal stops all."""
    host = fedora
    _offer(host, earlier_rpm)
    _dnf(host, "install", "appd")
    changed = (_HERE.parents[1] / "etc/appd.conf").read_text().replace("format 1\n", "") + "# changed\n"
    host.write("/etc/appd/appd.conf", changed)
    host.systemctl("enable", "--now", "appd.socket")
    assert host.get("http://localhost:8080/").status == 200
    _offer(host, rpm)
    for step, package in (("upgrade", rpm), ("downgrade", earlier_rpm), ("upgrade", rpm)):
        pid = wait_until(lambda: host.main_pid(), timeout=90)
        _dnf(host, step, "appd")
        assert host.run("appd", "version").stdout.strip() == f"appd {package.name.split('-')[1]}"
        assert host.get("http://localhost:8080/").status == 200
        wait_until(lambda pid=pid: host.main_pid() not in (0, pid), timeout=90)
        assert host.path("/etc/appd/appd.conf").read_text() == changed
    _dnf(host, "remove", "appd")
    assert host.state("appd.socket") in ("inactive", "failed")
    assert host.state("appd.service") in ("inactive", "failed")
    assert "8080" not in host.run("ss", "-ltnH").stdout
    assert not host.path("/usr/lib/appd").exists()
    assert host.path("/etc/appd/appd.conf.rpmsave").read_text() == changed
