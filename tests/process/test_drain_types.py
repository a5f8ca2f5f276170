"""Every type of stream server, each with a client in the middle of something that never ends: the drain ends at its time-out."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time

import pytest
from support.running import MADE, listening, wait_until
from support.service import Service, gone

HOSTED = """
from twisted.application import service, strports
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols import amp
from twisted.spread import pb
class Root(pb.Root):
    pass
class Answers(amp.CommandLocator):
    pass
class Still(Protocol):
    def connectionMade(self):
        self.transport.write(b"here")
"""
TAC = """
import hosted2
from twisted.application import service, strports
from twisted.internet.protocol import Factory
application = service.Application("still")
strports.service("systemd:domain=INET:name=tac", Factory.forProtocol(hosted2.Still)).setServiceParent(application)
"""
FILE = """
<auth staff>
  checker memory:ann:secret
</auth>
<amp>
  address systemd:name=amp
  responder hosted2:Answers
</amp>
<dns>
  address systemd:name=dns
  zone example.org {folder}/zone
  transfer 127.0.0.0/8
</dns>
<echo>
  address systemd:name=echo
</echo>
<ftp>
  address systemd:name=ftp
  anonymous on
  root {folder}/files
</ftp>
<pb>
  address systemd:name=pb
  root hosted2:Root
</pb>
<portforward>
  address systemd:name=portforward
  to 127.0.0.1:{target}
</portforward>
<smtp>
  address systemd:name=smtp
  domains example.org
  maildir {folder}/mail/%u
</smtp>
<ssh>
  address systemd:name=ssh
  auth staff
  root {folder}/files
</ssh>
<syslog>
  address systemd:name=syslog
</syslog>
<tac still>
  file {folder}/still.tac
</tac>
<plugin proxy>
  plugin portforward
  arguments --port systemd:domain=INET:name=plugin --host 127.0.0.1 --dest_port {target}
</plugin>
"""
NAMES = ("amp", "dns", "echo", "ftp", "pb", "portforward", "smtp", "ssh", "syslog", "tac", "plugin")
AXFR = b"\x01\x02\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\xfc\x00\x01"


def until(client, text):
    seen = b""
    while text not in seen:
        more = client.recv(4096)
        assert more, seen
        seen += more


def begin(name, client):
    """Brings a connection into the middle of something."""
    if name == "ftp":
        client.sendall(b"USER anonymous\r\nPASS x\r\nEPSV\r\n")
        answer = b""
        while b"|||" not in answer or not answer.endswith(b"\r\n"):
            answer += client.recv(4096)
        data = socket.socket()
        MADE.append(data)
        data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        data.connect(("127.0.0.1", int(answer.partition(b"|||")[2].partition(b"|")[0])))
        client.sendall(b"RETR big\r\n")
        assert data.recv(1)
    elif name == "smtp":
        client.sendall(b"HELO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nbegun\r\n")
        until(client, b"354 ")
    elif name == "dns":
        client.sendall(struct.pack("!H", len(AXFR)) + AXFR)
        assert client.recv(1)
    elif name == "ssh":
        # What comes next is the client's part of the key exchange, and it does not come.
        client.sendall(b"SSH-2.0-x\r\n")
        until(client, b"SSH-2.0-appd")
    elif name == "amp":
        client.sendall(b"\x00\x03key\x00\x10half")
    elif name == "pb":
        until(client, b"pb")
    elif name == "syslog":
        client.sendall(b"<13>a: half")
    elif name in ("portforward", "plugin"):
        client.sendall(b"through")
        until(client, b"through")
    elif name == "echo":
        client.sendall(b"x" * 1000)
    else:
        until(client, b"here")


@pytest.fixture
def busy(start, tmp_path):
    """All of them, and a client of each; gives the service and the clients."""
    for folder in ("files", "mail/ann", "state"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "files" / "big").write_bytes(os.urandom(30_000_000))
    many = "".join(f"n{number} IN TXT {'x' * 200}\n" for number in range(20_000))
    (tmp_path / "zone").write_text(f"$TTL 60\n@ IN SOA ns h 1 60 60 60 60\n IN NS ns\nns IN A 192.0.2.1\n{many}")
    (tmp_path / "hosted2.py").write_text(HOSTED)
    (tmp_path / "still.tac").write_text(TAC)
    target = listening()
    sockets = {name: listening() for name in NAMES}
    sockets["dns"].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    made = Service(
        lambda *arguments, **named: start(*arguments, environ={"STATE_DIRECTORY": str(tmp_path / "state")}, **named),
        tmp_path,
        "drain-timeout 2s\nreload-drain-timeout 2s\n",
        FILE.format(folder=tmp_path, target=target.getsockname()[1]),
        list(sockets.items()),
    )
    clients = {}
    for name, sock in sockets.items():
        client = clients[name] = socket.socket()
        MADE.append(client)
        if name == "dns":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect(sock.getsockname())
        if name in ("portforward", "plugin"):
            there, _address = target.accept()
            MADE.append(there)
            there.sendall(b"through")
        begin(name, client)
    return made, clients


@pytest.mark.parametrize("how", ["reload", "stop"])
def test_the_time_out_ends_all(busy, how):
    """No connection is left behind, none holds the process up, and what was cut is said."""
    made, clients = busy
    [old] = made.workers()
    began = time.monotonic()
    if how == "reload":
        assert made.reload().returncode == 0
        wait_until(lambda: gone(old))
    else:
        made.running.process.send_signal(signal.SIGTERM)
        assert made.running.wait_exit() == 0
    assert 2 <= time.monotonic() - began < 29
    for client in clients.values():
        with contextlib.suppress(ConnectionError):
            while client.recv(65536):
                pass
    for name in ("ftp", "smtp", "portforward", "still", "proxy"):
        wait_until(lambda name=name: any(name in line and "are cut" in line for line in list(made.running.err)))
    assert "Traceback" not in made.running.errors
    if how == "reload":
        assert made.running.stop() == 0
