"""What zope.app.twisted had: its contract, and files in the words of zope.conf."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from support.authority import Authority
from support.running import APPD, ask, listening

HERE = Path(__file__).parent
ROOT = Path(__file__).parents[2]

APPLICATION = """
def make():
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["wsgi.url_scheme"].encode() + b" of the publication"]
    return application
def keyed(hostkey: str):
    from twisted.internet.protocol import Factory, Protocol
    class Says(Protocol):
        def connectionMade(self):
            self.transport.write(open(hostkey).readline().encode())
            self.transport.loseConnection()
    return Factory.forProtocol(Says)
"""
# As an instance of Zope 3 came, its comments left out.
PLAIN = """
interrupt-check-interval 200
site-definition site.zcml
threads 4
devmode on
<server>
  type HTTP
  address {http}
</server>
<zodb>
  <filestorage>
    path Data.fs
  </filestorage>
</zodb>
<accesslog>
  <logfile>
    path access.log
  </logfile>
  <logfile>
    path STDOUT
  </logfile>
</accesslog>
<eventlog>
  <logfile>
    path STDOUT
    formatter zope.exceptions.log.Formatter
  </logfile>
</eventlog>
"""
EVERYTHING = """
%define DATA {folder}
interrupt-check-interval 120
site-definition site.zcml
threads 4
<server>
  type HTTP
  address {http}
  backlog 30
</server>
<server>
  type HTTP
  address 127.0.0.1:0
</server>
<sslserver>
  type HTTPS
  address {https}
  privatekeypath server.pem
  certificatepath server.pem
  tls true
</sslserver>
<sshserver>
  type publication:keyed
  address {ssh}
  hostkey host.key
</sshserver>
<zodb main>
  <demostorage>
    <filestorage>
      path $DATA/Data.fs
    </filestorage>
  </demostorage>
</zodb>
<accesslog>
  level info
  <logfile>
    path $DATA/access.log
  </logfile>
</accesslog>
<eventlog>
  level debug
  <logfile>
    path $DATA/event.log
  </logfile>
</eventlog>
<logger>
  name shop
  <logfile>
    path $DATA/shop.log
  </logfile>
</logger>
<product-config shop>
  currency EUR
</product-config>
"""
ADDED = "python-path {folder}\napplication-object publication:make\n"


@pytest.fixture
def folder(tmp_path):
    issued = Authority("Root").issue("localhost")
    issued.write(tmp_path / "server.pem")
    text = (tmp_path / "server.pem").read_text()
    blocks = re.findall(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----\n", text, re.S)
    for name, wanted in (("key.pem", True), ("cert.pem", False)):
        file = tmp_path / name
        file.touch(mode=0o600)
        file.write_text("".join(one for one in blocks if ("PRIVATE" in one.splitlines()[0]) == wanted))
    (tmp_path / "host.key").write_text("the host key\n")
    (tmp_path / "publication.py").write_text(APPLICATION)
    return tmp_path


def check(folder, text):
    file = folder / "zope.conf"
    file.write_text(text)
    return subprocess.run([APPD, "check", str(file)], capture_output=True, text=True, timeout=60, check=False)


def test_the_contract(folder):
    """tests/process/contract.txt, every step."""
    program = HERE.parent / "support" / "contract.py"
    command = [sys.executable, str(program), str(HERE / "contract.txt"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d{2} tried, 0 failed", done.stdout, re.M)


def test_a_plain_file_is_answered_key_by_key(folder):
    """As it is: what is missing is said at the line that needs it. With the application it loads, and warns."""
    plain = PLAIN.format(http="127.0.0.1:0")
    done = check(folder, plain)
    assert done.returncode == 78 and len(done.stderr.splitlines()) == 1
    assert "zope.conf:7: type HTTP serves what application-object makes, and the file has no" in done.stderr
    done = check(folder, plain + ADDED.format(folder=folder))
    assert done.returncode == 0 and "good, 1 server: HTTP:127.0.0.1:0" in done.stdout
    said = [line.partition(" has no effect: ")[0] for line in done.stdout.splitlines() if " has no effect: " in line]
    assert said == [
        f"warning: {folder}/zope.conf:{line}: {what}"
        for line, what in (
            (2, "interrupt-check-interval"),
            (3, "site-definition"),
            (5, "devmode"),
            (10, "<zodb>"),
            (15, "<accesslog>"),
            (23, "<eventlog>"),
        )
    ]


def test_a_host_key_lies_beside_the_file(folder, tmp_path_factory):
    """A relative path is relative to the file, as in every key, wherever appd is started."""
    (folder / "publication.py").write_text(
        "def opened(hostkey: str):\n    return keyed(open(hostkey).name)\n" + APPLICATION
    )
    text = "<sshserver>\n type publication:opened\n address 127.0.0.1:0\n hostkey host.key\n</sshserver>\n"
    (folder / "zope.conf").write_text(text + f"python-path {folder}\n")
    command = [APPD, "check", str(folder / "zope.conf")]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=elsewhere)
    assert done.returncode == 0, done.stderr


def test_every_answer_is_in_the_manual():
    """The list of what is accepted in vain."""
    from appd.config.former import KEYS, SECTIONS

    page = (ROOT / "docs" / "migrating.md").read_text()
    for name, answer in (*KEYS.items(), *((f"<{one}>", answer) for one, answer in SECTIONS.items())):
        assert f"| `{name}` | {answer} |" in page


def test_a_file_with_every_section_serves(start, folder):
    """HTTP, HTTPS and a host key, each on a socket; the names are those of that time."""
    http, https, ssh = listening(), listening(), listening()
    text = EVERYTHING.format(
        folder=folder, http="systemd:name=http", https="systemd:name=https", ssh="systemd:name=ssh"
    )
    text = text.replace("server.pem", str(folder / "server.pem")).replace("host.key", str(folder / "host.key"))
    running = start(text + ADDED.format(folder=folder), ("http", http), ("https", https), ("ssh", ssh)).wait_ready()
    request = b"GET / HTTP/1.0\r\n\r\n"
    assert ask(http, request).endswith(b"http of the publication")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    import socket

    with socket.create_connection(https.getsockname()) as plain, context.wrap_socket(plain) as client:
        client.sendall(request)
        assert b"".join(iter(lambda: client.recv(4096), b"")).endswith(b"https of the publication")
    assert ask(ssh, b"") == b"the host key\n"
    running.wait_said("-- HTTP:systemd:name=http Server started.")
    running.wait_said("-- HTTP:127.0.0.1:0 Server started.")
    running.wait_said("-- HTTPS:systemd:name=https Server started.")
    running.wait_said("-- publication:keyed:systemd:name=ssh Server started.")
    for what in ("<zodb>", "<accesslog>", "<eventlog>", "<logger>", "<product-config>", "site-definition"):
        running.wait_said(f"{what} has no effect: ")
    assert running.stop() == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<sslserver>\n type HTTPS\n address 0\n</sslserver>", "<sslserver> needs 'privatekeypath'"),
        ("<sslserver>\n type HTTPS\n address 0\n privatekeypath x.pem\n certificatepath x.pem\n</sslserver>", ":5: "),
        ("<sshserver>\n type HTTP\n address 0\n hostkey k\n</sshserver>", "type HTTP takes no options"),
        ("<server>\n type HTTPS\n address 0\n</server>", ":2: type HTTPS needs tls-address and <tls>, not address"),
        ("<server>\n type HTTP\n</server>", "has no address"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(folder, text, said):
    done = check(folder, text + "\n" + ADDED.format(folder=folder))
    assert done.returncode == 78 and said in done.stderr, done.stderr
