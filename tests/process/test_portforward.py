"""<portforward>: real clients, a real appd, and what it forwards to."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest
from support.authority import Authority
from support.running import APPD, MADE, descriptors, listening, read_exactly, read_to, refusing_port, wait_until

from appd.http.core.proxyprotocol import read_proxy_header

ROOT = Authority("Root")


class Upstream:
    """Something to forward to: each connection is given to a function, in a thread.

    Args:
        serve: Called with the connection.
        family: AF_INET or AF_UNIX.
        address: Where.
        context: TLS.
    """

    def __init__(self, serve, family=socket.AF_INET, address=("127.0.0.1", 0), context=None):
        self.socket = listening(family, address, backlog=1024)
        self.context = context
        self.serve = serve
        self.first = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def where(self):
        name = self.socket.getsockname()
        return name if isinstance(name, str) else f"{name[0]}:{name[1]}"

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            if self.context is not None:
                with self.context.wrap_socket(connection, server_side=True) as secured:
                    self.serve(secured)
                    if secured.fileno() >= 0:
                        secured.unwrap()  # close_notify: without it the end is a break
                return
            self.serve(connection)


def echo(connection):
    """Sends back what comes, to the end."""
    while data := connection.recv(65536):
        connection.sendall(data)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def digest(connection):
    """Reads to the end of what the client says, and only then answers: needs half-closed connections."""
    seen = hashlib.sha256()
    while data := connection.recv(65536):
        seen.update(data)
    connection.sendall(seen.hexdigest().encode())


def section(to, more="", listen="address systemd:name=p"):
    return f"<portforward p>\n {listen}\n {to}\n{more}</portforward>\n"


def connect(sock, timeout=30):
    client = socket.socket(sock.family)
    MADE.append(client)
    client.settimeout(timeout)
    client.connect(sock.getsockname())
    return client


def rest(client):
    """What comes to the end."""
    return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.fixture
def pems(tmp_path):
    folder = tmp_path / "pems"
    folder.mkdir()
    ROOT.write(folder / "ca.pem")
    ROOT.issue("localhost").write(folder / "site.pem")
    Authority("Other").issue("localhost").write(folder / "stranger.pem")
    return folder


def server_context(pems, name="site.pem"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pems / name)
    return context


@pytest.mark.parametrize("inside", [socket.AF_INET, socket.AF_UNIX])
@pytest.mark.parametrize("outside", [socket.AF_INET, socket.AF_UNIX])
def test_half_close_and_every_byte(start, tmp_path, inside, outside):
    """The end of one direction is passed on, the other goes on; 8 MB arrive as they were sent."""
    upstream = Upstream(digest, outside, str(tmp_path / "u") if outside == socket.AF_UNIX else ("127.0.0.1", 0))
    sock = listening(inside, str(tmp_path / "p") if inside == socket.AF_UNIX else ("127.0.0.1", 0))
    running = start(section(f"to {upstream.where}"), ("p", sock)).wait_ready()
    data = os.urandom(8 * 1024**2)
    client = connect(sock)
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    assert rest(client) == hashlib.sha256(data).hexdigest().encode()
    assert len(running.err) < 10, "a connection is no line of the log"
    assert running.stop() == 0


def test_tls_both_ways(start, pems):
    """Plain to TLS, TLS to plain, TLS to TLS, with the end of each direction passed on as far as TLS has it."""
    over_tls, plain = Upstream(digest, context=server_context(pems)), Upstream(digest)
    port = over_tls.socket.getsockname()[1]
    tls = f" <tls>\n  certificate {pems}/site.pem\n </tls>\n"
    client_tls = f" <client-tls>\n  ca {pems}/ca.pem\n </client-tls>\n"
    first, second, third = listening(), listening(), listening()
    start(
        f"<portforward a>\n address systemd:name=a\n tls-to localhost:{port}\n{client_tls}</portforward>\n"
        f"<portforward b>\n tls-address systemd:name=b\n to {plain.where}\n{tls}</portforward>\n"
        f"<portforward c>\n tls-address systemd:name=c\n tls-to localhost:{port}\n{tls}{client_tls}</portforward>\n",
        ("a", first),
        ("b", second),
        ("c", third),
    ).wait_ready()
    # The end comes before the handshake with the other end is done.
    client = connect(first)
    client.sendall(b"x")
    client.shutdown(socket.SHUT_WR)
    assert rest(client).decode() == hashlib.sha256(b"x").hexdigest()
    data = os.urandom(1024**2)
    expected = hashlib.sha256(data).hexdigest()
    client = connect(first)
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    assert rest(client).decode() == expected
    for sock in (second, third):
        context = ssl.create_default_context(cafile=str(pems / "ca.pem"))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        wrapped = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        client = connect(sock)
        assert _tls_exchange(client, wrapped, incoming, outgoing, data).decode() == expected


def _tls_exchange(client, wrapped, incoming, outgoing, data):
    """Sends, says close_notify, and reads to the other's: Python's sockets cannot do this."""

    def step(do):
        while True:
            try:
                return do()
            except ssl.SSLWantReadError:
                client.sendall(outgoing.read())
                more = client.recv(65536)
                incoming.write(more) if more else incoming.write_eof()
            finally:
                client.sendall(outgoing.read())

    step(wrapped.do_handshake)
    step(lambda: wrapped.write(data))
    with contextlib.suppress(ssl.SSLError):
        wrapped.unwrap()
    client.sendall(outgoing.read())
    answer = b""
    with contextlib.suppress(ssl.SSLZeroReturnError):  # their close_notify, after ours
        while more := step(lambda: wrapped.read(65536)):
            answer += more
    return answer


def test_who_is_not_trusted_gets_nothing(start, pems):
    """A certificate of somebody else's: the client is cut, and the log says why."""
    got = []
    upstream = Upstream(
        lambda connection: got.append(connection.recv(100)), context=server_context(pems, "stranger.pem")
    )
    sock = listening()
    running = start(
        section(
            f"tls-to localhost:{upstream.socket.getsockname()[1]}",
            f" <client-tls>\n  ca {pems}/ca.pem\n </client-tls>\n",
        ),
        ("p", sock),
    ).wait_ready()
    client = connect(sock)
    client.sendall(b"secret")
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    running.wait_said("is not reached")
    assert got in ([], [b""])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_proxy_header(start, version, tmp_path, pems):
    """Says who is connected, before everything else, TLS included; for UNIX peers that nobody knows."""
    seen = []

    def read(connection):
        data, proxied = b"", None
        while proxied is None or len(data) == proxied.used:
            more = connection.recv(65536)
            assert more, data
            data += more
            proxied = read_proxy_header(data)
        seen.append((proxied, data[proxied.used :]))
        connection.sendall(b"ok")

    upstream = Upstream(read)
    tcp, unix = listening(), listening(socket.AF_UNIX, str(tmp_path / "p"))
    start(section(f"to {upstream.where}", f" proxy-protocol {version}\n"), ("p", tcp), ("p", unix)).wait_ready()
    client = connect(tcp)
    assert client.send(b"x") and read_exactly(client, 2) == b"ok"
    proxied, _after = seen.pop()
    assert proxied.source == client.getsockname() and proxied.target == tcp.getsockname()
    client = connect(unix)
    assert client.send(b"x") and read_exactly(client, 2) == b"ok"
    assert seen.pop()[0].source is None


def test_proxy_header_before_tls(start, pems):
    """As HAProxy has it."""
    context = server_context(pems)

    def read(connection):
        header = b""
        while not header.endswith(b"\r\n"):
            header += connection.recv(1)
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(header + secured.recv(100))

    upstream = Upstream(read)
    sock = listening()
    more = f" proxy-protocol v1\n <client-tls>\n  ca {pems}/ca.pem\n </client-tls>\n"
    start(section(f"tls-to localhost:{upstream.socket.getsockname()[1]}", more), ("p", sock)).wait_ready()
    client = connect(sock)
    client.sendall(b"hello")
    assert read_to(client, b"\r\n").startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")


def test_back_pressure(start):
    """Who takes nothing is sent no more than the buffers hold: the memory of the process does not grow."""
    taken = threading.Event()

    def slow(connection):
        taken.wait(30)
        echo(connection)

    upstream = Upstream(slow)
    sock = listening()
    start(section(f"to {upstream.where}"), ("p", sock)).wait_ready()
    client = connect(sock)
    client.settimeout(1)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 256 * 1024**2:
            sent += client.send(b"x" * 65536)
    assert sent < 64 * 1024**2
    taken.set()
    got = 0
    client.settimeout(30)
    client.shutdown(socket.SHUT_WR)
    while more := client.recv(262144):
        got += len(more)
    assert got == sent


def test_nobody_there(start):
    """Refused, or not in time: the client is cut, one line says why, and the next is tried anew."""
    where = f"127.0.0.1:{refusing_port()}"
    sock = listening()
    running = start(section(f"to {where}"), ("p", sock)).wait_ready()
    for _ in range(3):
        with pytest.raises(ConnectionResetError):
            connect(sock).recv(1)
    running.wait_said(f"{where} is not reached")
    assert len([one for one in running.err if "is not reached" in one]) == 1
    # A queue that is full answers nobody.
    full = socket.socket()
    MADE.append(full)
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    waiting = [socket.socket() for _ in range(3)]
    MADE.extend(waiting)
    for one in waiting:
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            one.connect(full.getsockname())
    other = listening()
    running = start(
        section(f"to 127.0.0.1:{full.getsockname()[1]}", " connect-timeout 300ms\n"), ("p", other)
    ).wait_ready()
    began = time.monotonic()
    with pytest.raises(ConnectionResetError):
        connect(other).recv(1)
    assert time.monotonic() - began >= 0.25
    running.wait_said("is not reached")


SIOCOUTQ = 0x5411


def unsent(sock):
    """How many bytes the kernel of the peer has not acknowledged."""
    return struct.unpack("i", fcntl.ioctl(sock.fileno(), SIOCOUTQ, bytes(4)))[0]


def cut(connection):
    """Ends a connection by a reset; over TLS without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())


def ends_by(client):
    """How a stream ends that is read to its end: `end`, or `break`."""
    try:
        while client.recv(65536):
            pass
    except (ConnectionResetError, ssl.SSLEOFError):
        return "break"
    return "end"


class Path:
    """A client, appd, and what it forwards to, with TLS on none, one or both of the ways.

    Args:
        start: The fixture.
        pems: Certificates.
        serve: What the other end does.
        ways: `plain`, or which of them have TLS: `in`, `out`, `in and out`.
    """

    def __init__(self, start, pems, serve, ways):
        self._over_tls = "in" in ways.split()
        out = "out" in ways.split()
        upstream = Upstream(serve, context=server_context(pems) if out else None)
        self._sock = listening()
        port = upstream.socket.getsockname()[1]
        to = f"tls-to localhost:{port}" if out else f"to 127.0.0.1:{port}"
        more = f" <client-tls>\n  ca {pems}/ca.pem\n </client-tls>\n" if out else ""
        more += f" <tls>\n  certificate {pems}/site.pem\n </tls>\n" if self._over_tls else ""
        kind = "tls-address" if self._over_tls else "address"
        start(section(to, more, f"{kind} systemd:name=p"), ("p", self._sock)).wait_ready()
        self._context = ssl.create_default_context(cafile=str(pems / "ca.pem"))

    def connect(self, receives=None):
        """A client, with a receive buffer of so many bytes."""
        client = socket.socket()
        MADE.append(client)
        if receives is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        client.settimeout(30)
        client.connect(self._sock.getsockname())
        if self._over_tls:
            client = self._context.wrap_socket(client, server_hostname="localhost", suppress_ragged_eofs=False)
            MADE.append(client)
        return client


WAYS = pytest.mark.parametrize("ways", ["plain", "in", "out", "in and out"])


@WAYS
def test_a_reset_of_the_other_end_is_passed_on(start, pems, ways):
    """Behind all that came before it, however slow the client takes that."""
    sent = 1024**2
    acknowledged = threading.Event()

    def serve(connection):
        connection.sendall(b"x" * sent)
        wait_until(lambda: not unsent(connection))
        acknowledged.set()
        cut(connection)

    client = Path(start, pems, serve, ways).connect(receives=8192)
    got = 0
    while not acknowledged.is_set() and got < sent:
        # What appd and the kernels do not hold has to be taken before the rest can be sent.
        got += len(client.recv(4096))
        acknowledged.wait(0.001)
    assert acknowledged.wait(30)
    while got < sent:
        data = client.recv(min(65536, sent - got))
        assert data, f"a clean end after {got} bytes"
        got += len(data)
    assert ends_by(client) == "break"


@WAYS
def test_a_reset_of_the_client_is_passed_on(start, pems, ways):
    """The other end does not take what came of an upload for the whole of it."""
    ended = []

    def serve(connection):
        if isinstance(connection, ssl.SSLSocket):
            connection.suppress_ragged_eofs = False
        connection.sendall(read_exactly(connection, 5))
        ended.append(ends_by(connection))

    client = Path(start, pems, serve, ways).connect()
    client.sendall(b"hello")
    assert read_exactly(client, 5) == b"hello"
    cut(client)
    wait_until(lambda: ended)
    assert ended == ["break"]


@pytest.mark.parametrize("how", ["close_notify", "nothing"])
@pytest.mark.parametrize("ways", ["out", "in and out"])
def test_an_end_without_close_notify_is_a_break(start, pems, ways, how):
    """Anybody on the way can make one (RFC 8446, 6.1)."""

    def serve(connection):
        connection.sendall(read_exactly(connection, 5))
        connection.recv(1)  # the client goes on when it has all
        if how == "nothing":
            os.close(connection.detach())

    client = Path(start, pems, serve, ways).connect()
    client.sendall(b"hello")
    assert read_exactly(client, 5) == b"hello"
    client.sendall(b"!")
    assert ends_by(client) == ("end" if how == "close_notify" else "break")


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_a_long_transfer(start, tmp_path, how):
    """Goes on to its end while a reload, or a stop with time enough, waits for it."""
    upstream = Upstream(echo)
    sock = listening()
    control = str(tmp_path / "control")
    running = start(
        "drain-timeout 60s\n" + section(f"to {upstream.where}"), ("p", sock), arguments=("--control", control)
    ).wait_ready()
    client = connect(sock)
    client.sendall(b"first")
    assert read_exactly(client, 5) == b"first"
    if how == "reload":
        assert subprocess.run([APPD, "reload", "--socket", control], timeout=60, check=False).returncode == 0
        other = connect(sock)
        other.sendall(b"new")
        assert read_exactly(other, 3) == b"new"
        other.close()
    else:
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: any("STOPPING" in one for one in running.manager.read_all()))
    total = hashlib.sha256()
    back = hashlib.sha256()
    for number in range(64):
        data = bytes([number]) * 65536
        total.update(data)
        client.sendall(data)
        left = len(data)
        while left:
            got = client.recv(left)
            assert got
            back.update(got)
            left -= len(got)
    assert back.digest() == total.digest()
    client.close()
    if how == "restart":
        assert running.wait_exit() == 0


def test_a_drain_ends_at_its_time_out(start):
    """What is still open then is cut, on both sides."""
    ended = []
    upstream = Upstream(lambda connection: (echo(connection), ended.append(True)))
    sock = listening()
    running = start("drain-timeout 500ms\n" + section(f"to {upstream.where}"), ("p", sock)).wait_ready()
    client = connect(sock)
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    assert running.stop() == 0
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    running.wait_said("cut")


def test_a_thousand_connections(start):
    """At one time, each with its own."""
    with descriptors(8192):
        upstream = Upstream(echo)
        sock = listening(backlog=1024)
        start(section(f"to {upstream.where}"), ("p", sock)).wait_ready()
        clients = [connect(sock, 30) for _ in range(1000)]
        for number, client in enumerate(clients):
            client.sendall(b"%04d" % number)
        for number, client in enumerate(clients):
            assert read_exactly(client, 4) == b"%04d" % number


@pytest.mark.parametrize(
    ("to", "more", "said"),
    [
        ("", "", "<portforward> needs to or tls-to, one of them"),
        ("to 127.0.0.1:1", " tls-to 127.0.0.1:1\n", "<portforward> needs to or tls-to, one of them"),
        ("to 8080", "", "'8080' is nothing to connect to"),
        ("to udp:127.0.0.1:53", "", "is nothing to connect to"),
        ("to 127.0.0.1:1", " <client-tls>\n </client-tls>\n", "nothing uses <client-tls>"),
        ("tls-to /run/x.sock", "", "tls-to with a path needs the server-name"),
        ("to 127.0.0.1:1", " proxy-protocol v3\n", "'v3' is not one of off, v1, v2"),
    ],
)
def test_what_makes_no_sense(start, to, more, said):
    """78, with the line."""
    running = start(section(to, more, "address 127.0.0.1:0"))
    assert running.wait_exit() == 78
    assert said in running.errors and "Traceback" not in running.errors
