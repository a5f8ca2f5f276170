"""The rpm, on a copy of the root that it was built in: its database of rpm is empty, so that dependencies cannot be asked for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from system.disposable_host import Host, wait_until

_CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def with_rpm(host_of: Callable[..., Host], rpm: Path) -> Host:
    """A host that the rpm was installed on before it booted, as `rpm --root` does."""
    return host_of("trixie-build", install_rpm=rpm)


def test_installed_into_a_root(with_rpm: Host, rpm: Path) -> None:
    """Scriptlets without a running systemd: the user is there, nothing is enabled, all files are as the package has them."""
    host = with_rpm
    assert re.fullmatch(r"appd:x:\d+:\d+:.*:/var/lib/appd:/sbin/nologin\n", host.run("getent", "passwd", "appd").stdout)
    said = host.systemctl("is-enabled", "appd.socket", "appd.service", check=False).stdout.split()
    assert said == ["disabled", "disabled"]
    assert host.run("rpm", "--verify", "--nodeps", "appd").stdout == ""
    host.systemctl("enable", "--now", "appd.socket")
    assert "</html>" in host.get("http://localhost:8080/").body
    # The first request is answered before all is ready.
    wait_until(lambda: host.state("appd.service") == "active", timeout=90)
    assert host.run("appd", "version").stdout.strip() == f"appd {rpm.name.split('-')[1]}"
    host.run("journalctl", "--sync")
    said = host.run("journalctl", "-x", "--no-pager", "-u", "appd").stdout
    assert "Every address of every server listens" in said
    # The sandbox cannot write bytecode, so it has come with the installation.
    assert any(host.path("/usr/lib/appd/appd/__pycache__").iterdir())


def test_requirements_are_those_of_fedora(with_rpm: Host, rpm: Path) -> None:
    """By package names and versions; nothing that only the build host's Python has."""
    said = with_rpm.run("rpm", "--query", "--package", "--requires", str(rpm)).stdout
    wanted = {line for line in said.splitlines() if not line.startswith(("rpmlib(", "/", "config("))}
    assert "python3-twisted >= 22.4" in wanted and "systemd" in wanted
    assert not [line for line in wanted if "dist(" in line or "abi" in line]
    scripts = with_rpm.run("rpm", "--query", "--package", "--scripts", str(rpm)).stdout
    assert not re.search(r"%\{|%systemd", scripts)


def test_upgraded_and_removed(with_rpm: Host, rpm: Path, earlier_rpm: Path) -> None:
    """Back to an earlier version and up again, under load: nothing fails, a changed configuration stays, and at the end
    nothing runs and nothing is left but that."""
    host = with_rpm
    host.write("/srv/shop/index.html", "x" * 100)
    changed = "<http shop>\n  address systemd:name=http\n  <static>\n    root /srv/shop\n  </static>\n</http>\n"
    host.write("/etc/appd/appd.conf", changed)
    host.write("/etc/appd/other.conf", changed)
    host.systemctl("enable", "--now", "appd.socket", "appd@other.socket")
    assert host.get("http://localhost/", "--unix-socket", "/run/appd-sockets/other.sock").status == 200
    count = int(os.environ.get("APPD_TEST_REQUESTS", "5000")) // 5
    load = host.start(*host.client("load.py", "8", "127.0.0.1", "8080", str(count), "4"))
    wait_until(lambda: host.state("appd.service") == "active", timeout=90)
    wait_until(lambda: host.state("appd@other.service") == "active", timeout=90)
    for package in (earlier_rpm, rpm):
        pids = host.main_pid(), host.main_pid("appd@other.service")
        host.run("rpm", "--upgrade", "--oldpackage", "--nodeps", str(package), timeout=300)
        wait_until(lambda pids=pids: not {0, *pids} & {host.main_pid(), host.main_pid("appd@other.service")})
        assert host.run("appd", "version").stdout.strip() == f"appd {package.name.split('-')[1]}"
    said = json.loads(load.communicate()[0])
    print(f"{said} over a downgrade and an upgrade")
    assert set(said["results"]) == {"ok"}
    assert host.path("/etc/appd/appd.conf").read_text() == changed

    host.run("rpm", "--erase", "appd")
    for unit in ("appd.socket", "appd.service", "appd@other.socket", "appd@other.service"):
        assert host.state(unit) in ("inactive", "failed"), unit
    assert "8080" not in host.run("ss", "-ltnH").stdout
    found = host.run(
        "find", "/usr", "/etc", "/var", "-xdev", "-regex", ".*/_?appd[.@/].*", "-o", "-name", "appd"
    ).stdout
    kept = r"/etc/appd(/(appd\.conf\.rpm(save|new)|other\.conf))?|.*\.wants/appd@other\.socket|/var/(lib|cache)/appd(/.*)?|/etc/dpkg/.*"
    ours = [one for one in found.splitlines() if not one.startswith(f"{_CHECKOUT}/")]
    assert [one for one in ours if not re.fullmatch(kept, one)] == []
