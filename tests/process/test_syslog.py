"""<syslog>: real senders, a real appd."""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import signal
import socket
import ssl
import subprocess
import time

import pytest
from support.authority import Authority
from support.running import MADE, datagram, descriptors, listening, wait_until

ROOT = Authority("Root")
SYSLOG = "<log>\n format json\n</log>\n<syslog s>\n address systemd:name=s\n{}</syslog>\n"


def entries(running, **wanted):
    """The entries that have these fields."""
    found = []
    for line in list(running.err):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if all(entry.get(name) == value for name, value in wanted.items()):
            found.append(entry)
    return found


def entry(running, text):
    """The one entry with that text."""
    found = wait_until(lambda: entries(running, MESSAGE=text), explain=lambda: running.errors)
    assert len(found) == 1
    return found[0]


def logger(*arguments):
    subprocess.run(["logger", *arguments], check=True, timeout=60)


def test_logger_by_every_way(start, tmp_path):
    """util-linux's logger: UDP, TCP both ways of framing, UNIX datagrams; RFC 5424 and RFC 3164."""
    udp, tcp, unix = datagram(), listening(), datagram(socket.AF_UNIX, str(tmp_path / "log"))
    running = start(SYSLOG.format(""), ("s", udp), ("s", tcp), ("s", unix)).wait_ready()
    over_udp = ("--server", "127.0.0.1", "--port", str(udp.getsockname()[1]), "--udp")
    over_tcp = ("--server", "127.0.0.1", "--port", str(tcp.getsockname()[1]), "--tcp")
    logger(
        *over_udp,
        "-t",
        "one",
        "-p",
        "local3.warning",
        "--msgid",
        "M1",
        "--sd-id",
        "x@1",
        "--sd-param",
        'k="v"',
        "by udp",
    )
    found = entry(running, "by udp")
    assert (found["SYSLOG_IDENTIFIER"], found["SYSLOG_FACILITY"], found["PRIORITY"]) == ("one", 19, 4)
    assert (found["SYSLOG_MSGID"], found["SYSLOG_SD_X_1_K"], found["APPD_PEER"]) == ("M1", "v", "127.0.0.1")
    assert found["SYSLOG_HOSTNAME"] and found["SYSLOG_TIMESTAMP"]
    logger(*over_udp, "--rfc3164", "-t", "two", "--id=77", "by udp, old")
    found = entry(running, "by udp, old")
    assert (found["SYSLOG_IDENTIFIER"], found["SYSLOG_PID"], found["PRIORITY"]) == ("two", "77", 5)
    logger(*over_tcp, "-t", "three", "by tcp")
    logger(*over_tcp, "--octet-count", "-t", "four", "by tcp, counted")
    assert entry(running, "by tcp")["SYSLOG_IDENTIFIER"] == "three"
    assert entry(running, "by tcp, counted")["SYSLOG_IDENTIFIER"] == "four"
    logger("--socket", str(tmp_path / "log"), "-t", "five", "by path")
    assert entry(running, "by path")["SYSLOG_IDENTIFIER"] == "five"
    assert "APPD_PEER" not in entry(running, "by path")


def test_pythons_own_sender(start):
    """logging.handlers.SysLogHandler: a NUL at the end, over UDP and TCP."""
    udp, tcp = datagram(), listening()
    running = start(SYSLOG.format(""), ("s", udp), ("s", tcp)).wait_ready()
    for sock, kind, text in ((udp, socket.SOCK_DGRAM, "one"), (tcp, socket.SOCK_STREAM, "two")):
        handler = logging.handlers.SysLogHandler(sock.getsockname(), socktype=kind)
        handler.emit(logging.LogRecord("x", logging.ERROR, "", 0, text, (), None))
        assert entry(running, text)["PRIORITY"] == 3
        handler.close()


def test_over_tls(start, tmp_path):
    """RFC 5425."""
    ROOT.issue("localhost").write(tmp_path / "site.pem")
    ROOT.write(tmp_path / "ca.pem")
    sock = listening()
    running = start(
        "<log>\n format json\n</log>\n<syslog s>\n tls-address systemd:name=s\n"
        f" <tls>\n  certificate {tmp_path}/site.pem\n </tls>\n</syslog>\n",
        ("s", sock),
    ).wait_ready()
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    plain = socket.create_connection(sock.getsockname(), timeout=30)
    with context.wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(b"19 <13>1 - - b - - - ")
        client.sendall(b"x")
        client.sendall(b"14 <13>a: secret!")
        assert entry(running, "secret!")["SYSLOG_IDENTIFIER"] == "a"


def test_what_is_too_long_or_malformed(start):
    """The beginning is kept and says how long it was; a length that is none ends the connection, and the rest serves."""
    udp, tcp = datagram(), listening()
    running = start(SYSLOG.format(" message-size 480\n"), ("s", udp), ("s", tcp)).wait_ready()
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    MADE.append(client)
    client.sendto(b"<13>a: " + b"x" * 60000, udp.getsockname())
    assert entry(running, "x" * 473)["APPD_CUT"] == 60007
    for bad in (b"481 <13>x", b"99999999999", b"1x"):
        with socket.create_connection(tcp.getsockname(), timeout=30) as stream:
            stream.sendall(b"<13>a: before " + bad[:2] + b"\n" + bad)
            with contextlib.suppress(ConnectionResetError):  # what it has not read of that
                assert stream.recv(1) == b""
        assert entry(running, "before " + bad[:2].decode())
    running.wait_said("the connection ends")
    client.sendto(bytes(range(256)), udp.getsockname())
    client.sendto(b"<13>b: still there", udp.getsockname())
    assert entry(running, "still there")
    assert "Traceback" not in running.errors


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_in_a_reload(start, tmp_path, workers):
    """A stream that goes on while generations change: what was sent whole has arrived, in order for each connection."""
    tcp = listening()
    running = start(
        f"workers {workers}\n" + SYSLOG.format(""), ("s", tcp), arguments=("--control", str(tmp_path / "control"))
    ).wait_ready()
    sent = 0
    from support.running import APPD

    reload = None
    ends = time.monotonic() + 20
    while sent < 3000 and time.monotonic() < ends:
        with socket.create_connection(tcp.getsockname(), timeout=30) as client:
            for _ in range(100):
                client.sendall(b"<13>n: %d.\n" % sent)
                sent += 1
        if sent == 1000:
            reload = subprocess.Popen([APPD, "reload", "--socket", str(tmp_path / "control")])
    assert reload is not None and reload.wait(30) == 0
    wait_until(lambda: len({one["MESSAGE"] for one in entries(running, SYSLOG_IDENTIFIER="n")}) == sent, 30)


def test_a_drain_waits_for_a_lull(start):
    """Who is silent is let go; who is in the middle of a message may finish it."""
    tcp = listening()
    running = start(SYSLOG.format(""), ("s", tcp)).wait_ready()
    silent, busy = (socket.create_connection(tcp.getsockname(), timeout=30) for _ in range(2))
    MADE.extend((silent, busy))
    silent.sendall(b"<13>a: one\n")
    busy.sendall(b"<13>a: be")
    entry(running, "one")
    running.process.send_signal(signal.SIGTERM)
    assert silent.recv(1) == b""
    busy.sendall(b"gun\n")
    assert busy.recv(1) == b""
    assert running.wait_exit() == 0
    assert entry(running, "begun")


def test_a_thousand_senders(start):
    """Each with a connection of its own, that stays."""
    with descriptors(4096):
        tcp = listening(backlog=1024)
        running = start(SYSLOG.format(""), ("s", tcp)).wait_ready()
        clients = [socket.create_connection(tcp.getsockname(), timeout=30) for _ in range(1000)]
        MADE.extend(clients)
        for number, client in enumerate(clients):
            client.sendall(b"<13>k: %d.\n" % number)
        wait_until(lambda: len(entries(running, SYSLOG_IDENTIFIER="k")) == 1000, 30)
