"""The sandbox of the shipped units: how exposed they are, and what is said to a server that it keeps from its work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from system.disposable_host import Host

_DROP_IN = "/usr/lib/systemd/system/appd.service.d/20-inbound-only.conf"
_INBOUND_ONLY = (Path(__file__).parents[2] / "units/inbound-only.conf").read_text()
_DIALLER = """
<component>
  <sectiontype name="dialler" implements="appd.server" extends="appd.listener"/>
</component>
"""
_DIALLER_CODE = """
from twisted.internet.protocol import ServerFactory
from appd.servers import ServerType
server_type = ServerType(lambda db, settings: ServerFactory(), 7, outgoing=True)
"""


@pytest.mark.parametrize(
    ("unit", "with_drop_in", "most"),
    [
        ("appd.service", False, 1.1),
        ("appd.service", True, 0.3),
        ("appd@a.service", False, 1.1),
        ("appd@a.service", True, 0.3),
    ],
)
def test_exposure(host: Host, unit: str, with_drop_in: bool, most: float) -> None:
    """What `systemd-analyze security` makes of the units; `--threshold=` fails above it."""
    folder = f"/usr/lib/systemd/system/{re.sub('@.*', '@', unit.removesuffix('.service'))}.service.d"
    host.run("rm", "-r", folder)  # what the tests themselves have added
    if with_drop_in:
        host.write(f"{folder}/inbound-only.conf", _INBOUND_ONLY)
    host.systemctl("daemon-reload")
    said = host.run("systemd-analyze", "security", "--no-pager", f"--threshold={most * 10:.0f}", unit, check=False)
    level = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)[1])  # type: ignore[index]  # it always ends so
    assert level <= most
    assert said.returncode == 0


@pytest.mark.parametrize("unit", ["appd.service", "appd@.service"])
def test_exposure_of_the_files(host: Host, unit: str) -> None:
    """What is shipped, judged without an installation, as `docs/packaging.md` has it."""
    host.run("sh", "-c", "rm -r /usr/lib/systemd/system/appd*.service.d")  # what the tests themselves have added
    command = ("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=11")
    said = host.run(*command, f"/usr/lib/systemd/system/{unit}", check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert re.search(r"Overall exposure level for \S+: 1\.[01]", said.stdout)


def test_who_opens_connections_is_told_at_the_start(host: Host) -> None:
    """Under inbound-only.conf: 78 and one line with the server, its place and what to do; without it it starts."""
    for name, text in (("__init__.py", _DIALLER_CODE), ("component.xml", _DIALLER)):
        host.write(f"/srv/plugin/dialler/{name}", text)
    host.write("/srv/plugin/dialler-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: dialler\nVersion: 1\n")
    host.write(
        "/srv/plugin/dialler-1.dist-info/entry_points.txt", "[appd.server_types]\ndialler = dialler:server_type\n"
    )
    host.configure("<dialler far>\n  address systemd:name=http\n</dialler>\n")
    host.write(_DROP_IN, _INBOUND_ONLY)
    host.drop_in("appd.service", "[Service]\nRestart=no\nEnvironment=PYTHONPATH=/srv/plugin\n")
    assert host.systemctl("start", "appd.service", check=False).returncode != 0
    host.wait_property("appd.service", "ExecMainStatus", "78")
    [entry] = host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd", "PRIORITY=3")
    assert entry["MESSAGE"] == (
        "/etc/appd/appd.conf:2: server 'far': it opens connections of its own: remove inbound-only.conf from "
        "the unit, or allow AF_INET and AF_INET6"
    )
    host.path(_DROP_IN).unlink()
    host.systemctl("daemon-reload")
    host.systemctl("start", "appd.service")


def test_an_address_that_appd_would_bind_itself(host: Host) -> None:
    """Under inbound-only.conf nobody could reach it: 69 or 78, and the directive is named."""
    host.configure("<echo>\n  address 7007\n</echo>\n")
    host.write(_DROP_IN, _INBOUND_ONLY)
    host.drop_in("appd.service", "[Service]\nRestart=no\n")
    assert host.systemctl("start", "appd.service", check=False).returncode != 0
    [entry] = host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd", "PRIORITY=3")
    assert "PrivateNetwork=" in entry["MESSAGE"] or "RestrictAddressFamilies=" in entry["MESSAGE"]


@pytest.mark.outgoing
def test_a_port_that_appd_binds_itself(host: Host) -> None:
    """Under the shipped unit: a bare port is dual stack, as `ListenStream=` is, and reached from outside."""
    host.run("ip", "link", "add", "outside", "type", "veth", "peer", "name", "other")
    host.configure("<echo>\n  address 7007\n</echo>\n")
    host.systemctl("start", "appd.service")
    for name in ("127.0.0.1", "[::1]"):
        assert host.exchange(f"TCP:{name}:7007", "answered\n") == "answered\n"
