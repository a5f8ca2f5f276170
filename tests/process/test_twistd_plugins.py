"""Every plugin that Twisted brings: those that serve under twistd serve under `<plugin>`; of the rest, what is wrong with them."""

from __future__ import annotations

import contextlib
import ftplib
import hashlib
import os
import poplib
import re
import smtplib
import socket
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.running import TWISTD, listening, read_exactly, spare_port, wait_until
from support.service import Service
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

from twisted import version

PAGE = (Path(__file__).parents[2] / "docs" / "twistd.md").read_text()
SSH = (
    "ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
    "-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1",
)  # fmt: skip
ASKS = {"SSH_ASKPASS_REQUIRE": "force"}


@pytest.fixture
def folder(tmp_path):
    """Files to serve, users, a host key."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "f").write_text("content")
    (tmp_path / "users").write_text("joe:secret\nroot:secret\n")
    (tmp_path / "users").chmod(0o600)
    (tmp_path / "keys").mkdir()
    for kind in ("ed25519", "rsa"):
        path = str(tmp_path / "keys" / f"ssh_host_{kind}_key")
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    (tmp_path / "password").write_text("#!/bin/sh\necho secret\n")
    (tmp_path / "password").chmod(0o700)
    return tmp_path


@pytest.fixture
def serve(start, folder):
    """Runs a plugin under appd, a socket `one` and a socket `two` passed; in its arguments {folder} and {port} are filled in.

    Its client is called before a reload and after it, with the ports of both sockets and {port}.
    """

    def run(plugin, arguments, client, more=()):
        sockets = [("one", listening()), ("two", listening())]
        port = spare_port()
        words = arguments.format(folder=folder, port=port, one="systemd:domain=INET:name=one", two="systemd:name=two")
        servers = (
            f"<plugin p>\n plugin {plugin}\n arguments {words}\n</plugin>\n<echo e>\n address systemd:name=h\n</echo>\n"
        )
        made = Service(start, folder, "", servers, [*sockets, *more])
        numbers = (*(one.getsockname()[1] for _name, one in sockets), port)
        client(*numbers)
        assert made.reload().returncode == 0
        client(*numbers)
        assert made.running.stop() == 0
        return made.running.errors

    return run


@contextlib.contextmanager
def stock(folder, plugin, *arguments):
    """The same plugin under twistd; gives what reads its log."""
    with open(folder / "twistd.log", "wb") as log:
        command = [TWISTD, "-n", "--pidfile=", plugin, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        yield (folder / "twistd.log").read_text
    finally:
        process.terminate()
        process.wait(30)


def connected(port):
    """A connection to what may not listen yet."""

    def attempt():
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), timeout=30)

    return wait_until(attempt, 30)


def test_none_is_forgotten():
    """docs/twistd.md has a line for each."""
    names = {one.tapname for one in getPlugins(IServiceMaker) if one.module.startswith("twisted.")}
    rows = set(re.findall(r"^\| `([a-z-]+)", PAGE, re.M))
    assert {"words", "web", "conch"} <= names <= rows


# Those that serve.


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", "--max-time", "30", *arguments], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_ftp(serve):
    """The port is a number; data connections come to ports of the kernel's."""

    def client(_one, _two, port):
        assert curl(f"ftp://127.0.0.1:{port}/f") == "content"
        assert curl(f"ftp://127.0.0.1:{port}/").rstrip().endswith(" f")
        with ftplib.FTP(timeout=30) as other, pytest.raises(ftplib.error_perm):
            other.connect("127.0.0.1", port)
            other.login("joe", "wrong")

    assert "in use" not in serve("ftp", "--port {port} --root {folder}/files --auth file:{folder}/users", client)


def test_web(serve):
    serve("web", "--listen {one} --path {folder}/files", lambda one, _two, _port: _content(one))


def _content(port):
    assert curl(f"http://127.0.0.1:{port}/f") == "content"


def test_portforward(serve):
    """What it passes on is the echo of the same file; the end of a side is passed on in its way, as an end of both."""
    target = listening()

    def client(one, _two, _port):
        with socket.create_connection(("127.0.0.1", one), timeout=30) as made:
            made.sendall(b"there")
            other, _address = target.accept()
            with other:
                assert read_exactly(other, 5) == b"there"
                other.sendall(b"and back")
                assert read_exactly(made, 8) == b"and back"

    serve("portforward", f"--port {{one}} --host 127.0.0.1 --dest_port {target.getsockname()[1]}", client)


def by_password(folder, *command):
    """Runs ssh, which asks a program for the password."""
    environ = {**os.environ, **ASKS, "SSH_ASKPASS": str(folder / "password")}
    command = [*SSH, *map(str, command)]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=environ, check=False
    )


@pytest.mark.skipif(version.major < 23, reason="under twistd the conch of Twisted 22.4 takes no password")
@pytest.mark.skipif(os.geteuid() != 0, reason="conch's plugin becomes the user who logs in")
def test_conch(serve, folder):
    """A command is run; a wrong password is refused."""

    def client(one, _two, _port):
        done = by_password(folder, "-p", one, "root@127.0.0.1", "echo from there")
        assert "from there\n" in done.stdout, done.stderr
        done = by_password(folder, "-p", one, "nobody@127.0.0.1", "echo from there")
        assert "from there\n" not in done.stdout and "Permission denied" in done.stderr

    serve("conch", "--port {one} --data {folder}/keys --auth file:{folder}/users", client)


def converse(folder, command, *login):
    """Types each text behind its prompt, and Python at the prompt of a shell."""
    environ = {**os.environ, **ASKS, "SSH_ASKPASS": str(folder / "password")}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environ, **streams) as process:
        for prompt, typed in (*login, (b">>> ", b"6*7\r"), (b"42", b"")):
            seen = b""
            while prompt not in seen:
                more = os.read(process.stdout.fileno(), 4096)
                assert more, seen
                seen += more
            process.stdin.write(typed)
            process.stdin.flush()
        process.terminate()


def test_manhole(serve, folder):
    """By telnet and by ssh."""

    def client(one, two, _port):
        converse(folder, ["telnet", "127.0.0.1", str(one)], (b"Username: ", b"joe\n"), (b"Password: ", b"secret\n"))
        converse(folder, [*SSH, "-tt", "-p", str(two), "joe@127.0.0.1"])

    serve(
        "manhole",
        "--telnetPort {one} --sshPort {two} --passwd {folder}/users --sshKeyDir {folder}/keys --sshKeySize 2048",
        client,
    )


COMPONENT = (
    "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='{name}'>"
)


class Component:
    """A component of XMPP (XEP-0114) with a parser of XML of its own."""

    def __init__(self, port, name, secret):
        self._socket = connected(port)
        self._parser = ElementTree.XMLPullParser(("start", "end"))
        self._socket.sendall(COMPONENT.format(name=name).encode())
        stream = self.read("stream")
        shaken = hashlib.sha1((stream.get("id") + secret).encode()).hexdigest()
        self.send(f"<handshake>{shaken}</handshake>")

    def send(self, text):
        self._socket.sendall(text.encode())

    def read(self, name):
        """The next element of that name; the stream's as soon as it is open."""
        while True:
            for event, element in self._parser.read_events():
                if element.tag.rpartition("}")[2] == name and (event == "end" or name == "stream"):
                    return element
            data = self._socket.recv(4096)
            assert data, f"the end, and no {name}"
            self._parser.feed(data)

    def close(self):
        self._socket.close()


def test_xmpp_router(serve):
    """Two components shake hands, and one's message reaches the other; who has another secret is told an error."""

    def client(one, _two, _port):
        first, second = (Component(one, name, "between us") for name in ("a.example", "b.example"))
        for both in (first, second):
            both.read("handshake")
        first.send("<message from='x@a.example' to='y@b.example'><body>hello</body></message>")
        assert second.read("message")[0].text == "hello"
        stranger = Component(one, "c.example", "a guess")
        assert stranger.read("error")
        for both in (first, second, stranger):
            both.close()

    serve("xmpp-router", "--port {one} --secret 'between us'", client)


def test_dns(serve, folder):
    """It binds TCP and UDP itself."""
    (folder / "zone.py").write_text(
        "zone = [\n    SOA('example.org', mname='ns.example.org', rname='h.example.org', serial=1, refresh=60, retry=60,"
        " expire=60, minimum=60),\n    A('ns.example.org', '192.0.2.53'),\n]\n"
    )

    def client(_one, _two, port):
        for way in ("+notcp", "+tcp"):
            command = ["dig", "@127.0.0.1", "-p", str(port), "+short", "+noedns", "+time=20", way, "ns.example.org"]
            assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "192.0.2.53\n"

    serve("dns", "--interface 127.0.0.1 --port {port} --pyzone {folder}/zone.py", client)


def test_inetd(serve, folder):
    """A program for each connection: its input and output are that."""
    port = spare_port()
    (folder / "inetd.conf").write_text(f"{port} stream tcp nowait {os.geteuid()} /bin/cat cat\n")

    def client(_one, _two, _port):
        with connected(port) as made:
            made.sendall(b"there and back")
            made.shutdown(socket.SHUT_WR)
            assert read_exactly(made, 14) == b"there and back"

    serve("inetd", "--file {folder}/inetd.conf", client)


def test_procmon(serve, folder):
    """It keeps a program of another house running; that has its port back in the next generation."""
    (folder / "files" / "index.html").write_text("content")

    def client(_one, _two, port):
        # It takes a moment to begin, and the one of the generation before to end.
        assert (
            curl("--retry", "60", "--retry-delay", "1", "--retry-all-errors", f"http://127.0.0.1:{port}/") == "content"
        )

    serve("procmon", f"{sys.executable} -m http.server --bind 127.0.0.1 --directory {{folder}}/files {{port}}", client)


# A client of words by PB; it has to bring an object for what is said to it.
SPEAKER = """
import sys
from twisted.cred.credentials import UsernamePassword
from twisted.internet import defer, endpoints, task
from twisted.spread import pb
from twisted.words.service import PBMind
async def main(reactor):
    factory = pb.PBClientFactory()
    await endpoints.clientFromString(reactor, sys.argv[1]).connect(factory)
    for password in (b"wrong", b"secret"):
        try:
            avatar = await factory.login(UsernamePassword(b"joe", password), PBMind())
            print(type(await avatar.callRemote("join", "lobby")).__name__)
        except pb.RemoteError as error:
            print(error.remoteType.decode())
    factory.disconnect()
task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
"""


def test_words_speaks_pb(serve):
    """The half of words that lets anybody in; the other is below."""

    def client(one, _two, _port):
        command = [sys.executable, "-c", SPEAKER, f"tcp:127.0.0.1:{one}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        # The second is in, and learns that nobody has made a group.
        assert [one.rpartition(".")[2] for one in done.stdout.split()] == ["UnauthorizedLogin", "NoSuchGroup"], (
            done.stderr
        )

    serve("words", "--pb-port {one} --auth file:{folder}/users", client)


# Those that do not, each as twistd runs it: whoever mends one in Twisted will find it here.


def irc_login(port):
    with connected(port) as made:
        made.sendall(b"PASS secret\r\nNICK joe\r\nUSER joe 0 * :Joe\r\n")
        seen, more = b"", b"x"
        while more and b"Login failed" not in seen and b" 001 " not in seen:
            more = made.recv(4096)
            seen += more
        return seen


def test_words_lets_nobody_into_irc(folder, serve):
    """The right password is refused, under twistd and here."""
    port = spare_port()
    with stock(folder, "words", "--irc-port", f"tcp:{port}:interface=127.0.0.1", "--auth", f"file:{folder}/users"):
        assert b"Login failed" in irc_login(port)

    def client(one, _two, _port):
        assert b"Login failed" in irc_login(one)

    serve("words", "--irc-port {one} --auth file:{folder}/users", client)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("words", "--group", "lobby"), "'str' object has no attribute 'decode'"),
        (("mail", "--maildirdbmdomain", "example.org=box", "--user", "joe=secret"), "TypeError: DirDBM key must be bytes"),
    ],
)  # fmt: skip
def test_options_that_fail(folder, arguments, said):
    done = subprocess.run([TWISTD, "-n", "--pidfile=", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=folder)  # fmt: skip
    assert done.returncode != 0 and said in done.stderr + done.stdout


def no_mail(smtp, pop3):
    """They greet, and that is all: nobody can have a mailbox."""
    with smtplib.SMTP("127.0.0.1", smtp, timeout=30) as client:
        client.ehlo_or_helo_if_needed()
        assert client.mail("a@example.net")[0] == 250
        assert client.rcpt("joe@example.org")[0] == 550
    with pytest.raises(poplib.error_proto, match="Authentication failed"):
        client = poplib.POP3("127.0.0.1", pop3, timeout=30)
        try:
            client.user("joe@example.org")
            client.pass_("secret")
        finally:
            client.close()


def test_mail_has_no_mailboxes(folder, serve):
    """Under twistd and here, and what it relays is lost before it is queued."""
    smtp, pop3, relay = (spare_port() for _ in range(3))
    ends = [f"tcp:{one}:interface=127.0.0.1" for one in (smtp, pop3, relay)]
    with stock(folder, "mail", "--smtp", ends[0], "--pop3", ends[1], "-d", f"example.org={folder}/box"):
        for one in (smtp, pop3):
            connected(one).close()
        no_mail(smtp, pop3)
    with stock(folder, "mail", "--smtp", ends[2], "--no-pop3", "--relay", folder / "queue") as log:
        connected(relay).close()
        with smtplib.SMTP("127.0.0.1", relay, timeout=30) as client:
            client.ehlo_or_helo_if_needed()
            client.mail("a@example.net")
            assert client.rcpt("joe@example.org")[0] == 451
        assert "object of type 'filter' has no len()" in log()
    serve(
        "mail",
        "--smtp {one} --pop3 {two} --maildirdbmdomain example.org={folder}/box",
        lambda one, two, _port: no_mail(one, two),
    )
