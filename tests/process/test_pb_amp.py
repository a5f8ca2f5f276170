"""<pb> and <amp>: objects and commands on inherited sockets, UNIX sockets and TLS, with a login and over a reload."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from support.authority import Authority
from support.running import APPD, descriptors, listening
from support.service import Service

CALLERS = str(Path(__file__).parents[1] / "support" / "callers.py")
HOSTED = """
import os
from twisted.cred.portal import IRealm
from twisted.protocols import amp
from twisted.spread import pb
from zope.interface import implementer
class Root(pb.Root):
    def __init__(self, greeting: str = "hello"):
        self.greeting = greeting
    def remote_greet(self, name):
        return f"{self.greeting} {name}"
    def remote_pid(self):
        return str(os.getpid())
class Person(pb.Avatar):
    def __init__(self, name):
        self.name = name
    def perspective_who(self):
        return self.name
@implementer(IRealm)
class People:
    def requestAvatar(self, name, mind, *interfaces):
        return pb.IPerspective, Person(name.decode()), lambda: None
class Square(amp.Command):
    arguments = ((b"number", amp.Integer()),)
    response = ((b"square", amp.Integer()),)
    errors = {ValueError: b"VALUE"}
class Squares(amp.CommandLocator):
    def __init__(self, most: int = 100):
        self.most = most
    @Square.responder
    def square(self, number):
        if number > self.most:
            raise ValueError(f"more than {self.most}")
        return {"square": number * number}
class Whole(amp.AMP):
    @Square.responder
    def square(self, number):
        return {"square": -number}
def nothing():
    return 3
"""


@pytest.fixture
def served(start, tmp_path):
    (tmp_path / "called.py").write_text(HOSTED)
    return partial(Service, start, tmp_path)


def tcp(sock):
    return f"tcp:127.0.0.1:{sock.getsockname()[1]}"


def call(protocol, where, *calls):
    """What a client prints."""
    command = [sys.executable, CALLERS, protocol, where, *calls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_objects_over_every_kind_of_socket(served, tmp_path):
    """TCP, UNIX and TLS from one section, with an option of the root."""
    root = Authority("Root")
    root.issue("localhost").write(tmp_path / "web.pem")
    (tmp_path / "ca.pem").write_bytes(root.certificate.public_bytes(serialization.Encoding.PEM))
    unix, tls = listening(socket.AF_UNIX, str(tmp_path / "pb.sock")), listening()
    section = (
        "<pb objects>\n address systemd:name=h\n address systemd:name=unix\n tls-address systemd:name=tls\n root called:Root\n"
        f" <tls>\n  certificate {tmp_path}/web.pem\n </tls>\n <options>\n  greeting  good day\n </options>\n</pb>\n"
    )
    made = served("", section, [("unix", unix), ("tls", tls)])
    over_tls = f"tls:localhost:{tls.getsockname()[1]}:trustRoots={tmp_path}"
    for where in (tcp(made.passed), f"unix:{tmp_path}/pb.sock", over_tls):
        assert call("pb", where, "greet,Ann") == ["good day Ann"]
    assert made.running.stop() == 0


def test_an_open_object_outlives_a_reload(served):
    """Its connection goes on in its generation; a new one is of the next."""
    made = served("", "<pb p>\n address systemd:name=h\n root called:Root\n</pb>\n")
    command = [sys.executable, CALLERS, "pb", tcp(made.passed), "pid", "wait", "pid"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        first = client.stdout.readline()
        assert client.stdout.readline() == "waits\n"
        assert made.reload().returncode == 0
        assert call("pb", tcp(made.passed), "pid") != [first.strip()]
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.stdout.readline() == first
        assert client.wait(30) == 0
    assert made.running.stop() == 0


def test_a_login(served, tmp_path):
    """Who knows the password gets a perspective; a wrong one and a user that there is not are told the same."""
    (tmp_path / "people").write_text("ann:secret\n")
    (tmp_path / "people").chmod(0o600)
    text = (
        f"<auth staff>\n checker file:{tmp_path}/people\n</auth>\n"
        "<pb p>\n address systemd:name=h\n realm called:People\n auth staff\n</pb>\n"
    )
    made = served("", text)
    assert call("pb:ann:secret", tcp(made.passed), "who") == ["ann"]
    wrong = call("pb:ann:wrong", tcp(made.passed), "who")
    assert (
        wrong == ["refused RemoteError twisted.cred.error.UnauthorizedLogin "]
        and call("pb:nobody:x", tcp(made.passed), "who") == wrong
    )
    for user, times in (("ann", "for the first time"), ("nobody", "2 times of late")):
        made.running.wait_said(f"p: login failed: password of '{user}' from 127.0.0.1, {times}")
    assert "Unhandled" not in made.running.errors and "Traceback" not in made.running.errors
    assert made.running.stop() == 0


def test_commands(served):
    """A locator with an option, and a whole AMP; errors that the command names travel, the rest ends nothing else."""
    both = listening()
    text = (
        "<amp a>\n address systemd:name=h\n responder called:Squares\n <options>\n  most 12\n </options>\n</amp>\n"
        "<amp b>\n address systemd:name=b\n responder called:Whole\n</amp>\n"
    )
    made = served("", text, [("b", both)])
    assert call("amp", tcp(made.passed), "12", "13", "2") == ["144", "ValueError more than 12", "4"]
    assert call("amp", tcp(both), "3") == ["-3"]
    command = [sys.executable, CALLERS, "amp", tcp(made.passed), "2", "wait", "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert [client.stdout.readline() for _ in range(2)] == ["4\n", "waits\n"]
        assert made.reload().returncode == 0
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.stdout.readline() == "9\n"
    assert made.running.stop() == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<pb p>\n address 0\n</pb>", "server 'p': one of root and realm is needed"),
        ("<pb p>\n address 0\n root called:Root\n realm called:People\n</pb>", "one of root and realm is needed"),
        ("<pb p>\n address 0\n realm called:People\n</pb>", "realm and auth go together"),
        ("<pb p>\n address 0\n root called:nothing\n</pb>", ":3: called:nothing made 3, which is no root object"),
        ("<pb p>\n address 0\n realm called:Root\n auth a\n</pb>", "which is no realm (IRealm)"),
        ("<pb p>\n address 0\n realm called:People\n auth a\n</pb>", "no <auth a> in the file"),
        ("<amp a>\n address 0\n responder called:nothing\n</amp>", ":3: called:nothing made 3, which is no responder"),
        ("<amp a>\n address 0\n responder called:Squares\n <options>\n  least 1\n </options>\n</amp>", "has no option 'least'"),
        ("<amp a>\n address udp:0\n responder called:Squares\n</amp>", "datagram"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, said):
    (tmp_path / "called.py").write_text(HOSTED)
    file = tmp_path / "appd.conf"
    file.write_text(f"{text}\npython-path {tmp_path}\n")
    done = subprocess.run([APPD, "check", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78 and re.search(re.escape(said), done.stderr), done.stderr


def throw(sock, data):
    """Sends what makes no sense, and reads to the end."""
    with socket.create_connection(sock.getsockname(), timeout=60) as client, contextlib.suppress(ConnectionError):
        client.sendall(data)
        with contextlib.suppress(OSError):  # ENOTCONN: it has been cut by now
            client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass


def test_messages_without_an_end(served):
    """Are cut at message-size, however small their parts; any number of short ones is taken."""
    other = listening()
    text = (
        "<pb p>\n address systemd:name=h\n root called:Root\n message-size 1MB\n</pb>\n"
        "<amp a>\n address systemd:name=a\n responder called:Squares\n message-size 1MB\n</amp>\n"
    )
    made = served("", text, [("a", other)])
    # A list of half a million strings of 100 bytes, behind the choice of a dialect; pairs of a key and 100 bytes.
    begins = {"p": b"\x02\x82pb\x00\x00\x20\x80", "a": b""}
    parts = {"p": b"\x64\x82" + b"x" * 100, "a": b"\x00\x03key\x00\x64" + b"v" * 100}
    for server, sock in (("p", made.passed), ("a", other)):
        with socket.create_connection(sock.getsockname(), timeout=60) as client, contextlib.suppress(ConnectionError):
            client.sendall(begins[server])
            for _ in range(400):
                client.sendall(parts[server] * 100)
        made.running.wait_said(f"{server}: 127.0.0.1 has sent more than 1048576 bytes of one message (message-size)")
    assert call("amp", tcp(other), *["9"] * 3000) == ["81"] * 3000
    assert call("pb", tcp(made.passed), "greet,Ann") == ["hello Ann"]


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "high bytes": b"\xff" * 1000,
    "long": b"\x01" * 200_000,
    "zeros": bytes(100_000),
    "a number without end": b"\x04pb" + b"\x7f" * 100_000,
    "long string": b"\x7f\x7f\x7f\x7f\x82" + b"x" * 100_000,
    "deep": b"\x01\x80" * 20_000,
}


@pytest.mark.parametrize("kind", ["pb", "amp"])
def test_garbage_half_logins_and_a_thousand_connections(served, tmp_path, kind):
    """Each ends by itself, with no traceback, and others are served meanwhile."""
    (tmp_path / "people").write_text("ann:secret\n")
    (tmp_path / "people").chmod(0o600)
    text = {
        "pb": f"<auth staff>\n checker file:{tmp_path}/people\n</auth>\n"
        "<pb p>\n address systemd:name=h\n realm called:People\n auth staff\n <limits>\n  login-timeout 8s\n </limits>\n</pb>\n",
        "amp": "<amp p>\n address systemd:name=h\n responder called:Squares\n <limits>\n  idle-timeout 8s\n </limits>\n</amp>\n",
    }[kind]
    made = served("", text)

    def serves():
        if kind == "pb":
            return call("pb:ann:secret", tcp(made.passed), "who") == ["ann"]
        return call("amp", tcp(made.passed), "12") == ["144"]

    for data in GARBAGE.values():
        throw(made.passed, data)
    made.running.wait_said("p: 127.0.0.1 has sent what makes no sense, and is cut: ")
    with descriptors(4096), contextlib.ExitStack() as stack:
        address = made.passed.getsockname()
        silent = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(1000)]
        assert serves()
        for one in (silent[0], silent[-1]):
            with contextlib.suppress(ConnectionError):
                while one.recv(1000):
                    pass
        assert serves()
    assert "Traceback" not in made.running.errors and made.running.stop() == 0
