"""What servers connect to by TLS: `check --connect`, and asyncio by the context that they are given."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
from pathlib import Path

import pytest
from support.authority import Authority
from support.running import APPD, listening

from appd.errors import Place
from appd.tls.material import read_material
from appd.tls.outgoing import Outgoing
from appd.tls.policy import Policy, Source

ROOT = Authority("Root")
CODE = """
from twisted.internet.protocol import Factory
from appd.servers import ServerType
from appd.tls.outgoing import make_outgoing
from appd.tls.verdict import Target

class Dials(ServerType):
    outgoing = True
    def create(self, *args, **kwargs):
        service = super().create(*args, **kwargs)
        settings = kwargs["section"].settings
        tls = make_outgoing(settings.client_tls, lenient=True)[0] if settings.client_tls is not None else None
        host, _colon, port = settings.to.rpartition(":")
        service.connects = [Target(host, int(port), tls=tls)]
        return service

server_type = Dials(lambda db, settings: Factory(), 9)
"""


@pytest.fixture
def dials(tmp_path) -> dict[str, str]:
    """The environment that has the server type `dials`."""
    folder = tmp_path / "site" / "dials"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(CODE)
    (folder / "component.xml").write_text(
        "<component><sectiontype name='dials' implements='appd.server' extends='appd.listener'>"
        "<key name='to' datatype='string' required='yes'/>"
        "<section name='*' type='appd.client-tls' attribute='client_tls'/></sectiontype></component>"
    )
    info = tmp_path / "site" / "dials-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dials\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[appd.server_types]\ndials = dials:server_type\n")
    ROOT.write(tmp_path / "ca.pem")
    return {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}


def check(folder: Path, environ: dict[str, str], to: str, tls: str) -> subprocess.CompletedProcess[str]:
    (folder / "x.conf").write_text(f"<dials d>\n  address 9\n  to {to}\n{tls}</dials>\n")
    command = [APPD, "check", "--connect", "x.conf"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environ, timeout=60, check=False)


def section(folder: Path, more: str = "") -> str:
    return f"  <client-tls>\n    ca {folder}/ca.pem\n{more}  </client-tls>\n"


@pytest.fixture
def served(start, tmp_path) -> socket.socket:
    """An echo over TLS for localhost and 127.0.0.1."""
    ROOT.issue("localhost", "ip:127.0.0.1").write(tmp_path / "a.pem")
    door = listening()
    text = f"<echo>\n  tls-address systemd:name=door\n  <tls>\n    certificate {tmp_path}/a.pem\n  </tls>\n</echo>\n"
    start(text, ("door", door)).wait_ready()
    return door


def test_who_is_there(dials, served, tmp_path):
    """Name, expiry and authority; 69 and the reason for who is not to be trusted."""
    port = served.getsockname()[1]
    done = check(tmp_path, dials, f"127.0.0.1:{port}", section(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"server 'd': 127.0.0.1:{port} is localhost, 127.0.0.1, expires 20" in done.stdout
    assert "signed by Root (TLSv1.3)" in done.stdout
    done = check(tmp_path, dials, f"127.0.0.1:{port}", section(tmp_path, "    server-name db.example\n"))
    assert done.returncode == 69
    assert "is not trusted: Hostname mismatch, certificate is not valid for 'db.example'" in done.stderr
    (tmp_path / "ca.pem").write_bytes(Authority("Stranger").pem)
    done = check(tmp_path, dials, f"127.0.0.1:{port}", section(tmp_path))
    assert "is not trusted: unable to get local issuer certificate" in done.stderr
    assert "good" not in done.stdout


def test_nobody_is_there(dials, tmp_path):
    """Nobody listens; or somebody who speaks no TLS; plain connections are made too."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = check(tmp_path, dials, f"127.0.0.1:{unused.getsockname()[1]}", section(tmp_path))
    assert done.returncode == 69
    assert "cannot be reached: Connection refused" in done.stderr
    plain = listening()
    done = check(tmp_path, dials, f"127.0.0.1:{plain.getsockname()[1]}", "")
    assert done.returncode == 0
    assert "is there" in done.stdout


def test_the_keys_are_checked(dials, tmp_path):
    """All at once, with their lines; without --connect too."""
    tls = "  <client-tls>\n    ca nowhere.pem\n    server-name *.example\n    private-key a.pem\n    ciphers NONE-SUCH\n  </client-tls>\n"
    done = check(tmp_path, dials, "127.0.0.1:9", tls)
    assert done.returncode == 78
    assert "x.conf:6: server-name: '*.example' is neither a host name nor an IP address" in done.stderr
    done = check(tmp_path, dials, "127.0.0.1:9", tls.replace("*.example", "a.example"))
    assert "ca " in done.stderr and "there is no such file" in done.stderr
    assert "private-key goes with a certificate" in done.stderr
    assert "ciphers: 'NONE-SUCH' is no cipher suite" in done.stderr


def test_what_cannot_be_seen_is_told(dials, tmp_path):
    """As of a <tls>: a credential that only the service has is no error, and nobody thinks that it was looked at."""
    done = check(tmp_path, dials, "127.0.0.1:9", "  <client-tls>\n    ca credential:ca.pem\n  </client-tls>\n")
    assert done.stdout.count("warning: ") == 1
    assert re.search(r"^warning: .*x\.conf:5: ca credential:ca\.pem is not checkable here: ", done.stdout, re.M)


def test_asyncio(served, tmp_path):
    """The context serves asyncio's connections, name and all."""
    ca = ROOT.write(tmp_path / "ca.pem")
    place = Place("x.conf", 1)
    policy = Policy(place, (), authorities=(Source("ca", str(ca), place),), client_verify="required")
    outgoing = Outgoing(policy, read_material(policy)[0])

    async def ask(host: str) -> bytes:
        port = served.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=outgoing.context(), server_hostname=host)
        writer.write(b"hello")
        found = await reader.readexactly(5)
        writer.close()
        await writer.wait_closed()
        return found

    assert asyncio.run(ask("localhost")) == b"hello"
    with pytest.raises(OSError, match="not valid for"):
        asyncio.run(ask("other.example"))
