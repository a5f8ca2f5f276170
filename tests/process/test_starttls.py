"""TLS that begins in the middle of a connection: a server type of another package whose protocol has STARTTLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from support.authority import Authority
from support.running import APPD, listening, read_to, wait_until

ROOT = Authority("Root")
CODE = """
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from appd.limits import StreamLimits
from appd.servers import ServerType

class Says(LineReceiver):
    delimiter = b"\\n"
    def lineReceived(self, line):
        if line == b"STARTTLS":
            self.sendLine(b"go ahead" if self.factory.starter else b"no")
            if self.factory.starter:
                self.factory.starter.begin(self)
        else:
            secure = b"secure " if ISSLTransport.providedBy(self.transport) else b"plain "
            self.sendLine(secure + line)

def make(db, settings, starter):
    factory = Factory.forProtocol(Says)
    factory.starter = starter
    return factory

server_type = ServerType(make, 9, limits=StreamLimits(), starts_tls=True)
"""


@pytest.fixture
def says(tmp_path) -> dict[str, str]:
    """The environment that has the server type `says`."""
    folder = tmp_path / "site" / "says"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(CODE)
    (folder / "component.xml").write_text(
        "<component><sectiontype name='says' implements='appd.server' extends='appd.listener'/></component>"
    )
    info = tmp_path / "site" / "says-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: says\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[appd.server_types]\nsays = says:server_type\n")
    ROOT.write(tmp_path / "ca.pem")
    ROOT.issue("localhost").write(tmp_path / "a.pem")
    return {"PYTHONPATH": str(tmp_path / "site")}


def text(folder: Path, more: str = "") -> str:
    return f"<says>\n  address systemd:name=door\n  <tls>\n    certificate {folder}/a.pem\n  </tls>\n{more}</says>\n"


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "ca.pem"))


def begin(door: socket.socket, behind: bytes = b"") -> socket.socket:
    """A connection that has been told to go ahead."""
    plain = socket.create_connection(door.getsockname(), 30)
    plain.sendall(b"hello\n")
    assert read_to(plain, b"\n") == b"plain hello\n"
    plain.sendall(b"STARTTLS\n" + behind)
    assert read_to(plain, b"\n") == b"go ahead\n"
    return plain


def test_the_policy_of_the_section(start, says, tmp_path):
    """A `<tls>` without a tls-address; the certificate is the section's, and a renewed one is served at once."""
    door = listening()
    running = start(text(tmp_path), ("door", door), environ=says).wait_ready()
    with trusting(tmp_path).wrap_socket(begin(door), server_hostname="localhost") as client:
        client.sendall(b"again\n")
        assert client.recv(100) == b"secure again\n"
        before = client.getpeercert(binary_form=True)
    ROOT.issue("localhost").write(tmp_path / "a.pem")
    running.wait_said("renewed: certificate of localhost")

    def served() -> bytes | None:
        with trusting(tmp_path).wrap_socket(begin(door), server_hostname="localhost") as client:
            return client.getpeercert(binary_form=True)

    assert wait_until(lambda: served() != before)


def test_what_was_smuggled_in_before_tls_is_forgotten(start, says, tmp_path):
    """Whoever sits in between puts a command behind STARTTLS: it is not taken for the client's."""
    door = listening()
    start(text(tmp_path), ("door", door), environ=says).wait_ready()
    with trusting(tmp_path).wrap_socket(begin(door, b"injected\n"), server_hostname="localhost") as client:
        client.sendall(b"mine\n")
        assert client.recv(100) == b"secure mine\n"


@pytest.mark.parametrize("part", [0, 60], ids=["nothing", "half a ClientHello"])
def test_a_handshake_has_a_deadline(start, says, tmp_path, part):
    """Who is told to go ahead and does not come to an end is cut."""
    door = listening()
    limits = "  <limits>\n    handshake-timeout 500ms\n  </limits>\n"
    start(text(tmp_path, limits), ("door", door), environ=says).wait_ready()
    going = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trusting(tmp_path).wrap_bio(ssl.MemoryBIO(), going, server_hostname="localhost").do_handshake()
    with begin(door) as client:
        client.sendall(going.read(part) if part else b"")
        client.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_without_a_section_it_cannot(start, says, tmp_path):
    """The protocol knows, and says so."""
    door = listening()
    start("<says>\n  address systemd:name=door\n</says>\n", ("door", door), environ=says).wait_ready()
    with socket.create_connection(door.getsockname(), 30) as client:
        client.sendall(b"STARTTLS\n")
        assert client.recv(100) == b"no\n"


def test_a_protocol_that_has_none_refuses_the_section(tmp_path):
    """`<tls>` of a factory that nothing is known of is an error as long as no address is one of TLS."""
    ROOT.issue("localhost").write(tmp_path / "a.pem")
    (tmp_path / "f.py").write_text("from twisted.internet.protocol import Factory\ndef make():\n    return Factory()\n")
    (tmp_path / "x.conf").write_text(
        f"python-path {tmp_path}\n<server>\n  type f:make\n  address 9\n  <tls>\n    certificate {tmp_path}/a.pem\n  </tls>\n</server>\n"
    )
    done = subprocess.run(
        [APPD, "check", "x.conf"], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
    )
    assert done.returncode == 78
    assert "x.conf:5: server 'f:make:localhost:9': nothing uses <tls>" in done.stderr
