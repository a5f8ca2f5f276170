"""Thousands of idle WebSockets: each is open, answers, and is told 1001 at a stop."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.running import Running, listening, read_exactly

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "websocket":
        raise ValueError("no lifespan")
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        pass
"""
MANY = 5000
DRAIN = 60
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
def _descriptors() -> Iterator[None]:
    """As many as this needs, here and in what is started; what was allowed before comes back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MANY + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"the hard limit of open files is {hard}, and {needed} are needed")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_descriptors")
def test_thousands(start: Callable[..., Running], tmp_path: Path) -> None:
    """All are open at once; each answers a ping then; the stop tells each, within the drain time-out."""
    (tmp_path / "idle.py").write_text(APPLICATION)
    sock = listening(backlog=1024)
    text = (
        f"python-path {tmp_path}\ndrain-timeout {DRAIN}s\n<http web>\n address systemd:name=web\n"
        " <asgi>\n  application idle:app\n  ping-interval 0\n </asgi>\n</http>\n"
    )
    running = start(text, ("web", sock), arguments=("--single",)).wait_ready()
    with ExitStack() as stack:
        clients = []
        for _ in range(MANY):
            client = stack.enter_context(socket.create_connection(sock.getsockname(), timeout=60))
            client.sendall(HANDSHAKE)
            clients.append(client)
        for client in clients:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                part = client.recv(4096)
                assert part, head
                head += part
            assert head.startswith(b"HTTP/1.1 101 ")
        opened = len(os.listdir(f"/proc/{running.process.pid}/fd"))
        assert opened >= MANY
        for number, client in enumerate(clients):
            client.sendall(b"\x89\x84\0\0\0\0%04d" % number)
        for number, client in enumerate(clients):
            assert read_exactly(client, 6) == b"\x8a\x04%04d" % number
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        for client in clients:
            head = read_exactly(client, 2)
            assert head[:1] == b"\x88"
            assert read_exactly(client, head[1])[:2] == (1001).to_bytes(2, "big")
            client.sendall(b"\x88\x82\0\0\0\0\x03\xe9")
            assert client.recv(1) == b""
    assert running.wait_exit(DRAIN) == 0
    assert time.monotonic() - began < DRAIN
    assert "Traceback" not in running.errors and "are cut" not in running.errors
