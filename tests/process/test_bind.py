"""Sockets that appd makes itself: --bind, <socket>, and plain addresses."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from support.running import APPD, ask, listening, read_exactly, spare_port, wait_until

ECHO = "<echo e>\n  address systemd:name=e\n</echo>\n"


def bound(running) -> list[str]:
    """The real addresses of the start-up record."""
    line = running.wait_said("Address: ")
    return re.findall(r"(\S+) \(systemd", line)


def tcp(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":")
    return host.strip("[]"), int(port)


def test_bind_of_every_kind(start, tmp_path):
    """--bind is repeatable, for one name too: TCP, IPv6, UNIX and UDP."""
    path = tmp_path / "e.sock"
    arguments = ("--bind", "e=127.0.0.1:0", "--bind", "e=[::1]:0", "--bind", f"e={path}", "--bind", "e=udp:127.0.0.1:0")
    running = start(ECHO, arguments=arguments).wait_ready()
    four, six, unix, udp = bound(running)
    assert ask(tcp(four), b"4") == b"4"
    assert ask(tcp(six), b"6", socket.AF_INET6) == b"6"
    assert unix == str(path) and ask(unix, b"u", socket.AF_UNIX) == b"u"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        client.sendto(b"d", tcp(udp))
        assert client.recv(10) == b"d"
    assert running.stop() == 0 and not path.exists()


def test_a_bare_port_is_dual_stack(start):
    """`address 0`: IPv6 and IPv4, as ListenStream=PORT is."""
    running = start("<echo e>\n address 0\n</echo>\n").wait_ready()
    port = int(re.search(r"Address: \[::\]:(\d+)", running.wait_said("Address: "))[1])
    assert ask(("127.0.0.1", port), b"4") == b"4"
    assert ask(("::1", port), b"6", socket.AF_INET6) == b"6"


def test_socket_section(start, tmp_path):
    """<socket> says what a .socket unit would: addresses, mode, group, backlog; the case of its name is kept."""
    path = tmp_path / "s.sock"
    text = (
        f"<socket Web>\n listen {path}\n listen 127.0.0.1:0\n mode 0620\n group {os.getgid()}\n backlog 3\n</socket>\n"
        "<echo e>\n address systemd:name=Web\n</echo>\n"
    )
    running = start(text).wait_ready()
    unix, four = bound(running)
    assert stat.S_IMODE(os.lstat(unix).st_mode) == 0o620
    assert ask(unix, b"u", socket.AF_UNIX) == b"u" and ask(tcp(four), b"4") == b"4"


def test_ipv6_only(start):
    """bind-ipv6-only ipv6-only: the port is free for IPv4, and may be another test's by now; so the kernel is asked."""
    text = "<socket e>\n listen [::]:0\n bind-ipv6-only ipv6-only\n</socket>\n" + ECHO
    running = start(text).wait_ready()
    _host, port = tcp(bound(running)[0])
    assert ask(("::1", port), b"6", socket.AF_INET6) == b"6"
    told = subprocess.run(["ss", "-H6ltne", f"sport = :{port}"], capture_output=True, text=True, check=True)
    assert " v6only:1 " in f"{told.stdout} "


def test_bind_overrides_socket_section(start):
    """--bind wins over <socket> of the same name."""
    text = "<socket e>\n listen /nowhere/at/all.sock\n</socket>\n" + ECHO
    running = start(text, arguments=("--bind", "e=127.0.0.1:0")).wait_ready()
    assert ask(tcp(bound(running)[0]), b"x") == b"x"


def test_an_inherited_socket_wins(start):
    """What systemd passed is used; --bind of that name is a warning, <socket> is what the unit is described by."""
    passed = listening()
    text = "<socket e>\n listen 127.0.0.1:0\n</socket>\n" + ECHO
    running = start(text, ("e", passed), arguments=("--bind", "e=127.0.0.1:0")).wait_ready()
    assert ask(passed, b"x") == b"x"
    assert running.wait_said("--bind e=127.0.0.1:0").startswith("<4>")


def test_names_that_nobody_wants(start):
    """A --bind or <socket> without a server is a warning."""
    text = "<socket spare>\n listen 127.0.0.1:0\n</socket>\n<echo e>\n address 127.0.0.1:0\n</echo>\n"
    running = start(text, arguments=("--bind", "other=127.0.0.1:0")).wait_ready()
    assert running.wait_said("no server has the address systemd:name=other").startswith("<4>")
    assert running.wait_said("<socket spare>").startswith("<4>")


def test_backlog(start):
    """`backlog` counts for what appd binds, and is a warning for what was passed."""
    running = start("<echo e>\n address systemd:name=e\n backlog 9\n</echo>\n", ("e", listening())).wait_ready()
    line = running.wait_said("backlog 9 does not count")
    assert line.startswith("<4>") and "appd.conf:3" in line and "Backlog=" in line


def test_twisted_endpoint(start):
    """Any other description is Twisted's: its own `tcp:` behind the PROXY protocol wrapper."""
    text = "<echo e>\n address haproxy:tcp:0:interface=127.0.0.1\n</echo>\n"
    running = start(text).wait_ready()
    port = int(re.search(r"port=(\d+)", running.wait_said("Address: "))[1])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhello")
        assert client.recv(10) == b"hello"
    assert running.stop() == 0


def test_twisted_endpoint_over_a_reload(start, tmp_path):
    """What Twisted binds is kept as what appd binds: nobody is refused, and who is connected stays so."""
    port = spare_port()
    control, greeting = str(tmp_path / "control"), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
    text = f"<echo e>\n address haproxy:tcp:{port}:interface=127.0.0.1\n</echo>\n"
    running = start(text, arguments=("--control", control)).wait_ready()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stays:
        stays.sendall(greeting + b"before")
        assert read_exactly(stays, 6) == b"before"
        for _ in range(2):
            subprocess.run([APPD, "reload", "--socket", control], check=True, timeout=60, capture_output=True)
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                client.sendall(greeting + b"hello")
                assert read_exactly(client, 5) == b"hello"
    Path(running.manager.path).with_name("appd.conf").write_text("<echo e>\n address 127.0.0.1:0\n</echo>\n")
    subprocess.run([APPD, "reload", "--socket", control], check=True, timeout=60, capture_output=True)

    def is_refused():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED

    wait_until(is_refused)
    assert running.stop() == 0 and "Traceback" not in running.errors


def test_twisted_endpoint_of_several_workers(tmp_path):
    """Each would bind it; a server that runs in one of them is not concerned."""
    file = tmp_path / "appd.conf"
    file.write_text("workers 2\n<echo e>\n address haproxy:tcp:8080\n</echo>\n")
    done = subprocess.run([APPD, "check", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78 and f"{file}:3: server 'e': Twisted binds haproxy:tcp:8080" in done.stderr
    file.write_text(
        "workers 2\n<server e>\n type twisted.internet.protocol:Factory\n address haproxy:tcp:8080\n</server>\n"
    )
    subprocess.run([APPD, "check", str(file)], timeout=60, check=True)


def test_twisted_endpoint_that_cannot_listen(start):
    """A port in use: 69, one line, no READY=1."""
    port = listening().getsockname()[1]
    running = start(f"<echo e>\n address haproxy:tcp:{port}:interface=127.0.0.1\n</echo>\n")
    assert running.wait_exit() == 69, running.errors
    assert "Traceback" not in running.errors and all("READY" not in one for one in running.manager.read_all())


def test_socket_section_for_datagrams(start, tmp_path):
    """mode and group of a UNIX datagram socket."""
    path = tmp_path / "d.sock"
    text = f"<socket d>\n listen unix-dgram:{path}\n mode 0620\n group {os.getgid()}\n user {os.getuid()}\n</socket>\n"
    start(text + "<echo e>\n address systemd:name=d\n</echo>\n").wait_ready()
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o620


def test_a_refusal_names_the_line_of_the_socket_section(start):
    """What is mended there is looked for there."""
    running = start("<socket e>\n listen 127.0.0.1:0\n listen /nowhere/at/all.sock\n</socket>\n" + ECHO)
    assert running.wait_exit() == 69
    assert "appd.conf:3: server 'e': cannot listen on /nowhere/at/all.sock: there is no folder" in running.errors


def test_private_network(start):
    """In a unit whose network namespace has only lo, an address that nobody outside could reach is refused."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare(1)")
    if subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no network namespaces here")
    running = start(ECHO.replace("systemd:name=e", "8080"))
    running.close()
    folder = running.manager.path.rpartition("/")[0]
    command = ["unshare", "--net", APPD, "run", f"{folder}/appd.conf"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "INVOCATION_ID": "0" * 32}
    )
    assert done.returncode == 78 and "PrivateNetwork=" in done.stderr
