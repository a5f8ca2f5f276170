"""More calls than threads: the figures say so while it lasts, and at the end of a drain what still waits is told 503."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.running import APPD, Running, listening, read_to, spare_port, wait_until
from support.service import Service

APPLICATION = """
import os, time

def app(environ, start_response):
    name = (environ["SCRIPT_NAME"] + environ["PATH_INFO"]).strip("/") + environ["QUERY_STRING"]
    open(name.replace("/", "-") + ".here", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [name.encode()]

async def asgi(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
"""
SERVERS = """
<http web>
  address systemd:name=h
  <wsgi>
    application hosted:app
  </wsgi>
  <wsgi>
    path /one
    application hosted:app
    threads 1
  </wsgi>
  {more}
</http>
"""
ASGI = "<asgi>\n path /asgi\n application hosted:asgi\n</asgi>"
STATIC = "<static>\n path /static\n root ..\n</static>"
GET = "GET {} HTTP/1.1\r\nHost: x\r\n\r\n"


class Crowded:
    """Clients that ask, each on a connection of its own."""

    def __init__(self, address: Any, handed: bool = False, head: bytes = b"") -> None:
        self.address = address
        self.clients: list[socket.socket] = []
        self._handed = handed
        self._head = head

    def ask(self, path: str) -> socket.socket:
        client = socket.create_connection(self.address, 30)
        self.clients.append(client)
        client.sendall(self._head)
        if self._handed:
            client.sendall(GET.format("/asgi").encode())
            assert read_to(client, b"\r\n\r\n").startswith(b"HTTP/1.1 204 ")
        client.sendall(GET.format(path).encode())
        return client

    def close(self) -> None:
        for one in self.clients:
            one.close()


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def figures(made: Service) -> tuple[int, int, int]:
    """How many run, wait, and in how many threads, of all workers."""
    workers = made.status()["workers"]
    running, queued, threads = (sum(one[key] for one in workers) for key in ("running", "queued", "threads"))
    return running, queued, threads


@pytest.mark.parametrize("handed", [False, True], ids=["lane", "guests"])
def test_the_figures_of_an_overload(start: Callable[..., Running], tmp_path: Path, handed: bool) -> None:
    """`threads` calls sleep and more wait: STATUS=, `appd status` and --json say how many, of which mount; then zero."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    made = Service(start, tmp_path, "python-path ..\nthreads 2\n", SERVERS.format(more=ASGI if handed else ""))
    crowd = Crowded(made.passed.getsockname(), handed)
    folder = tmp_path / "run0"
    try:
        first = crowd.ask("/one?1")
        wait_until(lambda: (folder / "one1.here").exists())
        second = crowd.ask("/a")
        wait_until(lambda: (folder / "a.here").exists())
        waiting = [crowd.ask("/one?2"), crowd.ask("/b"), crowd.ask("/b"), crowd.ask("/b")]
        wait_until(lambda: figures(made) == (2, 4, 2))
        status = made.status()
        row = {"server": "web", "refused": 0, "cancelled": 0, "running": 1}
        assert status["calls"] == [
            {**row, "mount": "/", "queued": 3, "threads": 2},
            {**row, "mount": "/one", "queued": 1, "threads": 1},
        ]
        assert "2 calls run in 2 threads, 4 wait" in status["status"]
        text = made.call("status").stdout
        assert re.search(r"^SERVER +MOUNT +RUNNING +QUEUED +THREADS +REFUSED +CANCELLED$", text, re.M), text
        assert re.search(r"^web +/ +1 +3 +2 +0 +0$", text, re.M), text
        wait_until(lambda: "2 threads, 4 wait" in str(made.running.manager.read_all()))
        # Whoever leaves is not waited for: the connection is reset.
        if not handed:
            waiting.pop(1).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            crowd.clients.pop(3).close()
            wait_until(lambda: figures(made) == (2, 3, 2))
            assert sum(one["cancelled"] for one in made.status()["calls"]) == 1
        (folder / "go").touch()
        for client in (first, second, *waiting):
            assert read_to(client, b"\r\n").startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: figures(made) == (0, 0, 2))
        assert "wait" not in made.status()["status"]
        assert all(one["running"] == one["queued"] == 0 for one in made.status()["calls"])
    finally:
        crowd.close()


@pytest.mark.parametrize("handed", [False, True], ids=["lane", "guests"])
def test_requests_of_one_connection_stay_in_order(start: Callable[..., Running], tmp_path: Path, handed: bool) -> None:
    """Though the first has to wait for its mount, and those behind it could be answered at once."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    text = "python-path ..\nthreads 4\n" + SERVERS.format(more=(ASGI if handed else "") + "\n" + STATIC)
    (tmp_path / "a.txt").write_text("a file")
    sock = listening()
    running = start(text, ("h", sock)).wait_ready()
    crowd = Crowded(sock.getsockname(), handed)
    folder = tmp_path / "run0"
    try:
        crowd.ask("/one?sleeps")
        wait_until(lambda: (folder / "onesleeps.here").exists())
        client = crowd.ask("/one?1")
        client.sendall("".join(map(GET.format, ("/2", "/static/a.txt", "/one?3", "/nowhere/4"))).encode())
        time.sleep(0.3)  # until they are there: nothing tells, as nothing is to happen
        assert not (folder / "2.here").exists()
        (folder / "go").touch()
        data = b""
        while data.count(b"HTTP/1.1 ") < 5 or not data.endswith(b"nowhere/4"):
            part = client.recv(65536)
            assert part, data
            data += part
        places = [data.index(one) for one in (b"\r\n\r\none1", b"\r\n\r\n2", b"a file", b"one3", b"nowhere/4")]
        assert places == sorted(places)
        assert running.stop() == 0
    finally:
        crowd.close()


@pytest.mark.parametrize("kind", ["lane", "guests", "twisted"])
def test_what_still_waits_when_the_drain_ends(start: Callable[..., Running], tmp_path: Path, kind: str) -> None:
    """It is told 503, the application is not called for it, and one line of the journal says how many there were."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    text = "python-path ..\nthreads 1\ndrain-timeout 1s\n" + SERVERS.format(more=ASGI if kind == "guests" else "")
    sock = listening()
    passed, address = (("h", sock),), sock.getsockname()
    head = b""
    if kind == "twisted":
        address = ("127.0.0.1", spare_port())
        passed, head = (), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
        text = text.replace("systemd:name=h", f"haproxy:tcp:{address[1]}:interface=127.0.0.1")
    control = str(tmp_path / "control")
    running = start(text, *passed, arguments=("--control", control)).wait_ready()
    crowd = Crowded(address, kind == "guests", head)
    folder = tmp_path / "run0"
    try:
        first = crowd.ask("/first")
        wait_until(lambda: (folder / "first.here").exists(), explain=lambda: running.errors)
        waiting = [crowd.ask("/queued") for _ in range(3)]

        def queued() -> int:
            command = [APPD, "status", "--json", "--socket", control]
            said = subprocess.run(command, capture_output=True, text=True, check=True)
            return sum(one["queued"] for one in json.loads(said.stdout)["workers"])

        wait_until(lambda: queued() == 3)
        assert running.stop(timeout=30) == 0
        for client in waiting:
            answer = read_all(client)
            assert answer.startswith(b"HTTP/1.1 503 "), answer
            assert b"\r\nRetry-After: 1\r\n" in answer
            assert b"\r\nConnection: close\r\n" in answer
        with pytest.raises(ConnectionResetError):
            first.recv(1)
        assert not (folder / "queued.here").exists()
        said = [one for one in running.errors.splitlines() if "still waited for a thread" in one]
        assert len(said) == 1 and "3" in said[0], running.errors
        assert "Traceback" not in running.errors
    finally:
        crowd.close()


def test_streams_of_http2_that_still_wait_when_the_drain_ends(start: Callable[..., Running], tmp_path: Path) -> None:
    """The same for streams: 503, and the answer is not lost with the connection."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    servers = SERVERS.format(more="http2 on").replace("threads 1\n  </wsgi>", "</wsgi>")
    made = Service(start, tmp_path, "python-path ..\nthreads 1\ndrain-timeout 1s\n", servers)
    folder = tmp_path / "run0"
    url = f"http://127.0.0.1:{made.passed.getsockname()[1]}"

    def ask(path: str) -> subprocess.Popen[str]:
        command = ["curl", "-s", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", "-o", "/dev/null"]
        return subprocess.Popen([*command, url + path], stdout=subprocess.PIPE, text=True)

    asking = [ask("/first")]
    try:
        wait_until(lambda: (folder / "first.here").exists(), explain=lambda: made.running.errors)
        asking += [ask("/queued") for _ in range(3)]
        wait_until(lambda: figures(made) == (1, 3, 1))
        assert made.running.stop(timeout=30) == 0
        assert [one.communicate(timeout=30)[0] for one in asking[1:]] == ["2 503"] * 3
        assert not (folder / "queued.here").exists()
    finally:
        for one in asking:
            one.kill()
            one.communicate()
