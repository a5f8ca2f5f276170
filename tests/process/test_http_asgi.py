"""ASGI applications: lifespan, extensions, who blocks, and all kinds of mount on one connection."""

from __future__ import annotations

import base64
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.running import APPD, Running, ask, listening, read_to, wait_until
from support.service import Service

APPLICATION = """
import asyncio, os, sys, time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"]["pool"] = "a pool"
        print("begins")
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        print("ends")
        await send({"type": "lifespan.shutdown.complete"})
        return
    path, start = scope["path"], {"type": "http.response.start", "status": 200, "headers": [[b"content-type", b"text/plain"]]}
    if path == "/state":
        await send(start)
        await send({"type": "http.response.body", "body": repr((scope["state"], scope.get("appd.user"))).encode()})
    elif path == "/file":
        await send(start)
        await send({"type": "http.response.pathsend", "path": os.path.abspath("large.bin")})
    elif path == "/hints":
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]})
        await send(start)
        await send({"type": "http.response.body", "body": b"hinted"})
    elif path == "/trailers":
        assert "http.response.trailers" in scope["extensions"]
        await send({**start, "trailers": True})
        await send({"type": "http.response.body", "body": b"data"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"4")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-end", b"5")]})
    elif path == "/block":
        time.sleep(2.5)
        await send(start)
        await send({"type": "http.response.body", "body": b"at last"})
    elif path == "/background":
        await send(start)
        await send({"type": "http.response.body", "body": b"answered"})
        open("background.here", "w").close()
        while not os.path.exists("background.go"):
            await asyncio.sleep(0.01)
        print("background done")
    elif path == "/wait":
        await receive()
        open("wait.here", "w").close()
        print("told", (await receive())["type"])
    elif path == "/short":
        await send({**start, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"short"})
    elif path == "/half":
        await send(start)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("in the middle")
    elif path == "/nothing":
        return
    elif path == "/wrong":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\\r\\nb: c")]})
        await send({"type": "http.response.body", "body": b"split"})
    elif path == "/exit":
        sys.exit(3)
    else:
        await send(start)
        await send({"type": "http.response.body", "body": repr((scope["root_path"], path, scope["raw_path"])).encode()})

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi " + environ["PATH_INFO"].encode() + environ["wsgi.input"].read()]

def make():
    return app

async def refuses(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})

async def breaks(scope, receive, send):
    await receive()
    raise RuntimeError("in the middle of a start")

async def ignores(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("no lifespan")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})
"""

MOUNTS = """
  <asgi>
    application {name}
    {keys}
  </asgi>
"""
OTHERS = """
  <wsgi>
    path /wsgi
    application hosted:wsgi
  </wsgi>
  <static>
    path /static
    root ..
  </static>
  <asgi>
    path /caf%C3%A9
    application hosted:make
    factory on
  </asgi>
  <redirect>
    path /old
    to /new
  </redirect>
"""


class Site:
    """A running server."""

    def __init__(self, running: Running, sock: socket.socket, folder: Path) -> None:
        self.running = running
        self.sock = sock
        self.folder = folder

    def ask(self, path: str, *fields: str) -> bytes:
        """Asks on a connection of its own."""
        lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *fields]
        with socket.create_connection(self.sock.getsockname(), timeout=30) as client:
            client.sendall("".join(f"{one}\r\n" for one in lines).encode() + b"\r\n")
            return b"".join(iter(lambda: client.recv(65536), b""))


def text_of(name: str = "hosted:app", keys: str = "", others: str = "", before: str = "") -> str:
    mounts = MOUNTS.format(name=name, keys=keys) + others
    return f"python-path ..\n{before}<http web>\n  address systemd:name=web\n{mounts}</http>\n"


@pytest.fixture
def site(start: Callable[..., Running], tmp_path: Path) -> Any:
    """Makes a site."""

    def make(**options: str) -> Site:
        (tmp_path / "hosted.py").write_text(APPLICATION)
        (tmp_path / "a.txt").write_text("a file")
        sock = listening()
        running = start(text_of(**options), ("web", sock), arguments=("--single",)).wait_ready()
        return Site(running, sock, tmp_path / "run0")

    return make


def test_a_lifespan(site: Any) -> None:
    """It begins before READY and ends in the drain, after the last call; its state is each request's."""
    served = site()
    served.running.wait_said("begins")
    assert served.ask("/state").endswith(b"({'pool': 'a pool'}, None)")
    assert served.ask("/background").endswith(b"answered")
    wait_until(lambda: (served.folder / "background.here").exists())
    served.running.process.send_signal(signal.SIGTERM)
    served.running.wait_said("stopping")
    assert not any("ends" in line for line in served.running.err)
    (served.folder / "background.go").touch()
    assert served.running.wait_exit() == 0
    said = [line[3:] for line in served.running.err]
    assert said.index("background done") < said.index("ends")


@pytest.mark.parametrize(
    ("name", "keys", "reason"),
    [
        ("refuses", "", "no database"),
        ("breaks", "", "RuntimeError: in the middle of a start"),
        ("ignores", "lifespan on", "ValueError: no lifespan"),
    ],
)
@pytest.mark.parametrize("arguments", [("--single",), ()], ids=["single", "supervised"])
def test_a_start_that_fails(
    start: Callable[..., Running], tmp_path: Path, name: str, keys: str, reason: str, arguments: tuple[str, ...]
) -> None:
    """78 and the reason with its line, and never READY."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    running = start(text_of(f"hosted:{name}", keys), ("web", listening()), arguments=arguments)
    assert running.wait_exit() == 78
    assert f"application hosted:{name} failed to start: {reason}" in running.errors
    assert "appd.conf:6: " in running.errors
    assert not any("READY" in one for one in running.manager.read_all())


def test_applications_without_a_lifespan(site: Any) -> None:
    """They are served; so is one that would fail, if nobody asks it."""
    assert site(name="hosted:ignores").ask("/").endswith(b"served")


def test_a_reload_that_fails(start: Callable[..., Running], tmp_path: Path) -> None:
    """The generation before has not noticed."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    servers = "<http web>\n address systemd:name=h\n <asgi>\n  application {}\n </asgi>\n</http>\n"
    service = Service(start, tmp_path, servers=servers.format("hosted:ignores"))
    (tmp_path / "later.py").write_text(APPLICATION)
    service.file.write_text(f"python-path {tmp_path}\n{servers.format('later:refuses')}")
    done = service.reload()
    assert done.returncode == 78
    assert "no database" in done.stderr
    get = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert ask(service.passed, get).endswith(b"served")


def test_extensions(site: Any) -> None:
    """Files, hints and trailers."""
    served = site()
    (served.folder / "large.bin").write_bytes(b"y" * 3_000_000)
    answer = served.ask("/file")
    assert b"Content-Length: 3000000\r\n" in answer
    assert answer.endswith(b"\r\n\r\n" + b"y" * 3_000_000)
    hinted = served.ask("/hints")
    assert hinted.startswith(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>; rel=preload\r\n\r\n"
    )
    assert hinted.endswith(b"hinted")
    assert served.ask("/trailers", "TE: trailers").endswith(b"4\r\ndata\r\n0\r\nx-sum: 4\r\nx-end: 5\r\n\r\n")


def test_responses_that_are_none(site: Any) -> None:
    """500 as long as nothing has gone out, a cut afterwards; the next connection is served, and the log knows why."""
    served = site()
    for path in ("/nothing", "/wrong", "/exit"):
        assert served.ask(path).startswith(b"HTTP/1.1 500 "), path
    assert served.ask("/short").endswith(b"short")
    assert b"\r\n0\r\n\r\n" not in served.ask("/half")
    assert served.ask("/fine").startswith(b"HTTP/1.1 200 ")
    for reason in ("before its response was complete", "the value of x has characters", "SystemExit", "in the middle"):
        served.running.wait_said(reason)


def test_who_blocks_the_loop(site: Any) -> None:
    """It is named once, with its place."""
    served = site()
    for _ in range(2):
        assert served.ask("/block").endswith(b"at last")
    served.running.wait_said("hosted:app has blocked the loop")
    served.running.wait_said("time.sleep(2.5)")
    assert served.running.errors.count("hosted:app has blocked the loop") == 1


def test_a_client_that_leaves(site: Any) -> None:
    """Who listens is told."""
    served = site()
    client = socket.create_connection(served.sock.getsockname())
    client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: (served.folder / "wait.here").exists())
    client.close()
    served.running.wait_said("told http.disconnect")


def test_all_mounts_on_one_connection(site: Any) -> None:
    """Requests for each, back and forth, in one segment."""
    served = site(others=OTHERS)
    (served.folder.parent / "large").write_bytes(b"z" * 1_000_000)
    paths = [
        "/wsgi/1",
        "/static/a.txt",
        "/x%20y",
        "/wsgi/2",
        "/old",
        "/caf%C3%A9/3",
        "/static/large",
        "/static/none",
        "/4",
    ]
    data = "".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths).encode()
    data += b"POST /wsgi/5 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    with socket.create_connection(served.sock.getsockname(), timeout=30) as client:
        client.sendall(data)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    statuses = [int(one[:3]) for one in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 200, 200, 308, 200, 200, 404, 200, 200]
    said = [one.partition(b"\r\n\r\n")[2] for one in answer.split(b"HTTP/1.1 ")[1:]]
    assert said[:4] == [b"wsgi /1", b"a file", b"('', '/x y', b'/x%20y')", b"wsgi /2"]
    assert said[5] == "('/café', '/café/3', b'/caf%C3%A9/3')".encode()
    assert (said[6].count(b"z"), said[9]) == (1_000_000, b"wsgi /5abc")
    assert served.running.stop() == 0
    assert "Traceback" not in served.running.errors


def test_auth(site: Any, tmp_path: Path) -> None:
    """Nobody is let in whom the guard does not know; the application is told who it is, and not the password."""
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    made = subprocess.run(
        [APPD, "passwd", str(passwords), "ann"], input="secret\nsecret\n", capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    before = f"<auth staff>\n  passwords {passwords}\n</auth>\n"
    served = site(keys="auth staff", before=before)
    assert served.ask("/state").startswith(b"HTTP/1.1 401 ")
    for word, status in (("secret", 200), ("wrong", 401), ("secret", 200)):
        login = base64.b64encode(f"ann:{word}".encode()).decode()
        answer = served.ask("/state", f"Authorization: Basic {login}")
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert status != 200 or answer.endswith(b"({'pool': 'a pool'}, 'ann')")


def test_streams_and_a_stop(site: Any) -> None:
    """What is in flight is answered, and an idle connection ends."""
    served = site()
    with socket.create_connection(served.sock.getsockname(), timeout=30) as idle:
        idle.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in read_to(idle, b"b'/x')")
        began = time.monotonic()
        served.running.process.send_signal(signal.SIGTERM)
        assert idle.recv(1000) == b""
        assert time.monotonic() - began < 20
    assert served.running.wait_exit() == 0
