"""<limits> of stream servers: real connections, a real appd."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time

import pytest
from support.authority import Authority
from support.running import MADE, listening, read_exactly, spare_port, wait_until

ROOT = Authority("Root")

ECHO = "<echo e>\n address systemd:name=e\n <limits>\n  {}\n </limits>\n</echo>\n"
# Says nothing and takes nothing in; what Twisted binds is limited like the rest.
QUIET = """
from twisted.internet.protocol import Factory, Protocol
class Quiet(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello")
def factory():
    return Factory.forProtocol(Quiet)
"""


def connect(listener):
    client = socket.socket(listener.family)
    MADE.append(client)
    client.settimeout(30)
    client.connect(listener.getsockname())
    return client


def answered(client, data=b"x"):
    """Whether it is served: echoes."""
    client.sendall(data)
    return read_exactly(client, len(data)) == data


def is_silent(client, seconds=0.3):
    return not select.select([client], [], [], seconds)[0]


@pytest.fixture
def sock():
    return listening()


def test_more_than_connections_wait(start, sock):
    """They wait in the queue, are served when there is room, and a stop is not held up."""
    running = start(ECHO.format("connections 2"), ("e", sock)).wait_ready()
    first, second = connect(sock), connect(sock)
    assert answered(first) and answered(second)
    third = connect(sock)
    third.sendall(b"waits")
    assert is_silent(third)
    running.wait_said("2 connections are open (connections); more wait")
    first.close()
    assert read_exactly(third, 5) == b"waits"
    assert answered(second) and answered(third)
    assert running.stop() == 0


def test_one_too_many_from_a_peer(start, sock, tmp_path):
    """Is closed at once; other peers are served, those of UNIX sockets have no address."""
    unix = listening(socket.AF_UNIX, str(tmp_path / "s"))
    running = start(ECHO.format("connections-per-peer 2"), ("e", sock), ("e", unix)).wait_ready()
    first, second = connect(sock), connect(sock)
    assert answered(first) and answered(second)
    assert connect(sock).recv(1) == b""
    other = socket.socket()
    MADE.append(other)
    other.settimeout(30)
    other.bind(("127.0.0.2", 0))
    other.connect(sock.getsockname())
    assert answered(other)
    assert all(answered(connect(unix)) for _ in range(4))
    running.wait_said("more than 2 connections (connections-per-peer) from 127.0.0.1")
    first.close()

    def admitted():
        client = connect(sock)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # closed before it was read
            return answered(client)

    wait_until(admitted)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_idle_ends_and_busy_stays(start, tmp_path, family):
    """By bytes in either direction."""
    listener = listening(family, str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0))
    start(ECHO.format("idle-timeout 2s"), ("e", listener)).wait_ready()
    idle, busy = connect(listener), connect(listener)
    began = time.monotonic()
    assert answered(idle)
    while is_silent(idle, 0.1):
        assert answered(busy)
        assert time.monotonic() - began < 25
    assert idle.recv(1) == b"" and time.monotonic() - began >= 1.99
    assert answered(busy)


def test_a_reader_that_takes_nothing_is_idle(start, sock):
    """What is kept for it does not keep it."""
    start(ECHO.format("idle-timeout 600ms"), ("e", sock)).wait_ready()
    client = connect(sock)
    client.setblocking(False)
    ended = time.monotonic() + 30
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        while time.monotonic() < ended:
            select.select([], [client], [], 0.2)
            try:
                client.send(b"x" * 65536)
            except BlockingIOError:
                time.sleep(0.05)


def test_idle_over_tls_ends_with_a_word(start, sock, tmp_path):
    """close_notify: the client knows that nothing is missing. A handshake that is not done has its own deadline."""
    ROOT.issue("localhost").write(tmp_path / "site.pem")
    ROOT.write(tmp_path / "ca.pem")
    (tmp_path / "quiet.py").write_text(QUIET)
    start(
        f"python-path {tmp_path}\n<server q>\n type quiet:factory\n tls-address systemd:name=e\n"
        f" <tls>\n  certificate {tmp_path}/site.pem\n </tls>\n"
        " <limits>\n  idle-timeout 5s\n  handshake-timeout 4s\n </limits>\n</server>\n",
        ("e", sock),
    ).wait_ready()
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    mute = connect(sock)
    with context.wrap_socket(connect(sock), server_hostname="localhost", suppress_ragged_eofs=False) as client:
        assert client.recv(100) == b"hello"
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert mute.recv(1) == b""
        assert client.recv(1) == b"" and time.monotonic() - began >= 2


def test_what_twisted_binds(start, tmp_path):
    """A description of Twisted's: idle connections end, and peers are counted."""
    (tmp_path / "quiet.py").write_text(QUIET)
    port = spare_port()
    running = start(
        f"python-path {tmp_path}\n<server q>\n type quiet:factory\n address haproxy:tcp:{port}:interface=127.0.0.1\n"
        " <limits>\n  idle-timeout 3s\n </limits>\n</server>\n"
    ).wait_ready()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"PROXY UNKNOWN\r\n")
        assert client.recv(100) == b"hello"
        assert client.recv(1) == b""
    assert running.stop() == 0


def test_what_a_type_has_no_use_for(start, tmp_path):
    """Is refused, with the line and what there is."""
    (tmp_path / "quiet.py").write_text(QUIET)
    text = f"python-path {tmp_path}\n" + "".join(
        f"<{section}>\n{line} address 127.0.0.1:0\n <limits>\n  {key} 5\n </limits>\n</{section.split()[0]}>\n"
        for section, line, key in (
            ("echo a", "", "login-timeout"),
            ("server b", " type echo\n", "body-size"),
            ("server c", " type quiet:factory\n", "queue"),
        )
    )
    running = start(text)
    assert running.wait_exit() == 78
    has = "connections, connections-per-peer, handshake-timeout, idle-timeout"
    assert f"server 'a': login-timeout is no limit of <echo>, which has {has}" in running.errors
    running = start(
        text.replace(
            "<echo a>\n address 127.0.0.1:0\n <limits>\n  login-timeout 5",
            "<echo a>\n address 127.0.0.1:0\n <limits>\n  connections 5",
        )
    )
    assert running.wait_exit() == 78
    assert f"server 'b': body-size is no limit of type echo, which has {has}" in running.errors
    assert f"server 'c': queue is no limit of type quiet:factory, which has {has}" in running.errors
