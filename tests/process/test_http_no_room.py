"""No room for what is to lie in files for a while: bodies of requests, and responses that clients do not take."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.running import Running, ask, listening, read_to, wait_until

APPLICATION = """
def application(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/large":
        return (b"x" * 65536 for _ in range(1000))
    return [b"%d" % len(body)]

async def live(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"warm"})
"""
CONFIGURATION = """
python-path ..
threads 2
<log>
  format text
</log>
<http web>
  address systemd:name=web
  http2 on
  <limits>
    response-spool 50MB
  </limits>
  <wsgi>
    application hosted:application
  </wsgi>
  <asgi>
    path /warm
    application hosted:live
    lifespan off
  </asgi>
</http>
"""
WARM = b"GET /warm HTTP/1.1\r\nHost: x\r\n\r\n"
# What a file may have; RLIMIT_FSIZE fails as a full disk does, in the middle of a write.
ROOM = 300_000


@pytest.fixture
def serving(start: Callable[..., Running], tmp_path: Path) -> Any:
    (tmp_path / "hosted.py").write_text(APPLICATION)
    sock = listening()
    running = start(CONFIGURATION, ("web", sock), arguments=("--single",)).wait_ready()
    assert ask(sock, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(b"0")
    before = _sockets(running)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (ROOM, ROOM))
    yield running, sock
    wait_until(lambda: _sockets(running) <= before, 20, lambda: running.errors)
    assert running.stop() == 0
    assert "the HTTP engine failed" not in running.errors


def _sockets(running: Running) -> int:
    found = 0
    for one in Path(f"/proc/{running.process.pid}/fd").iterdir():
        with suppress(OSError):
            found += "socket:" in os.readlink(one)
    return found


def _connect(sock: socket.socket, kind: str) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(20)
    client.connect(sock.getsockname())
    if kind == "loop":
        client.sendall(WARM)
        data = b""
        while not data.endswith(b"warm"):
            data += client.recv(65536)
    return client


@pytest.mark.parametrize("size", [ROOM + 100_000, ROOM + 10])
@pytest.mark.parametrize("kind", ["lane", "loop", "http2"])
def test_no_room_for_a_body(serving: Any, tmp_path: Path, kind: str, size: int) -> None:
    """503, in the middle of it or at its end; the connection is given up, and so is its descriptor."""
    running, sock = serving
    if kind == "http2":
        host, port = sock.getsockname()
        (tmp_path / "body").write_bytes(bytes(size))
        # curl 7.88 forgets the answer to an upload that it has not ended.
        command = ["nghttp", "-v", "-t", "20", "-d", str(tmp_path / "body"), f"http://{host}:{port}/"]
        assert ":status: 503" in subprocess.run(command, capture_output=True, text=True).stdout
    else:
        with _connect(sock, kind) as client:
            with suppress(OSError):
                client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
            assert read_to(client, b"Unavailable").startswith(b"HTTP/1.1 503 ")
    running.wait_said("cannot keep the body of a request")


@pytest.mark.parametrize("kind", ["lane", "loop"])
def test_no_room_for_a_response(serving: Any, kind: str) -> None:
    """It is cut, so that the client sees that something is missing; the journal says why."""
    running, sock = serving
    with _connect(sock, kind) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        running.wait_said("cannot keep a response", 20)
        data = b""
        with suppress(ConnectionError):
            while part := client.recv(65536):
                data += part
        assert not data.endswith(b"0\r\n\r\n")
