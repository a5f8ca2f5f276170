"""`appd status`: what serves, how it has gone, and that all of it is true."""

from __future__ import annotations

import os
import re
import signal
import socket
from functools import partial
from pathlib import Path

import pytest
from support.running import ask, read_to, wait_until
from support.service import HTTP, Service, gone

from appd.control import DESCRIPTION

FLOODING = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/flood":
        for _ in range(20000):
            print("x" * 4000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"1"]
"""


@pytest.fixture
def service(start, tmp_path):
    """Starts a server that answers with its PID."""
    return partial(Service, start, tmp_path)


def described(name):
    """The fields of a type or method's answer, as the interface describes them."""
    pattern = rf"(?:type {name}|method {name}\(\) ->) \(\n(.*?)\n\)"
    return set(re.findall(r"^  (\w+):", re.search(pattern, DESCRIPTION, re.S)[1], re.M))


def test_what_is_answered_is_what_is_described(service, tmp_path):
    """Every field of the interface and no other, with a draining generation and a reload to tell of."""
    made = service()
    with socket.create_connection(made.passed.getsockname()) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        (calls,) = wait_until(lambda: made.status()["calls"])
        (tmp_path / "go").touch()
        client.sendall(b"GET /sl")
        wait_until(lambda: made.status()["workers"][0]["connections"] == 1)
        assert made.reload().returncode == 0
        status = made.status()
    assert set(status) == described("Status")
    for name, found in (
        ("Worker", status["workers"][0]),
        ("Calls", calls),
        ("Listening", status["listening"][0]),
        ("Draining", status["draining"][0]),
        ("Reload", status["reload"]),
    ):
        assert set(found) == described(name), name


def test_workers(service):
    """PID, age, connections, requests, memory; a place whose worker died says so, and so does the service."""
    made = service("workers 2\n")
    first = {made.pid() for _ in range(30)}
    idle = socket.create_connection(made.passed.getsockname())
    wait_until(lambda: sum(one["requests"] for one in made.status()["workers"]) == 30)
    status = made.status()
    assert [one["number"] for one in status["workers"]] == [1, 2] and first <= made.workers()
    assert sum(one["connections"] for one in status["workers"]) == 1
    for one in status["workers"]:
        assert one["state"] == "serving" and one["generation"] == 1 and 0 < one["age"] < 60
        resident = int(Path(f"/proc/{one['pid']}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert one["rss"] == pytest.approx(resident, rel=0.2)
        assert one["restarts"] == one["recycled"] == 0
    for restarts in (1, 2):
        os.kill(made.status()["workers"][1]["pid"], signal.SIGKILL)
        wait_until(lambda n=restarts: [one["restarts"] for one in made.status()["workers"]] == [0, n])
        wait_until(lambda: len(made.workers()) == 2)
    assert made.status()["restarts"] == 2
    idle.close()


def test_requests_on_a_connection_that_stays(service):
    """They are told of while the connection is open."""
    made = service()
    with socket.create_connection(made.passed.getsockname(), 30) as client:
        for number in range(1, 4):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            read_to(client, b"\r\n\r\n")
            wait_until(lambda number=number: made.status()["workers"][0]["requests"] == number)


def test_servers_and_their_addresses(service, tmp_path):
    """Where each listens in fact, and the address in the file; names as they are, whatever is in them."""
    path = tmp_path / "a|b=c.sock"
    made = service(
        servers=HTTP.replace("<http h>", "<http>")
        + f"<echo>\n address {path}\n address udp:127.0.0.1:0\n</echo>\n<server s>\n type theirs:factory\n address tcp:0:interface=127.0.0.1\n</server>\n"
    )
    status = made.status()
    assert status["servers"] == ["http:systemd:name=h", f"echo:{path}", "s"]
    first, second, third = status["listening"]
    where = f"127.0.0.1:{made.passed.getsockname()[1]}"
    assert first == {"server": "http:systemd:name=h", "type": "http", "addresses": [f"{where} (systemd:name=h)"]}
    assert second["addresses"][0] == f"{path} ({path})"
    port = re.fullmatch(r"127\.0\.0\.1:(\d+) \(127\.0\.0\.1:0\)", third["addresses"][0])
    assert port and int(ask(("127.0.0.1", int(port[1])), b"pid")) in made.workers()
    # A change of one of them is told by its name.
    made.file.write_text(made.text.replace("<echo>", "<echo>\n after s"))
    assert made.reload().returncode == 0
    made.running.wait_said(f"reloaded; changed: echo:{path}")


def test_many_servers(service):
    """More of them than one message to the supervisor holds, names in the store and all."""
    text = "".join(f"<echo {'e' * 200}{number}>\n address 127.0.0.1:0\n</echo>\n" for number in range(400))
    made = service(servers=HTTP + text)
    status = made.status()
    assert len(status["servers"]) == len(status["listening"]) == 401
    assert "serving 401 servers" in status["status"]


def test_the_last_reload(service):
    """None before there was one; then its outcome with the reason, good or bad."""
    made = service()
    assert made.status()["reload"] is None
    made.file.write_text(made.text + "nonsense 1\n")
    assert made.reload().returncode == 78
    failed = made.status()["reload"]
    assert failed["exit"] == 78 and "appd.conf" in failed["reason"] and "nonsense" in failed["reason"]
    said = made.call("status").stdout
    assert re.search(r"^last reload \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: failed, .*nonsense", said, re.M)
    made.file.write_text(made.text)
    assert made.reload().returncode == 0
    assert made.status()["reload"]["reason"] == "generation 3 serves"


def test_draining_generations(service):
    """How many workers and connections each has left."""
    made = service(
        "reload-drain-timeout 90s\n", "<server s>\n type theirs:factory\n address systemd:name=h\n</server>\n"
    )
    (first,) = made.workers()
    clients = [socket.create_connection(made.passed.getsockname()) for _ in range(3)]
    wait_until(lambda: made.status()["workers"][0]["connections"] == 3)
    assert made.reload().returncode == 0
    wait_until(lambda: made.status()["draining"] == [{"generation": 1, "workers": 1, "connections": 3}])
    assert "generation 1 drains 3 connections" in made.call("status").stdout
    clients.pop().close()
    wait_until(lambda: made.status()["draining"] == [{"generation": 1, "workers": 1, "connections": 2}])
    for one in clients:
        one.close()
    wait_until(lambda: made.status()["draining"] == [] and gone(first))


def test_dropped_log_entries(service, tmp_path):
    """What an application prints faster than the log takes it is counted, also when its worker has gone."""
    (tmp_path / "hosted.py").write_text(FLOODING)
    made = service()
    assert made.status()["dropped"] == 0
    made.pid("/flood")
    dropped = wait_until(lambda: made.status()["dropped"], 30)
    wait_until(lambda: re.search(r"log entr(y was|ies were) dropped", made.running.errors), 30)
    assert made.reload().returncode == 0
    assert made.status()["dropped"] >= dropped


def test_for_people(service):
    """A table for the addresses, one for the workers; as docs/operating.md shows it."""
    made = service("workers 2\n", HTTP + "<echo two>\n address 127.0.0.1:0\n address udp:127.0.0.1:0\n</echo>\n")
    assert made.reload().returncode == 0
    wait_until(lambda: not made.status()["draining"])
    lines = made.call("status").stdout.splitlines()
    pid = made.running.process.pid
    where = f"127.0.0.1:{made.passed.getsockname()[1]}"
    assert re.fullmatch(rf"appd \S+, PID {pid}: serving 2 servers, 2 workers, 0 connections", lines[0])
    assert lines[1] == "generation 2, 0 workers replaced, 0 recycled, 0 log entries dropped"
    assert lines[2].startswith("last reload ") and lines[2].endswith(": done, generation 2 serves")
    assert lines[3] == "servers: h, two" and lines[4].startswith("sockets: h, appd-")
    assert lines[6].split() == ["SERVER", "TYPE", "ADDRESS"]
    assert lines[7].split() == ["h", "http", where, "(systemd:name=h)"]
    assert lines[8].split()[:2] == ["two", "echo"] and lines[9].split()[1] == "(udp:127.0.0.1:0)"
    assert lines[11].split() == [
        "WORKER", "PID", "GENERATION", "STATE", "AGE", "CONNECTIONS", "REQUESTS", "RUNNING", "QUEUED", "THREADS", "RSS",
        "RESTARTS", "RECYCLED",
    ]  # fmt: skip
    assert re.fullmatch(r"1 +\d+ +2  serving +\d+ s +0 +0 +0 +0 +\d+ +\d+ KB +0 +0", lines[12])
    assert len(lines) == 14
