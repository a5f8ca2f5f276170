"""<datagram>: hosted protocols on inherited sockets."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest
from support.running import MADE, datagram, wait_until

HOSTED = """
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer
from appd.interfaces import IDatagramBatches

class Upper(DatagramProtocol):
    def __init__(self, greeting="", times: int = 1):
        self.greeting, self.times = greeting, times
    def datagramReceived(self, datagram, address):
        if datagram == b"fail":
            raise ValueError("theirs")
        self.transport.write(self.greeting.encode() + datagram.upper() * self.times, address)

@implementer(IDatagramBatches)
class Counts(DatagramProtocol):
    def datagramsReceived(self, datagrams):
        for datagram, address in datagrams:
            self.transport.write(b"%d" % len(datagrams), address)

def nothing():
    return None
"""
GROUP, GROUP6 = "239.255.77.12", "ff12::4242"


@pytest.fixture
def hosted(tmp_path):
    (tmp_path / "theirs.py").write_text(HOSTED)
    return f"python-path {tmp_path}\n"


def section(lines, listen=" address systemd:name=d\n"):
    return f"<datagram d>\n{listen}{lines}</datagram>\n"


def client(family=socket.AF_INET, path=None):
    made = socket.socket(family, socket.SOCK_DGRAM)
    MADE.append(made)
    made.settimeout(30)
    if path is not None:
        made.bind(path)
    return made


def test_every_kind_of_socket(start, hosted, tmp_path):
    """UDP over both families and UNIX datagrams; options become arguments; what fails is logged and ends nothing."""
    sockets = [
        datagram(),
        datagram(socket.AF_INET6, ("::1", 0)),
        datagram(socket.AF_UNIX, str(tmp_path / "s")),
    ]
    text = hosted + section(" protocol theirs:Upper\n <options>\n  greeting >\n  times 2\n </options>\n")
    running = start(text, *(("d", one) for one in sockets)).wait_ready()
    for one in sockets:
        asks = client(one.family, str(tmp_path / "c") if one.family == socket.AF_UNIX else None)
        asks.sendto(b"fail", one.getsockname()[:2] if one.family != socket.AF_UNIX else one.getsockname())
        asks.sendto(b"ab", one.getsockname()[:2] if one.family != socket.AF_UNIX else one.getsockname())
        assert asks.recv(100) == b">ABAB"
    running.wait_said("ValueError: theirs")
    assert running.stop() == 0


def test_multicast(start, hosted):
    """An inherited socket is in the group, and still is when the service has gone; a second start finds it so."""
    sock = datagram(address=("", 0))
    text = hosted + section(f" protocol theirs:Upper\n group {GROUP} lo\n")
    asks = client()
    asks.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    target = (GROUP, sock.getsockname()[1])
    for _ in range(2):
        running = start(text, ("d", sock)).wait_ready()
        asks.sendto(b"hello", target)
        assert asks.recv(100) == b"HELLO"
        assert running.stop() == 0
    asks.sendto(b"wakes", target)
    sock.settimeout(30)
    assert sock.recv(100) == b"wakes"


def test_multicast_of_ipv6(start, hosted):
    """The kernel lists the membership; loopback has no route by which one could send there."""
    sock = datagram(socket.AF_INET6, ("::", 0))
    start(hosted + section(f" protocol theirs:Upper\n group {GROUP6} lo\n"), ("d", sock)).wait_ready()
    members = Path("/proc/net/igmp6").read_text().splitlines()
    assert any(line.split()[1:3] == ["lo", ipaddress.ip_address(GROUP6).packed.hex()] for line in members)


def test_batches(start, hosted):
    """A protocol that takes several at a time gets what has come, at most `batch`."""
    sock = datagram()
    asks = client()
    asks.bind(("127.0.0.1", 0))
    for _ in range(100):
        asks.sendto(b"x", sock.getsockname())
    start(hosted + section(" protocol theirs:Counts\n batch 8\n"), ("d", sock)).wait_ready()
    sizes = [int(asks.recv(10)) for _ in range(100)]
    assert max(sizes) == 8 and sizes[0] <= 8


def test_oversized(start, hosted):
    """What is as long as UDP carries comes whole; an answer that is longer is the protocol's failure, and it serves on."""
    sock = datagram()
    running = start(hosted + section(" protocol theirs:Upper\n <options>\n  times 2\n </options>\n"), ("d", sock))
    running.wait_ready()
    asks = client()
    asks.sendto(b"x" * 65000, sock.getsockname())
    running.wait_said("message too long")
    asks.sendto(b"x" * 30000, sock.getsockname())
    assert asks.recv(65536) == b"X" * 60000


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "<datagram> needs 'protocol'"),
        (" protocol theirs:missing\n", "theirs"),
        (" protocol theirs:nothing\n", "which is no DatagramProtocol"),
        (" protocol theirs:Upper\n <options>\n  wrong 1\n </options>\n", "wrong"),
        (" protocol theirs:Upper\n group 192.0.2.1\n", "is no multicast group"),
        (" protocol theirs:Upper\n group ff02::1 lo\n", "no socket of its can join group ff02::1 lo"),
        (
            " protocol theirs:Upper\n group 239.1.1.1 nosuchif0\n",
            "cannot join group 239.1.1.1 nosuchif0: No such device",
        ),
    ],
)
def test_what_makes_no_sense(start, hosted, lines, said):
    """One line, with its place."""
    running = start(hosted + section(lines), ("d", datagram()))
    assert running.wait_exit() in (78, 69)
    assert said in running.errors
    wait_until(lambda: "Traceback" not in running.errors)
