"""The package for Debian 12: its Python 3.11, systemd 252 and Twisted 22.4."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import trustme
from packages.conftest import CHECKOUT, explained
from system.disposable_host import Host, wait_until


def test_installed_it_answers(host_of: Callable[..., Host], bookworm_deb: Path) -> None:
    """Installed, enabled, asked, reloaded, restarted; the units are clean for that systemd; removed, nothing listens."""
    host = host_of("bookworm")
    host.run("dpkg", "--install", str(bookworm_deb), timeout=300)
    assert host.systemctl("is-enabled", "appd.socket", "appd.service", check=False).stdout.split() == ["disabled"] * 2
    host.systemctl("enable", "--now", "appd.socket")
    assert "</html>" in host.get("http://localhost:8080/").body
    wait_until(lambda: host.state("appd.service") == "active", timeout=90)
    assert host.version == 252
    assert "good, 1 server" in host.run("appd", "check", "/etc/appd/appd.conf", "--units", "/etc/systemd/system").stdout
    verified = host.run("systemd-analyze", "--man=no", "verify", "appd.service", "appd.socket", check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    pid = host.main_pid()
    host.systemctl("reload", "appd")
    assert host.main_pid() == pid
    host.systemctl("restart", "appd")
    assert host.get("http://localhost:8080/").status == 200
    # With TLS: that Python's patterns and that cryptography read the certificate.
    authority = trustme.CA()
    host.write("/etc/appd/root.pem", authority.cert_pem.bytes().decode())
    host.write(
        "/etc/appd/site.pem", authority.issue_cert("localhost").private_key_and_cert_chain_pem.bytes().decode(), 0o640
    )
    host.run("chown", "root:appd", "/etc/appd/site.pem")
    welcome = (CHECKOUT / "etc/appd.conf").read_text()
    blog = re.sub(
        "^  address ( *.*)$",
        r"  tls-address \1\n  <tls>\n    certificate /etc/appd/site.pem\n  </tls>",
        welcome,
        flags=re.M,
    )
    host.write("/etc/appd/blog.conf", blog)
    host.systemctl("enable", "--now", "appd@blog.socket")
    asked = "--unix-socket", "/run/appd-sockets/blog.sock", "--cacert", "/etc/appd/root.pem"
    assert "</html>" in host.get("https://localhost/", *asked).body
    explained(host)
    host.run("dpkg", "--purge", "appd", timeout=300)
    assert "8080" not in host.run("ss", "-ltnH").stdout
    assert not host.path("/etc/appd").exists()
