"""Every kind of socket, passed as systemd passes it, adopted and used by a client; and every refusal."""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
import threading
from typing import Any

import pytest
from support.running import APPD, MADE, ask, datagram, listening, wait_until

ECHO = "<echo all>\n  address systemd:name={}\n</echo>\n"


def exchange(client: socket.socket, address: Any, data: bytes) -> bytes:
    """One datagram there and back."""
    client.settimeout(30)
    client.sendto(data, address)
    return client.recv(65536)


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0))], ids=["INET", "INET6"]
)
def test_streams(start, family, address):
    """A TCP listener is adopted; what is sent comes back whole, 1 MB of it too."""
    passed = listening(family, address)
    start(ECHO.format("e"), ("e", passed)).wait_ready()
    assert ask(passed, b"hello") == b"hello"
    big = os.urandom(1 << 20)
    with socket.socket(family) as client:
        client.settimeout(20)
        client.connect(passed.getsockname())
        threading.Thread(target=lambda: (client.sendall(big), client.shutdown(socket.SHUT_WR)), daemon=True).start()
        assert b"".join(iter(lambda: client.recv(1 << 16), b"")) == big


def test_unix_stream_is_left_as_it_was(start, tmp_path):
    """A UNIX listener keeps path, inode, mode, options and its queue, while appd runs and after it has gone."""
    path = str(tmp_path / "e.sock")
    passed = listening(socket.AF_UNIX, path, backlog=3)
    os.chmod(path, 0o640)
    before = os.lstat(path)
    running = start(ECHO.format("e"), ("e", passed)).wait_ready()
    assert ask(passed, b"over unix") == b"over unix"
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o640
    assert running.stop() == 0
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, before.st_uid)
    # Nobody accepts now: the queue of 3 takes backlog + 1, and the next one would wait. Twisted's listen(50) would show.
    clients = []
    for _ in range(10):
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        clients.append(client)
        try:
            client.connect(path)
        except BlockingIOError:
            break
    assert len(clients) == 5, "the queue of the listener has another length than before"
    for client in clients:
        client.close()


def test_abstract_unix_stream(start):
    """A listener in the abstract namespace goes on listening after appd has gone."""
    passed = listening(socket.AF_UNIX, "\0appd-test-" + os.urandom(4).hex())
    running = start(ECHO.format("e"), ("e", passed)).wait_ready()
    assert ask(passed, b"abstract") == b"abstract"
    assert running.stop() == 0
    client = socket.socket(socket.AF_UNIX)
    client.connect(passed.getsockname())
    client.close()


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0))], ids=["INET", "INET6"]
)
def test_udp(start, family, address):
    """A UDP socket is adopted; the largest datagram comes back whole."""
    passed = datagram(family, address)
    start(ECHO.format("e"), ("e", passed)).wait_ready()
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        assert exchange(client, passed.getsockname(), b"ping") == b"ping"
        big = os.urandom(60000)
        assert exchange(client, passed.getsockname(), big) == big


def test_unix_datagram(start, tmp_path):
    """A UNIX datagram socket is adopted; one without a name of its own is heard and harms nobody."""
    path = str(tmp_path / "d.sock")
    passed = datagram(socket.AF_UNIX, path)
    os.chmod(path, 0o620)
    running = start(ECHO.format("d"), ("d", passed)).wait_ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
        nameless.sendto(b"from nobody", path)
    with datagram(socket.AF_UNIX, str(tmp_path / "client.sock")) as client:
        assert exchange(client, path, b"ping") == b"ping"
        assert exchange(client, path, b"x" * 50000) == b"x" * 50000
    assert running.stop() == 0
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o620


def test_one_name_of_several_sockets(start, tmp_path):
    """Two ListenStream= lines of one unit share a name: both are served, by one server or by position by two."""
    one, two, three = listening(), listening(), listening(socket.AF_UNIX, str(tmp_path / "x.sock"))
    start(ECHO.format("web"), ("web", one), ("web", two), ("web", three)).wait_ready()
    assert [ask(sock, b"x") for sock in (one, two, three)] == [b"x"] * 3


def test_position_and_index(start):
    """`position=` picks one of a name, `index=` one of all, and `domain=` is checked."""
    passed = [("web", listening()), ("web", listening()), ("other", listening())]
    text = """
<echo second>
  address systemd:name=web:position=1
</echo>
<echo first>
  address systemd:domain=INET:index=0
</echo>
<echo third>
  address systemd:index=2
</echo>
"""
    start(text, *passed).wait_ready()
    assert [ask(sock, b"x") for _name, sock in passed] == [b"x"] * 3


def test_without_names(start):
    """systemd-socket-activate without --fdname sets no LISTEN_FDNAMES: index works."""
    passed = listening()
    start("<echo e>\n address systemd:index=0\n</echo>\n", ("", passed), names=False).wait_ready()
    assert ask(passed, b"x") == b"x"


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_accepted_connection(start, tmp_path, kind):
    """Accept=yes passes one connection: it is served, and the process leaves with 0 when it ends."""
    passed = listening() if kind == "tcp" else listening(socket.AF_UNIX, str(tmp_path / "a.sock"))
    client = socket.socket(passed.family)
    client.settimeout(30)
    client.connect(passed.getsockname())
    accepted, _peer = passed.accept()
    running = start(ECHO.format("connection"), ("connection", accepted)).wait_ready()
    accepted.close()
    client.sendall(b"hello")
    assert client.recv(100) == b"hello"
    client.close()
    assert running.wait_exit() == 0


@pytest.mark.parametrize("server", ["echo", "wsgi", "asgi"])
@pytest.mark.parametrize("way", ["end", "reset"])
def test_accepted_connection_that_has_gone(start, tmp_path, server, way):
    """A client that hung up before the process started: it leaves with 0."""
    (tmp_path / "hosted.py").write_text("def app(*_): ...\n")
    passed = listening()
    client = socket.create_connection(passed.getsockname())
    accepted, _peer = passed.accept()
    if way == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    mount = f"<{server}>\n  application hosted:app\n</{server}>"
    http = f"python-path {tmp_path}\n<http web>\n address systemd:name=connection\n {mount}\n</http>\n"
    running = start(ECHO.format("connection") if server == "echo" else http, ("connection", accepted))
    accepted.close()
    assert running.wait_exit() == 0


def test_descriptors_of_another_process(start):
    """LISTEN_PID of somebody else: nothing is inherited."""
    running = start(
        "<echo e>\n address systemd:name=e\n</echo>\n",
        environ={"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "e"},
    )
    assert running.wait_exit() == 78
    assert "nothing was inherited" in running.errors


def test_children_inherit_nothing(start, tmp_path):
    """A child of hosted code has neither the descriptors nor the LISTEN_* variables."""
    (tmp_path / "child.py").write_text(
        "import os, subprocess, sys\n"
        "def make():\n"
        "    code = \"import os; print([k for k in os.environ if k.startswith('LISTEN_')], sorted(os.listdir('/proc/self/fd')))\"\n"
        "    print('child:', subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip())\n"
    )
    text = f"python-path {tmp_path}\napplication-object child:make\n" + ECHO.format("e")
    running = start(text, ("e", listening()), ("more", listening())).wait_ready()
    line = running.wait_said("child:")
    assert "child: [] ['0', '1', '2', '3']" in line  # 3 is the folder that it lists


def seqpacket(tmp_path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    MADE.append(sock)
    sock.bind(str(tmp_path / "seq.sock"))
    sock.listen()
    return sock


def vsock(_tmp_path):
    try:
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        MADE.append(sock)
        sock.bind((socket.VMADDR_CID_ANY, 40000 + os.getpid() % 20000))
        sock.listen()
    except OSError as error:
        pytest.skip(f"no AF_VSOCK here: {error}")
    return sock


def fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    return os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK)


def unbound_stream(_tmp_path):
    sock = socket.socket()
    MADE.append(sock)
    return sock


REFUSED = {
    "seqpacket": (seqpacket, "SOCK_SEQPACKET (ListenSequentialPacket=) is not served"),
    "vsock": (vsock, "AF_VSOCK is not served"),
    "fifo": (fifo, "it is a FIFO, not a socket"),
    "unbound": (unbound_stream, "neither listens nor is connected"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_kinds_that_are_refused(start, tmp_path, kind):
    """What no server type takes ends with 78 and one line that says what it is, before READY=1."""
    make, reason = REFUSED[kind]
    running = start(ECHO.format("e"), ("e", make(tmp_path)))
    assert running.wait_exit() == 78
    assert reason in running.errors and "appd.conf:2: server 'all': " in running.errors
    assert len(running.err) == 1
    # A start that takes its time on a busy machine is extended, without words for people.
    (message,) = [one for one in running.manager.read_all() if "STATUS" in one]
    assert "READY" not in message and reason in message["STATUS"] and message["ERRNO"] == "22"


WRONG_NAMES = {
    "name": ("systemd:name=nope", "no descriptor of that name, inherited: e (stream 127.0.0.1:", "FileDescriptorName="),
    "index": ("systemd:index=1", "no such descriptor, inherited: e (stream", "ListenStream="),
    "position": ("systemd:name=e:position=1", "only 1 of that name", "ListenStream="),
    "domain": ("systemd:domain=UNIX:name=e", "wants UNIX, but descriptor 3 'e' (INET stream", "domain="),
}


@pytest.mark.parametrize("wrong", WRONG_NAMES)
def test_names_that_are_wrong(start, wrong):
    """One line that names the server, its line, what was inherited and the directive to look at."""
    address, *reasons = WRONG_NAMES[wrong]
    running = start(f"<echo all>\n  address {address}\n</echo>\n", ("e", listening()))
    assert running.wait_exit() == 78
    (line,) = running.err
    assert "appd.conf:2: server 'all': " in line and all(reason in line for reason in reasons)


def test_datagram_socket_for_a_stream_server(start, tmp_path):
    """A UDP socket named in <http> is refused, with the directive that makes such sockets."""
    text = f"<http web>\n  address systemd:name=e\n  <static>\n    root {tmp_path}\n  </static>\n</http>\n"
    running = start(text, ("e", datagram()))
    assert running.wait_exit() == 78
    (line,) = running.err
    assert "is a datagram socket, but the server takes stream (ListenStream=)" in line


def test_stream_socket_for_a_datagram_server(start, tmp_path):
    """The reverse, with a server type of another package that takes datagrams alone."""
    site = tmp_path / "site"
    (site / "quiet").mkdir(parents=True)
    (site / "quiet" / "__init__.py").write_text(
        "from twisted.internet.protocol import DatagramProtocol\nfrom appd.servers import ServerType\n"
        "server_type = ServerType(None, 9, datagram=lambda db, settings: DatagramProtocol(), name='quiet')\n"
    )
    (site / "quiet" / "component.xml").write_text(
        "<component><sectiontype name='quiet' implements='appd.server' extends='appd.listener'/></component>"
    )
    info = site / "quiet-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: quiet\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[appd.server_types]\nquiet = quiet:server_type\n")
    environ = {"PYTHONPATH": str(site)}
    running = start("<quiet q>\n address systemd:name=e\n</quiet>\n", ("e", listening()), environ=environ)
    assert running.wait_exit() == 78
    assert "is a stream socket, but the server takes datagram (ListenDatagram=)" in running.errors
    start("<quiet q>\n address systemd:name=e\n</quiet>\n", ("e", datagram()), environ=environ).wait_ready()


def test_two_servers_that_want_one_socket(start):
    """Two servers with the same name: refused with both lines; by name and by index as well."""
    text = "<echo a>\n address systemd:name=e\n</echo>\n<echo b>\n address systemd:name=e\n</echo>\n"
    running = start(text, ("e", listening()))
    assert running.wait_exit() == 78
    assert "appd.conf:5: address systemd:name=e is there twice; the first is at" in running.errors
    running = start(text.replace("name=e", "index=0", 1), ("e", listening()))
    assert running.wait_exit() == 78
    assert "is already served by 'a'" in running.errors


def test_a_socket_that_no_server_claims(start):
    """It is a warning; with strict-sockets on it is an error."""
    passed = ("e", listening()), ("spare", listening())
    running = start(ECHO.format("e"), *passed).wait_ready()
    line = running.wait_said("'spare'")
    assert line.startswith("<4>") and "no server claims it" in line
    running = start("strict-sockets on\n" + ECHO.format("e"), *passed)
    assert running.wait_exit() == 78
    assert "appd.conf:1: " in running.errors and "strict-sockets is on" in running.errors


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"LISTEN_FDS": "x"}, "LISTEN_FDS='x'"),
        ({"LISTEN_FDS": "9"}, "LISTEN_FDS='9'"),
        ({"LISTEN_FDNAMES": "a:b:c"}, "LISTEN_FDNAMES='a:b:c'"),
    ],
)
def test_malformed_variables(start, tmp_path, environ, reason):
    """Variables that contradict each other or the open descriptors: 78 and one line that shows them."""
    script = tmp_path / "garble.py"
    script.write_text(f"import os, sys\nos.environ.update({environ!r})\nos.execv(sys.argv[1], sys.argv[1:])\n")
    file = tmp_path / "appd.conf"
    file.write_text(ECHO.format("e"))
    running = start("", ("e", listening()), command=[sys.executable, str(script), APPD, "run", str(file)])
    assert running.wait_exit() == 78
    assert reason in running.errors and len(running.err) == 1


def test_half_close_is_answered_in_full(start):
    """A client that ends its side at once still gets all of it back."""
    passed = listening()
    start(ECHO.format("e"), ("e", passed)).wait_ready()
    data = os.urandom(300_000)
    assert ask(passed, data) == data


def test_status_follows_the_connections(start):
    """STATUS= counts what is open."""
    passed = listening()
    running = start(ECHO.format("e"), ("e", passed)).wait_ready()
    assert running.manager.messages[-1]["STATUS"] == "serving 1 server, 1 worker, 0 connections"
    with socket.create_connection(passed.getsockname()) as client:
        client.sendall(b"x")
        client.recv(1)
        wait_until(lambda: running.manager.read(0.1) and "1 connection" in running.manager.messages[-1]["STATUS"])
    wait_until(lambda: running.manager.read(0.1) and "0 connections" in running.manager.messages[-1]["STATUS"])
