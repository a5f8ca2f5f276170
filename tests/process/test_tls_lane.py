"""What TLS adds to a driver: handshakes that do not come to an end, what is there before TLS, what OpenSSL keeps.

The same tests on both, with the same application: on the lane, and on the loop, which has connections of TLS where a
server speaks HTTP/2.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.authority import Authority
from support.running import Running, listening, read_to, wait_until
from support.talking import Talker

ROOT = Authority("Root")
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/peer":
        keys = ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme", "HTTPS", "SSL_PROTOCOL", "SSL_TLS_SNI", "appd.peer_uid")
        return [repr({key: environ.get(key) for key in keys}).encode()]
    return [environ["wsgi.input"].read()]
"""
PEER = b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# How many clients break off; all of them in `make test-all`.
MANY = 10_000 if int(os.environ.get("APPD_TEST_SECONDS", "0")) > 60 else 1000


class Served:
    """A running server."""

    def __init__(self, running: Running, sock: socket.socket, driver: str) -> None:
        self.running = running
        self.sock = sock
        self.driver = driver

    @property
    def pid(self) -> int:
        return self.running.process.pid

    def plain(self) -> socket.socket:
        client = socket.socket(self.sock.family)
        client.settimeout(30)
        client.connect(self.sock.getsockname())
        return client

    def connect(self, client: socket.socket | None = None, **settings: Any) -> Talker:
        context = ssl.create_default_context(cadata=ROOT.pem.decode())
        for name, value in settings.items():
            setattr(context, name, value)
        return Talker(client or self.plain(), context)

    def ask(self, data: bytes = LAST) -> bytes:
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)

    def sockets(self) -> int:
        """How many sockets the process has."""
        found = 0
        for one in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found += os.readlink(one).startswith("socket:")
        return found

    def memory(self) -> int:
        """The resident memory in KB."""
        return int(Path(f"/proc/{self.pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def read_all(client: Any) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.fixture(params=["lane", "loop"])
def serve(start: Callable[..., Running], tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Served]:
    (tmp_path / "hosted.py").write_text(APPLICATION)
    ROOT.issue("localhost").write(tmp_path / "site.pem")

    def make(more: str = "", tls: str = "", sock: socket.socket | None = None) -> Served:
        sock = sock or listening(backlog=1024)
        more += "\n  http2 on" if request.param == "loop" else ""
        text = (
            f"python-path {tmp_path}\n<http web>\n  tls-address systemd:name=web\n{more}\n  <tls>\n"
            f"    certificate {tmp_path}/site.pem\n{tls}\n  </tls>\n  <wsgi>\n    application hosted:application\n  </wsgi>\n"
            f"  <static>\n    path /static\n    root {tmp_path}\n  </static>\n</http>\n"
        )
        return Served(start(text, ("web", sock), arguments=("--single",)).wait_ready(), sock, request.param)

    return make


def hello() -> bytes:
    """What a client begins with."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("part", ["nothing", "half", "byte by byte", "all of it"])
def test_a_handshake_that_never_ends(serve, part):
    """Its deadline is absolute; nothing is said, and others are served meanwhile."""
    served = serve("  <limits>\n    handshake-timeout 3s\n  </limits>")
    began = time.monotonic()
    client = served.plain()
    data = {"nothing": b"", "half": hello()[:100], "all of it": hello()}.get(part, b"")
    client.sendall(data)
    assert b"200 OK" in served.ask()
    if part == "byte by byte":
        client.settimeout(0.05)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for byte in hello() * 10:
                client.send(bytes([byte]))
                time.sleep(0.02)
    else:
        with contextlib.suppress(ConnectionResetError):
            read_all(client)
    assert 2.9 < time.monotonic() - began < 25
    client.close()


def test_handshakes_that_are_broken_off(serve):
    """Thousands, at each stage and by reset too: no socket, hardly any memory and not a line of the journal is left."""
    served = serve()
    first = hello()
    kinds = [b"", first[:50], first, first[:5] + b"\0" * 300, b"\x16\x03\x01\xff\xff" + b"x" * 100, b"\x80garbage"]

    def break_off(count: int) -> None:
        for number in range(count):
            with served.plain() as client:
                client.sendall(kinds[number % len(kinds)])
                if number % 4 == 0:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    break_off(200)
    assert b"200 OK" in served.ask()
    wait_until(lambda: served.sockets() < 12, 30)
    before, sockets, lines = served.memory(), served.sockets(), len(served.running.err)
    break_off(MANY)
    assert b"200 OK" in served.ask()
    wait_until(lambda: served.sockets() <= sockets, 30)
    assert len(served.running.err) == lines, served.running.errors
    assert served.memory() - before < 6000
    assert served.running.stop() == 0


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "PATCH"])
def test_plain_http(serve, method):
    """Of any method: it is told in its own language, over TCP."""
    with serve().plain() as client:
        client.sendall(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        said = read_all(client)
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert said.endswith(b"use https:// with it\n")


@pytest.mark.parametrize("how", ["whole", "byte by byte", "in one packet with the handshake"])
def test_the_proxy_protocol(serve, how):
    """Before TLS, whole and in pieces, and with the handshake behind it in the same packet."""
    served = serve("  trusted 127.0.0.1\n  proxy-protocol on")
    header = b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 443\r\n"
    plain = served.plain()
    if how == "in one packet with the handshake":
        plain = Ahead(plain, header)
    else:
        for piece in [header] if how == "whole" else [header[i : i + 1] for i in range(len(header))]:
            plain.sendall(piece)
    with served.connect(plain) as client:
        client.sendall(LAST)
        found = eval(read_all(client).partition(b"\r\n\r\n")[2])
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"], found["HTTPS"]) == ("192.0.2.9", "4711", "on")


class Ahead:
    """A socket whose first bytes go out together with something in front."""

    def __init__(self, sock: socket.socket, header: bytes) -> None:
        self._sock = sock
        self._header = header

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        header, self._header = self._header, b""
        self._sock.sendall(header + data)


def test_no_header_where_there_has_to_be_one(serve):
    """A handshake that begins at once ends the connection."""
    served = serve("  trusted 127.0.0.1\n  proxy-protocol on")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        served.connect()


def test_limits_of_connections(serve):
    """One too many of a peer is closed without a word; beyond `connections` they wait."""
    served = serve("  <limits>\n    connections-per-peer 1\n  </limits>")
    with served.connect() as first:
        first.sendall(PEER)
        assert b"200 OK" in read_to(first, b"\r\n\r\n")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            served.connect()
    wait_until(lambda: _serves(served))


def _serves(served: Served) -> bool:
    try:
        return b"200 OK" in served.ask()
    except (ssl.SSLError, ConnectionError):
        return False


def test_unix(serve, tmp_path):
    """Over a UNIX socket; who is there is known as without TLS."""
    served = serve(sock=listening(socket.AF_UNIX, str(tmp_path / "x.sock")))
    found = eval(served.ask().partition(b"\r\n\r\n")[2])
    assert found["appd.peer_uid"] == os.geteuid()
    assert (found["wsgi.url_scheme"], found["HTTPS"], found["SSL_TLS_SNI"]) == ("https", "on", "localhost")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_many_records(serve, tmp_path, version):
    """100 KB both ways and files, in both versions; several requests in a record, a request in several records."""
    served = serve()
    only = getattr(ssl.TLSVersion, version)
    (tmp_path / "large").write_bytes(os.urandom(3_000_000))
    body = os.urandom(100_000)
    with served.connect(minimum_version=only, maximum_version=only) as client:
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        for _round in range(3):
            client.sendall(head + body)
            assert read_sized(client, 100_000).endswith(body)
        for byte in PEER:
            client.sendall(bytes([byte]))
        assert b"200 OK" in read_to(client, b"\r\n\r\n")
        client.sendall(b"GET /static/large HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + LAST)
        said = read_all(client)
    assert said.count((tmp_path / "large").read_bytes()) == 2
    assert said.count(b"HTTP/1.1 200 OK") == 3


def read_sized(client: Any, size: int) -> bytes:
    data = b""
    while len(data.partition(b"\r\n\r\n")[2]) < size:
        part = client.recv(65536)
        assert part
        data += part
    return data


def test_keys_that_change(serve):
    """KeyUpdate of TLS 1.3, asked for between requests (K of s_client), is answered and nothing is lost."""
    served = serve()
    address = f"127.0.0.1:{served.sock.getsockname()[1]}"
    command = ["openssl", "s_client", "-connect", address, "-tls1_3", "-crlf"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert client.stdin is not None and client.stdout is not None
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.extend(iter(lambda: client.stdout.read1(65536), b"")))
    reader.start()
    for number in range(1, 4):
        for text in (b"K\n", PEER.replace(b"\r\n", b"\n")):
            client.stdin.write(text)
            client.stdin.flush()
            if text == b"K\n":
                # A command of s_client is a command only as all that it reads at a time.
                wait_until(lambda wanted=number: b"".join(said).count(b"KEYUPDATE") >= wanted)
        wait_until(lambda wanted=number: b"".join(said).count(b"HTTP/1.1 200 OK") >= wanted)
    client.kill()
    reader.join(30)
    client.communicate()


def test_the_end_is_said(serve):
    """close_notify in both directions: after `Connection: close`, at an idle connection, after the client's own.

    asyncio's TLS is over in both directions when the client ends its own (RFC 8446, 6.1, lets the other go on).
    """
    served = serve("  <limits>\n    idle-timeout 3s\n  </limits>")
    with served.connect() as client:
        client.sendall(LAST)
        assert b"200 OK" in read_all(client)  # a Talker takes an end without close_notify for an error
    with served.connect() as client:
        assert read_all(client) == b""
    with served.connect() as client:
        client.sendall(PEER * 3)
        client.shutdown(socket.SHUT_WR)
        said = read_all(client)
    assert served.driver == "loop" or said.count(b"200 OK") == 3


def test_a_client_that_is_cut_off_in_the_middle(serve):
    """Without close_notify it is a break: what it has begun is not answered, and nothing is logged but for debugging."""
    served = serve()
    client = served.connect()
    client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    client.__exit__()
    assert b"200 OK" in served.ask()
    wait_until(lambda: served.sockets() < 12)
    assert "Traceback" not in served.running.errors


def test_a_stop_waits_for_nobody_who_does_not_listen(serve):
    """Clients that are idle and do not look do not answer a close_notify; what was asked for before is sent first."""
    served = serve(sock=listening(backlog=50))
    # The first is accepted by the time that the others are.
    with served.plain() as silent, served.connect() as idle, served.connect() as asked:
        idle.sendall(PEER)
        assert b"200 OK" in read_to(idle, b"\r\n\r\n")
        asked.sendall(PEER)
        began = time.monotonic()
        assert served.running.stop() == 0
        assert time.monotonic() - began < 25
        assert b"200 OK" in read_to(asked, b"\r\n\r\n")
        assert silent.recv(1) == b""


def test_a_stop_does_not_wait_for_who_has_just_shaken_hands(serve):
    """A handshake may end; who says nothing then is idle as any other."""
    served = serve()
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cadata=ROOT.pem.decode()).wrap_bio(coming, going, server_hostname="localhost")
    with served.plain() as plain:
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        plain.sendall(going.read())
        coming.write(plain.recv(65536))
        served.running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: any("STOPPING" in one for one in served.running.manager.read_all()))
        client.do_handshake()
        plain.sendall(going.read())
        # The drain itself may last for 30 s.
        assert served.running.wait_exit(20) == 0


def test_a_slow_reader_of_the_last_answer(serve, tmp_path):
    """All of it arrives, although the connection has ended on the server's side long before."""
    served = serve()
    (tmp_path / "large").write_bytes(os.urandom(12_000_000))
    with served.connect() as client:
        client.sendall(b"GET /static/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        for _ in range(4):
            # Longer than it takes to look whether a client is there.
            time.sleep(1.2)
            data += client.recv(65536)
        assert (data + read_all(client)).endswith((tmp_path / "large").read_bytes())


def test_a_session_is_resumed(serve):
    """By a ticket, in both versions; the identity of the client stays known."""
    served = serve()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cadata=ROOT.pem.decode())
        context.minimum_version = context.maximum_version = version
        session = None
        for reused in (False, True):
            with context.wrap_socket(served.plain(), server_hostname="localhost", session=session) as client:
                client.sendall(PEER)
                assert b"200 OK" in client.recv(65536)
                session = client.session
                assert client.session_reused is reused


def test_the_memory_of_a_connection(serve):
    """Idle connections that have shaken hands cost some 20 KB each, and those that have said nothing hardly any.

    On the loop it is 50: uvloop's protocol has buffers besides.
    """
    served = serve()
    served.ask()
    before = served.memory()
    silent = [served.plain() for _ in range(200)]
    wait_until(lambda: served.sockets() > 200)
    assert served.memory() - before < 200 * 8
    between = served.memory()
    talking = [served.connect() for _ in range(100)]
    for one in talking:
        one.sendall(PEER)
        one.recv(65536)
    assert served.memory() - between < 100 * (45 if served.driver == "lane" else 70)
    for one in [*silent, *talking]:
        one.close()


@pytest.mark.parametrize("name", [b"\xff\xfe\xfdalhost", b"local\xc3\xa4st"[:9], b"loc%\nhost"])
def test_a_name_that_is_no_text(serve, name):
    """Anybody may send anything: that client is refused, or gets the default, and nothing is written of it."""
    served = serve()
    said = hello()
    assert said.count(b"localhost") == 1
    for _ in range(3):
        with served.plain() as client:
            client.sendall(said.replace(b"localhost", name))
            assert client.recv(1) in (b"\x15", b"\x16", b"")
    assert b"200 OK" in served.ask()
    served.running.stop()
    assert not [line for line in served.running.err if line.startswith("<3>") or "Traceback" in line]
