"""Without a package: what the README says, word for word, in an unpacked source distribution."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

from packages.conftest import CHECKOUT, explained, made_in, readme
from system.disposable_host import Host, wait_until

# The host has no network: what pip would fetch lies in a folder, as it comes from the index, and is built there.
_FETCH = """
python3 -m venv /srv/pip
/srv/pip/bin/pip download --quiet --disable-pip-version-check --dest "$0" "$0"/../wheel/appd-*.whl 'setuptools>=77'
rm "$0"/appd-*.whl
"""


def test_the_readme_installs_and_it_answers(host_of: Callable[..., Host], tmp_path: Path) -> None:
    """Built, installed, enabled, asked; units, user and catalogue are where systemd looks for them, and the manual's
    check finds nothing wrong."""
    wheels = made_in("trixie-pip", f"index-{_dependencies()}", _FETCH)
    sdist = _sdist(tmp_path)
    host = host_of("trixie-pip")
    with tarfile.open(sdist) as archive:
        archive.extractall(host.path("/srv"), filter="data")
    commands = readme("Without a package")
    assert "pip install ." in commands
    there = ["env", f"--chdir=/srv/{sdist.name.removesuffix('.tar.gz')}"]
    pip = ["PIP_NO_INDEX=1", f"PIP_FIND_LINKS={wheels}", "PIP_DISABLE_PIP_VERSION_CHECK=1"]
    said = host.run(*there, *pip, "sh", "-euc", commands, timeout=300)
    assert "</html>" in said.stdout
    wait_until(lambda: host.state("appd.service") == "active", timeout=90)
    assert host.run("stat", "--format=%U %a", "/var/lib/appd").stdout == "appd 750\n"
    said = host.run("appd", "check", "/etc/appd/appd.conf", "--units", "/etc/systemd/system").stdout
    assert "good, 1 server" in said
    verified = host.run("systemd-analyze", "--man=no", "verify", "appd.service", "appd.socket", check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    explained(host)
    host.write("/etc/appd/blog.conf", (CHECKOUT / "etc/appd.conf").read_text())
    host.systemctl("enable", "--now", "appd@blog.socket")
    assert "</html>" in host.get("http://localhost/", "--unix-socket", "/run/appd-sockets/blog.sock").body


def _dependencies() -> str:
    """What tells one set of requirements from another."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return hashlib.sha256(repr(project["dependencies"]).encode()).hexdigest()[:12]


def _sdist(folder: Path) -> Path:
    """The source distribution, built as for an index."""
    subprocess.run([CHECKOUT / "packaging/sources", folder / "sources"], check=True, timeout=120)
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, folder / "sources"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    [made] = folder.glob("*.tar.gz")
    return made
