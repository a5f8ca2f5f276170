"""<dns>: dig and dnsperf, a real appd, and what it asks."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import socket
import struct
import subprocess
import time
from collections import Counter

import pytest
from support.authority import Authority
from support.running import APPD, MADE, datagram, descriptors, listening, read_exactly, wait_until

ROOT = Authority("Root")
ZONE = """
$TTL 3600
@       IN SOA ns hostmaster 1 7200 900 1209600 300
        IN NS  ns
        IN MX  10 mail
ns      IN A   192.0.2.1
        IN AAAA 2001:db8::1
mail    IN A   192.0.2.2
www     IN CNAME web.there
web.there IN A 192.0.2.3
out     IN CNAME www.example.net.
here    IN CNAME nothing
*.wild  IN TXT "any"
a.b.c   IN A   192.0.2.4
sub     IN NS  ns.sub
ns.sub  IN A   192.0.2.5
sub     IN DS  1 8 2 0000000000000000000000000000000000000000000000000000000000000000
moved   IN DNAME new
x.new   IN A   192.0.2.6
odd     IN TYPE65534 \\# 3 abcdef
"""
BIG = "".join(f'big IN TXT "{"x" * 200}{number}"\n' for number in range(30))
MANY = "".join(f"h{number} IN A 198.51.{number // 250}.{number % 250}\n" for number in range(5000))


def pair(address=("127.0.0.1", 0)):
    """UDP and TCP on one port."""
    for _ in range(50):
        udp = datagram(address=address)
        with contextlib.suppress(OSError):
            return udp, listening(address=udp.getsockname())
    raise AssertionError("no port is free for both")


def dns(lines, name="d", *, listen=" address systemd:name=d\n", more=""):
    return f"<dns {name}>\n{listen}{lines}{more}</dns>\n"


class Dig:
    """One answer of dig.

    Args:
        sock: Whom to ask.
        arguments: Further arguments.
    """

    def __init__(self, sock, *arguments, host="127.0.0.1"):
        command = ["dig", f"@{host}", "-p", str(sock.getsockname()[1]), "+tries=3", "+time=15", "+noidnout", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        self.text = done.stdout + done.stderr
        self.status = found[1] if (found := re.search(r"status: (\w+)", self.text)) else ""
        self.flags = found[1].split() if (found := re.search(r";; flags: ([\w ]*);", self.text)) else []
        self.answer = self._section("ANSWER")
        self.authority = self._section("AUTHORITY")
        self.additional = self._section("ADDITIONAL")

    def _section(self, name):
        found = re.search(rf";; {name} SECTION:\n(.*?)\n\n", self.text + "\n\n", re.DOTALL)
        return [" ".join(line.split()) for line in found[1].splitlines()] if found else []


@pytest.fixture
def zone(tmp_path):
    (tmp_path / "example.org.zone").write_text(ZONE + BIG)
    return f" zone example.org {tmp_path}/example.org.zone\n"


@pytest.fixture
def served(start, zone):
    udp, tcp = pair()
    start(dns(zone), ("d", udp), ("d", tcp)).wait_ready()
    return udp


def test_what_the_zone_says(served):
    """Answers, aliases, referrals, wildcards, types that nobody knows, and what is not there: RFC 1034, 4.3.2."""
    found = Dig(served, "ns.example.org", "A")
    assert found.status == "NOERROR" and "aa" in found.flags and found.answer == ["ns.example.org. 3600 IN A 192.0.2.1"]
    found = Dig(served, "EXAMPLE.org", "MX")
    assert found.answer[0].lower() == "example.org. 3600 in mx 10 mail.example.org."
    assert [one.lower() for one in found.additional] == ["mail.example.org. 3600 in a 192.0.2.2"]
    found = Dig(served, "www.example.org", "A")
    assert found.answer == [
        "www.example.org. 3600 IN CNAME web.there.example.org.",
        "web.there.example.org. 3600 IN A 192.0.2.3",
    ]
    assert Dig(served, "www.example.org", "CNAME").answer == ["www.example.org. 3600 IN CNAME web.there.example.org."]
    found = Dig(served, "out.example.org", "A")
    assert found.status == "NOERROR" and found.answer == ["out.example.org. 3600 IN CNAME www.example.net."]
    found = Dig(served, "here.example.org", "A")
    assert found.status == "NXDOMAIN" and len(found.answer) == 1 and " SOA " in found.authority[0]
    found = Dig(served, "deep.sub.example.org", "A")
    assert "aa" not in found.flags and found.authority == ["sub.example.org. 3600 IN NS ns.sub.example.org."]
    assert found.additional == ["ns.sub.example.org. 3600 IN A 192.0.2.5"]
    assert "aa" in Dig(served, "sub.example.org", "DS").flags
    assert Dig(served, "x.y.wild.example.org", "TXT").answer == ['x.y.wild.example.org. 3600 IN TXT "any"']
    assert Dig(served, "odd.example.org", "TYPE65534").answer[0].endswith("TYPE65534 \\# 3 ABCDEF")
    assert Dig(served, "x.moved.example.org", "A").answer == [
        "moved.example.org. 3600 IN DNAME new.example.org.",
        "x.moved.example.org. 3600 IN CNAME x.new.example.org.",
        "x.new.example.org. 3600 IN A 192.0.2.6",
    ]
    assert Dig(served, ".".join(["a" * 60] * 3) + ".moved.example.org", "A").status == "NXDOMAIN"
    assert len(Dig(served, "example.org", "ANY", "+notcp").answer) == 1


def test_what_is_not_there(served):
    """With the SOA, and no longer than its minimum: RFC 2308; what stands between names exists."""
    soa = "example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 900 1209600 300"
    for name, kind, status in (
        ("nothing.example.org", "A", "NXDOMAIN"),
        ("ns.example.org", "TXT", "NOERROR"),
        ("b.c.example.org", "A", "NOERROR"),
        ("wild.example.org", "TXT", "NOERROR"),
        ("x.b.c.example.org", "TXT", "NXDOMAIN"),
    ):
        found = Dig(served, name, kind)
        assert (found.status, found.answer, found.authority) == (status, [], [soa]), name
    assert Dig(served, "www.example.com", "A").status == "REFUSED"
    assert Dig(served, "version.bind", "TXT", "CH").status == "REFUSED"


def test_edns_and_what_is_too_large(served):
    """512 bytes without EDNS, 1232 with it, all by TCP, which dig turns to; another version of EDNS is none."""
    found = Dig(served, "big.example.org", "TXT", "+ignore", "+noedns")
    assert "tc" in found.flags and found.answer == []
    found = Dig(served, "big.example.org", "TXT", "+ignore", "+bufsize=65535")
    assert "tc" in found.flags
    found = Dig(served, "big.example.org", "TXT")
    assert len(found.answer) == 30 and "tc" not in found.flags
    found = Dig(served, "ns.example.org", "A", "+bufsize=4096", "+dnssec")
    assert re.search(r"EDNS: version: 0, flags: do; udp: 1232", found.text)
    assert Dig(served, "ns.example.org", "A", "+edns=1", "+noednsneg").status == "BADVERS"
    assert "OPT PSEUDOSECTION" not in Dig(served, "ns.example.org", "A", "+noedns").text
    assert Dig(served, "ns.example.org", "A", "+opcode=NOTIFY").status == "NOTIMP"


def test_transfers(start, tmp_path):
    """Refused to everybody; whole to those who may, the SOA first and last."""
    (tmp_path / "z").write_text(ZONE + MANY)
    zone = f" zone example.org {tmp_path}/z\n"
    udp, tcp = pair()
    other, other_tcp = pair()
    start(
        dns(zone) + dns(zone, "e", listen=" address systemd:name=e\n", more=" transfer 127.0.0.0/8\n"),
        ("d", udp),
        ("d", tcp),
        ("e", other),
        ("e", other_tcp),
    ).wait_ready()
    assert "Transfer failed" in Dig(udp, "example.org", "AXFR").text
    text = Dig(other, "example.org", "AXFR").text
    records = [line for line in text.splitlines() if line and not line.startswith(";")]
    assert len(records) > 5010 and " SOA" in records[0].replace("\t", " ") and records[0] == records[-1]
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    MADE.append(client)
    client.settimeout(30)
    client.sendto(query("example.org", 252), other.getsockname())
    assert client.recv(512)[3] & 15 == 5
    # Several at a time on one connection: one after the other, and what was asked behind them is answered.
    with socket.create_connection(other_tcp.getsockname(), timeout=30) as stream:
        for number, kind in ((1, 252), (2, 252), (3, 252), (4, 6)):
            asked = query("example.org", kind, number)
            stream.sendall(struct.pack("!H", len(asked)) + asked)
        stream.shutdown(socket.SHUT_WR)
        data = b"".join(iter(lambda: stream.recv(65536), b""))
    seen = Counter()
    while data:
        (length,) = struct.unpack_from("!H", data)
        number, count = struct.unpack_from("!H4xH", data, 2)
        seen[number] += count
        data = data[2 + length :]
    assert seen[1] == seen[2] == seen[3] == len(records) and seen[4] == 1


def test_over_tls(start, zone, tmp_path):
    """RFC 7858, with the name checked, if this dig can."""
    ROOT.issue("localhost").write(tmp_path / "site.pem")
    ROOT.write(tmp_path / "ca.pem")
    sock = listening()
    start(
        dns(zone, listen=f" tls-address systemd:name=d\n <tls>\n  certificate {tmp_path}/site.pem\n </tls>\n"),
        ("d", sock),
    ).wait_ready()
    found = Dig(sock, "+tls", f"+tls-ca={tmp_path}/ca.pem", "+tls-hostname=localhost", "big.example.org", "TXT")
    assert len(found.answer) == 30, found.text


def query(name, kind=1, number=7, flags=0x0100):
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split(".") if one)
    return struct.pack("!6H", number, flags, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)


def test_streams_take_many_queries(served):
    """One after the other without waiting, in pieces of any size; the end of the client's side is not the end of ours."""
    with socket.create_connection(served.getsockname(), timeout=30) as client:
        data = b"".join(
            struct.pack("!H", len(one)) + one
            for one in (query("ns.example.org", number=number) for number in range(300))
        )
        for place in range(0, len(data), 37):
            client.sendall(data[place : place + 37])
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    numbers = []
    while answer:
        length = int.from_bytes(answer[:2], "big")
        numbers.append(int.from_bytes(answer[2:4], "big"))
        answer = answer[2 + length :]
    assert numbers == list(range(300))


def test_a_thousand_connections(start, zone):
    """At one time, each answered."""
    with descriptors(4096):
        tcp = listening(backlog=1024)
        start(dns(zone), ("d", tcp)).wait_ready()
        clients = [socket.create_connection(tcp.getsockname(), timeout=60) for _ in range(1000)]
        MADE.extend(clients)
        for number, client in enumerate(clients):
            one = query("ns.example.org", number=number)
            client.sendall(struct.pack("!H", len(one)) + one)
        for number, client in enumerate(clients):
            assert int.from_bytes(read_exactly(client, 4)[2:4], "big") == number


def test_garbage(start, zone):
    """No answer, FORMERR, or an end of the connection; and it serves on."""
    udp, tcp = pair()
    running = start(dns(zone), ("d", udp), ("d", tcp)).wait_ready()
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    MADE.append(client)
    client.connect(udp.getsockname())
    client.settimeout(30)
    generator = random.Random(3)
    good = query("ns.example.org")
    for _ in range(300):
        bad = bytearray(good)
        for _ in range(generator.randrange(1, 6)):
            bad[generator.randrange(len(bad))] = generator.randrange(256)
        client.send(bytes(bad[: generator.randrange(len(bad) + 1)]) or b"x")
    client.send(b"x" * 60000)
    client.send(struct.pack("!6H", 9, 0x8100, 1, 0, 0, 0))  # a response: answering it would go on for ever
    for data in (b"\0\1x", b"\0\0", b"\xff\xff" + b"x" * 65535):
        with socket.create_connection(tcp.getsockname(), timeout=30) as stream, contextlib.suppress(ConnectionError):
            stream.sendall(data)
            with contextlib.suppress(OSError):  # shutdown(2) says ENOTCONN after a reset
                stream.shutdown(socket.SHUT_WR)
            while stream.recv(65536):
                pass
    assert Dig(udp, "ns.example.org", "A").answer
    assert "Traceback" not in running.errors and "failed" not in running.errors


def test_rates(start, zone):
    """Beyond the limit every second response is only cut, and none is longer than its query by much; the trusted are served."""
    udp, tcp = pair()
    start(dns(zone, more=" trusted unix\n response-rate 5\n"), ("d", udp), ("d", tcp)).wait_ready()
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    MADE.append(client)
    client.connect(udp.getsockname())
    client.settimeout(30)
    began, whole, cut = time.monotonic(), 0, 0
    for number in range(60):
        client.send(query("ns.example.org", number=number))
    with contextlib.suppress(TimeoutError):
        while True:
            answer = client.recv(4096)
            cut += bool(answer[2] & 2)
            whole += not answer[2] & 2
            took = time.monotonic() - began
            client.settimeout(2)
    # The limit is one of each second: a machine that is slow answers some more of them.
    assert 5 <= whole <= 15 + 5 * int(took)
    dropped = 60 - whole - cut
    assert abs(dropped - cut) <= 1 + int(took)
    assert Dig(udp, "ns.example.org", "A", "+tcp").answer


def test_forwarding(start, zone):
    """For trusted clients who ask for it: answers, denials, what is cut, from the cache with less of its time; else refused."""
    inner_udp, inner_tcp = pair()
    udp, tcp = pair()
    strict, strict_tcp = pair()
    port = inner_udp.getsockname()[1]
    running = start(
        dns(zone, "inner", listen=" address systemd:name=i\n")
        + dns(f" forward 127.0.0.1:{port}\n")
        + dns(f" forward 127.0.0.1:{port}\n trusted 192.0.2.0/24\n", "s", listen=" address systemd:name=s\n"),
        ("i", inner_udp), ("i", inner_tcp), ("d", udp), ("d", tcp), ("s", strict), ("s", strict_tcp),
    ).wait_ready()  # fmt: skip
    first = Dig(udp, "ns.example.org", "A")
    assert first.answer == ["ns.example.org. 3600 IN A 192.0.2.1"] and "ra" in first.flags and "aa" not in first.flags
    assert Dig(udp, "nothing.example.org", "A").status == "NXDOMAIN"
    assert len(Dig(udp, "big.example.org", "TXT").answer) == 30
    assert Dig(strict, "ns.example.org", "A").status == "REFUSED"
    assert Dig(udp, "ns.example.org", "A", "+norecurse").status == "REFUSED"
    time.sleep(1.1)
    again = Dig(udp, "ns.example.org", "A")
    assert 3500 < int(again.answer[0].split()[1]) < 3600
    assert not [one for one in running.err if "_Asked" in one], "a query is no line of the log"
    assert "Traceback" not in running.errors


def test_nobody_answers(start):
    """The next one is asked; when none answers, SERVFAIL and a line in the log."""
    mute, dead = datagram(), datagram()
    gone = dead.getsockname()[1]
    dead.close()
    udp, tcp = pair()
    running = start(
        dns(f" forward 127.0.0.1:{gone}\n forward 127.0.0.1:{mute.getsockname()[1]}\n forward-timeout 300ms\n"),
        ("d", udp),
        ("d", tcp),
    ).wait_ready()
    assert Dig(udp, "x.example", "A").status == "SERVFAIL"
    running.wait_said("does not answer")
    assert mute.recv(512)


def test_who_refuses_costs_no_time(start, zone):
    """The next one is asked at once, not after forward-timeout."""
    dead = datagram()
    gone = dead.getsockname()[1]
    dead.close()
    inner, inner_tcp = pair()
    udp, tcp = pair()
    upstreams = f" forward 127.0.0.1:{gone}\n forward 127.0.0.1:{inner.getsockname()[1]}\n forward-timeout 10m\n"
    running = start(
        dns(zone, "inner", listen=" address systemd:name=i\n") + dns(upstreams),
        ("i", inner), ("i", inner_tcp), ("d", udp), ("d", tcp),
    ).wait_ready()  # fmt: skip
    assert Dig(udp, "ns.example.org", "A").answer == ["ns.example.org. 3600 IN A 192.0.2.1"]
    running.wait_said(f"127.0.0.1 port {gone} does not answer: ")


def test_who_is_silent_is_asked_last(start, zone):
    """Else each question would wait for him."""
    mute = datagram()
    inner, inner_tcp = pair()
    udp, tcp = pair()
    upstreams = f" forward 127.0.0.1:{mute.getsockname()[1]}\n forward 127.0.0.1:{inner.getsockname()[1]}\n"
    running = start(
        dns(zone, "inner", listen=" address systemd:name=i\n") + dns(upstreams + " forward-timeout 500ms\n"),
        ("i", inner), ("i", inner_tcp), ("d", udp), ("d", tcp),
    ).wait_ready()  # fmt: skip
    for name in ("ns", "mail", "web.there"):
        assert Dig(udp, f"{name}.example.org", "A").status == "NOERROR"
    running.wait_said("does not answer: nothing within 0.5 s")
    mute.setblocking(False)
    assert b"\2ns" in mute.recv(512)
    with pytest.raises(BlockingIOError):
        mute.recv(512)


def test_reload_reads_the_zone_anew(start, zone, tmp_path):
    """A serial that has risen is served; a file that is wrong is refused with its line, and the old one serves on."""
    udp, tcp = pair()
    control = str(tmp_path / "control")
    start(dns(zone), ("d", udp), ("d", tcp), arguments=("--control", control)).wait_ready()
    file = tmp_path / "example.org.zone"

    def reload():
        return subprocess.run(
            [APPD, "reload", "--socket", control], capture_output=True, text=True, timeout=60, check=False
        )

    file.write_text(ZONE.replace("hostmaster 1 ", "hostmaster 2 "))
    assert reload().returncode == 0
    wait_until(lambda: " 2 7200" in Dig(udp, "example.org", "SOA").answer[0])
    file.write_text(ZONE + "broken IN A not-an-address\n")
    done = reload()
    assert done.returncode == 78 and "zone example.org." in done.stderr + done.stdout
    assert " 2 7200" in Dig(udp, "example.org", "SOA").answer[0]


def test_a_drain_answers_what_was_asked(start, tmp_path):
    """A long transfer goes on to its end; an idle connection ends."""
    (tmp_path / "z").write_text(ZONE + MANY)
    udp, tcp = pair()
    running = start(
        dns(f" zone example.org {tmp_path}/z\n transfer 127.0.0.0/8\n"), ("d", udp), ("d", tcp)
    ).wait_ready()
    idle = socket.create_connection(tcp.getsockname(), timeout=30)
    MADE.append(idle)
    client = socket.socket()
    MADE.append(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect(tcp.getsockname())
    one = query("example.org", 252)
    client.sendall(struct.pack("!H", len(one)) + one)
    first = client.recv(100)
    running.process.send_signal(signal.SIGTERM)
    assert idle.recv(1) == b""
    rest = first + b"".join(iter(lambda: client.recv(65536), b""))
    count = 0
    while rest:
        length = int.from_bytes(rest[:2], "big")
        count += int.from_bytes(rest[8:10], "big")
        rest = rest[2 + length :]
    assert count > 5010
    assert running.wait_exit() == 0


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "<dns> knows nothing: add a zone, or forward"),
        (" zone example.org\n", "is not ORIGIN PATH"),
        (" zone example.org /nonexistent\n", "zone example.org.: cannot read /nonexistent: No such file or directory"),
        (" zone example.org {}/nosoa\n", "zone example.org.: "),
        (" forward localhost\n", "'localhost' is not an IP address"),
        (" forward 127.0.0.1:0\n", "is not an IP address"),
        (" forward 127.0.0.1\n response-size 100\n", "512 bytes"),
        (" forward 127.0.0.1\n trusted 10.0.0.1/8\n", "is neither a network"),
    ],
)
def test_what_makes_no_sense(start, tmp_path, lines, said):
    """78, with the line."""
    (tmp_path / "nosoa").write_text("$TTL 60\n@ IN NS ns\n")
    running = start(dns(lines.format(tmp_path), listen=" address udp:127.0.0.1:0\n"))
    assert running.wait_exit() == 78
    assert said in running.errors and "Traceback" not in running.errors


def test_dnsperf(start, zone, tmp_path):
    """Some seconds of load over UDP and TCP: nothing is lost and nothing is wrong."""
    udp, tcp = pair()
    start(dns(zone), ("d", udp), ("d", tcp)).wait_ready()
    (tmp_path / "queries").write_text("ns.example.org A\nwww.example.org A\nnothing.example.org A\nexample.org MX\n")
    for mode in ("udp", "tcp"):
        load = ("-s", "127.0.0.1", "-p", str(udp.getsockname()[1]), "-d", str(tmp_path / "queries"), "-m", mode)
        done = subprocess.run(
            ["dnsperf", *load, "-l", "2", "-c", "10", "-q", "50", "-t", "20"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert re.search(r"Queries lost: +0 ", done.stdout), done.stdout
        codes = re.search(r"Response codes: +(.*)", done.stdout)[1]
        assert set(re.findall(r"([A-Z]+) \d+", codes)) == {"NOERROR", "NXDOMAIN"}
