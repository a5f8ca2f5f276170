"""<plugin> and <tac>: what exists for Twisted, unchanged, on inherited sockets and on what it binds itself."""

from __future__ import annotations

import imaplib
import poplib
import socket
import stat
import subprocess
import threading
from pathlib import Path

import irc.client
import pytest
from support import examples, maildirs
from support.running import APPD, MADE, ask, datagram, listening, spare_port, wait_until
from support.service import Service


@pytest.fixture
def page(tmp_path):
    """An example of docs/twistd.md by its heading: the section; its files are made, and the paths in both are these."""

    def at_home(text):
        return text.replace("/etc/appd", str(tmp_path)).replace("/var/lib/appd", str(tmp_path))

    def example(heading, **files):
        section, sources = examples.example(heading)
        for name, source in {**files, **sources}.items():
            (tmp_path / name).write_text(at_home(source))
        return at_home(section)

    return example


class Chatter(irc.client.SimpleIRCClient):
    """Joins a channel; says what it hears."""

    def __init__(self, name):
        super().__init__()
        self.name, self.heard, self.joined = name, [], False

    def enter(self, address):
        self.connect(*address, self.name, password="secret")
        return self

    def on_welcome(self, connection, _event):
        connection.join("#lobby")

    def on_join(self, _connection, _event):
        self.joined = True

    def on_pubmsg(self, _connection, event):
        self.heard.append(event.arguments[0])

    def turn(self):
        self.reactor.process_once(0.05)


def until(*clients, done):
    """Lets clients do their work until something is true."""

    def turned():
        for one in clients:
            one.turn()
        return done()

    wait_until(turned, 60)


def test_irc(start, page, tmp_path):
    """The example: two clients of another house talk, over a reload that one of them does not notice."""
    sock = listening()
    made = Service(start, tmp_path, "", page("Chat: IRC"), [("irc", sock)])
    ann, bob = (Chatter(name).enter(sock.getsockname()) for name in ("ann", "bob"))
    until(ann, bob, done=lambda: ann.joined and bob.joined)
    ann.connection.privmsg("#lobby", "hello")
    until(ann, bob, done=lambda: bob.heard == ["hello"])
    assert made.reload().returncode == 0
    ann.connection.privmsg("#lobby", "still here")
    until(ann, bob, done=lambda: bob.heard == ["hello", "still here"])
    late = Chatter("ann").enter(sock.getsockname())
    until(late, done=lambda: late.joined)
    for one in (ann, bob, late):
        one.connection.disconnect()
        one.connection.socket and one.connection.socket.close()
    assert made.running.stop() == 0


@pytest.mark.skipif(not maildirs.take_bytes(), reason="the Maildir of this Twisted works on Python 2 only")
def test_pop3(start, page, tmp_path):
    """The example: a mailbox is read with poplib, a wrong password is refused."""
    box = tmp_path / "mail" / "joe"
    for name in ("new", "cur", "tmp"):
        (box / name).mkdir(parents=True)
    sock = listening()
    made = Service(start, tmp_path, "", page("Mail: POP3", **{"mail.passwd": "joe:secret\n"}), [("pop3", sock)])
    address = sock.getsockname()
    client = poplib.POP3(*address, timeout=30)
    client.user("joe")
    with pytest.raises(poplib.error_proto):
        client.pass_("wrong")
    client.close()
    client = poplib.POP3(*address, timeout=30)
    client.user("joe")
    client.pass_("secret")
    assert client.stat() == (0, 0)
    client.quit()
    (box / "new" / "1.2.x").write_text("Subject: hi\n\nThere.\n")
    client = poplib.POP3(*address, timeout=30)
    client.user("joe")
    client.pass_("secret")
    assert b"There." in client.retr(1)[1]
    assert made.reload().returncode == 0
    client.quit()
    assert made.running.stop() == 0


def test_imap4(start, page, tmp_path):
    """The example: imaplib logs in, lists and selects, before and after a reload."""
    sock = listening()
    made = Service(start, tmp_path, "", page("Mail: IMAP4", **{"imap.passwd": "joe:secret\n"}), [("imap", sock)])
    client = imaplib.IMAP4(*sock.getsockname(), timeout=30)
    with pytest.raises(imaplib.IMAP4.error):
        client.login("joe", "wrong")
    client.login("joe", "secret")
    assert client.list()[0] == "OK"
    assert made.reload().returncode == 0
    assert client.select("INBOX", readonly=True) == ("OK", [b"0"])
    client.logout()
    client = imaplib.IMAP4(*sock.getsockname(), timeout=30)
    client.login("joe", "secret")
    client.logout()
    assert made.running.stop() == 0


def test_socks(start, page, tmp_path):
    """The example: curl goes through it; the port it binds itself is the same socket over two reloads, and nobody is refused."""
    port = spare_port()
    section = page("A proxy: SOCKS").replace("1080", str(port))
    http = "<http h>\n address systemd:name=h\n <wsgi>\n  application hosted:app\n </wsgi>\n</http>\n"
    made = Service(start, tmp_path, "", section + http)
    url = f"http://127.0.0.1:{made.passed.getsockname()[1]}/"

    def through():
        command = ["curl", "--silent", "--show-error", "--max-time", "30", "--socks4", f"127.0.0.1:{port}", url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = through()
    assert done.returncode == 0 and done.stdout.isdecimal(), done.stderr
    inode = inode_of(port)
    results, stop = [], threading.Event()

    def clients():
        while not stop.is_set():
            results.append(through().returncode)

    client = threading.Thread(target=clients)
    client.start()
    try:
        for _ in range(2):
            assert made.reload().returncode == 0
            seen = len(results)
            wait_until(lambda seen=seen: len(results) >= seen + 2)
    finally:
        stop.set()
        client.join()
    assert set(results) == {0} and inode_of(port) == inode
    assert made.running.stop() == 0
    made.running.manager.read_all()  # copies for systemd's store wait in its queue
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 5):
        pass


def inode_of(port):
    """Which socket listens on a port of 127.0.0.1: proc_net(5)."""
    wanted = f"0100007F:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return next((row[9] for row in rows if row[1] == wanted and row[3] == "0A"), None)


def test_finger(start, page, tmp_path):
    """The example."""
    sock = listening()
    made = Service(start, tmp_path, "strict-sockets on\n", page("Finger") + ECHO, [("finger", sock)])
    assert ask(sock, b"joe\r\n") == b"Joe is at lunch.\r\n"
    assert ask(sock, b"root\r\n") == b"Nobody of that name is here.\r\n"
    assert made.running.stop() == 0


ECHO = "<echo e>\n address systemd:name=h\n</echo>\n"
# Every way to listen that a service has.
EVERY = """
import os
from twisted.application import internet, service, strports
from twisted.internet import endpoints, reactor
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
class Says(Protocol):
    def dataReceived(self, data):
        self.transport.write(str(os.getpid()).encode())
        if data != b"stay":
            self.transport.loseConnection()
class SaysDatagrams(DatagramProtocol):
    def datagramReceived(self, data, peer):
        self.transport.write(str(os.getpid()).encode(), peer)
factory = Factory.forProtocol(Says)
application = service.Application("every", uid=12, gid=12)
add = lambda one: one.setServiceParent(application)
add(internet.TCPServer(A_TCP, factory, interface="127.0.0.1"))
add(internet.UDPServer(A_UDP, SaysDatagrams(), interface="127.0.0.1"))
add(internet.UNIXServer("A_PATH", factory, mode=0o600))
add(strports.service("tcp:AN_ENDPOINT:interface=127.0.0.1", factory))
add(strports.service("systemd:domain=INET:name=two", factory))
add(strports.service("systemd:domain=UNIX:name=path", factory))
add(internet.TCPServer(0, factory, interface="127.0.0.1"))
class Later(service.Service):
    def startService(self):
        reactor.callLater(0.1, lambda: endpoints.serverFromString(reactor, "tcp:A_LATE_ONE:interface=127.0.0.1").listen(factory))
add(Later())
"""


@pytest.fixture
def every(start, tmp_path):
    """A service that listens in every way, and where."""
    where = {one: spare_port() for one in ("A_TCP", "A_UDP", "AN_ENDPOINT", "A_LATE_ONE")}
    where["A_PATH"] = tmp_path / "own.sock"
    text = EVERY
    for name, value in where.items():
        text = text.replace(name, str(value))
    (tmp_path / "every.tac").write_text(text)
    first, second, path = listening(), listening(), listening(socket.AF_UNIX, str(tmp_path / "passed.sock"))
    (tmp_path / "passed.sock").chmod(0o640)
    made = Service(
        start,
        tmp_path,
        "workers 2\n",
        f"<tac every>\n file {tmp_path}/every.tac\n</tac>\n" + ECHO,
        [("two", first), ("two", second), ("path", path)],
    )
    places = [("127.0.0.1", where[one]) for one in ("A_TCP", "AN_ENDPOINT", "A_LATE_ONE")]
    places += [first.getsockname(), second.getsockname()]
    return made, where, [(socket.AF_INET, one) for one in places] + [
        (socket.AF_UNIX, str(one)) for one in (where["A_PATH"], tmp_path / "passed.sock")
    ]  # fmt: skip


def asked(family, address, data=b"x"):
    with socket.socket(family) as client:
        client.settimeout(30)
        client.connect(address)
        client.sendall(data)
        return b"".join(iter(lambda: client.recv(100), b""))


def over_udp(port):
    with datagram() as client:
        client.settimeout(30)
        client.sendto(b"x", ("127.0.0.1", port))
        return client.recv(100)


def test_every_way_to_listen(every, tmp_path):
    """All answer, before and after two reloads, without a port in use; paths keep their modes; a stop leaves nothing."""
    made, where, places = every
    late = places[2]
    wait_until(lambda: inode_of(where["A_LATE_ONE"]))
    inode, path = inode_of(where["A_TCP"]), where["A_PATH"].stat().st_ino
    open_one = socket.create_connection(places[0][1])
    MADE.append(open_one)
    open_one.sendall(b"stay")
    first = open_one.recv(100)
    for _ in range(2):
        assert {asked(*one) for one in places} == {over_udp(where["A_UDP"])}
        assert made.reload().returncode == 0
        wait_until(lambda: asked(*late) != first)
    assert {asked(*one) for one in places} == {over_udp(where["A_UDP"])} != {first}
    assert inode_of(where["A_TCP"]) == inode and where["A_PATH"].stat().st_ino == path
    assert stat.S_IMODE(where["A_PATH"].stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "passed.sock").stat().st_mode) == 0o640
    open_one.sendall(b"stay")
    assert open_one.recv(100) == first, "what was open goes on in its generation"
    open_one.close()
    assert made.running.stop() == 0
    assert (tmp_path / "passed.sock").exists() and not where["A_PATH"].exists()
    assert "in use" not in made.running.errors and "Unhandled" not in made.running.errors
    made.running.wait_said("uid and gid of the application do not count")


def test_a_rollback(every, tmp_path):
    """A new one that cannot listen: the old one goes on with all it had."""
    made, _where, places = every
    wait_until(lambda: {asked(*one) for one in places if one != places[2]})
    first = asked(*places[0])
    taken = listening()
    tac = tmp_path / "every.tac"
    before = tac.read_text()
    tac.write_text(before + f"add(internet.TCPServer({taken.getsockname()[1]}, factory, interface='127.0.0.1'))\n")
    done = made.reload()
    assert done.returncode == 69 and "in use" in done.stderr and len(done.stderr.splitlines()) == 1
    assert {asked(*one) for one in places} == {first}
    tac.write_text(before)
    assert made.reload().returncode == 0
    wait_until(lambda: asked(*places[0]) != first)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("<plugin p>\n plugin wrods\n</plugin>", 78, ":2: no plugin of twistd is called 'wrods': did you mean words?"),
        ("<plugin p>\n plugin appd\n</plugin>", 78, ":2: no plugin of twistd is called 'appd'"),
        ("<plugin p>\n plugin socks\n arguments --nothing\n</plugin>", 78, ":3: plugin socks failed: ValueError: option --nothing not recognized (`twistd socks --help`"),
        ("<plugin p>\n plugin socks\n arguments --help\n</plugin>", 78, ":3: plugin socks failed: it called sys.exit(0)"),
        ("<plugin p>\n plugin socks\n processes all\n</plugin>", 78, ":3: server 'p': what binds by itself runs in one process"),
        ("<plugin p>\n plugin words\n arguments --irc-port systemd:domain=INET:name=no\n</plugin>", 78, ":3: plugin words failed: ValueError: "),
        ("<tac t>\n file no.tac\n</tac>", 78, ":2: there is no file "),
        ("<tac t>\n file bad.tac\n</tac>", 78, ":2: {folder}/bad.tac failed: RuntimeError: broken"),
        ("<tac t>\n file empty.tac\n</tac>", 78, "empty.tac failed: KeyError: 'application'"),
        ("<tac t>\n file late.tac\n</tac>", 78, "server 't' cannot start: RuntimeError: at its start"),
        ("<tac t>\n file quiet.tac\n</tac>", 69, "address is in use"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(start, tmp_path, text, code, said):
    """One line with the place, the traceback of theirs below; what Twisted only logs ends the start too."""
    taken = listening()
    (tmp_path / "run0").mkdir()
    head = "from twisted.application import service\napplication = service.Application('x')\n"
    (tmp_path / "bad.tac").write_text("raise RuntimeError('broken')\n")
    (tmp_path / "empty.tac").write_text("x = 1\n")
    (tmp_path / "late.tac").write_text(
        head + "class Late(service.Service):\n    def startService(self):\n        raise RuntimeError('at its start')\n"
        "Late().setServiceParent(application)\n"
    )
    (tmp_path / "quiet.tac").write_text(
        head + "from twisted.application.internet import StreamServerEndpointService\n"
        "from twisted.internet import endpoints, reactor\nfrom twisted.internet.protocol import Factory\n"
        f"where = endpoints.TCP4ServerEndpoint(reactor, {taken.getsockname()[1]}, interface='127.0.0.1')\n"
        "StreamServerEndpointService(where, Factory()).setServiceParent(application)\n"
    )
    (tmp_path / "run0").rmdir()
    text = text.replace(" file ", f" file {tmp_path}/")
    other = listening()
    running = start(text + "\n", ("other", other))
    assert running.wait_exit() == code
    assert said.replace("{folder}", str(tmp_path)) in running.errors


def test_check_and_explain(tmp_path):
    """They make it, and bind nothing; a name that a unit passes and only arguments mention is no disagreement."""
    port = spare_port()
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "irc.socket").write_text("[Socket]\nListenStream=6667\nFileDescriptorName=irc\n")
    (tmp_path / "chat.passwd").write_text("joe:secret\n")
    file = tmp_path / "appd.conf"
    file.write_text(
        "<plugin chat>\n plugin words\n"
        f" arguments --irc-port systemd:domain=INET:name=irc --auth file:{tmp_path}/chat.passwd\n</plugin>\n"
        f"<plugin proxy>\n plugin socks\n arguments --interface 127.0.0.1 --port {port}\n</plugin>\n"
    )
    command = [APPD, "check", str(file), "--units", str(tmp_path / "units")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "good, 2 servers: chat, proxy" in done.stdout


def test_a_socket_section_stands_in(start, tmp_path):
    """Without systemd, a name in the arguments is that of a <socket>."""
    (tmp_path / "chat.passwd").write_text("joe:secret\n")
    path = tmp_path / "irc.sock"
    running = start(
        "<plugin chat>\n plugin words\n"
        f" arguments --irc-port systemd:domain=UNIX:name=irc --auth file:{tmp_path}/chat.passwd\n</plugin>\n"
        f"<socket irc>\n listen {path}\n</socket>\n"
    ).wait_ready()
    assert path.exists()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(b"PASS secret\r\nNICK joe\r\nUSER joe 0 * :Joe\r\n")
        seen, more = b"", b"x"
        while more and b"End of /MOTD" not in seen:
            more = client.recv(4096)
            seen += more
        assert b"End of /MOTD" in seen, seen
    assert "no server has the address systemd:name=irc" not in running.errors
    assert running.stop() == 0
