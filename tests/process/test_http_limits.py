"""`<limits>` on what a request may be: the status that the client is told, and the file that says how much."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running import APPD, Running

APPLICATIONS = Path(__file__).parents[1] / "applications"
LIMITS = """
  <limits>
    request-line 200
    header-count 10
    header-size 1KB
    body-size 5000
  </limits>
"""
CONFIGURATION = f"""
application-object validated:made
python-path {APPLICATIONS}
<http web>
  address systemd:name=web
  {LIMITS}
  <wsgi>
    application {APPLICATIONS}/validated.py:application
  </wsgi>
</http>
<http loop>
  address systemd:name=loop
  {LIMITS}
  <asgi>
    application {APPLICATIONS}/quiet.py:application
  </asgi>
</http>
<server old>
  type HTTP
  address systemd:name=old
  {LIMITS}
</server>
<http usual>
  address systemd:name=usual
  <wsgi>
    application {APPLICATIONS}/validated.py:application
  </wsgi>
</http>
"""


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, socket.socket]]:
    """One appd: with limits as <http> and as <server>, and with those that it has by itself."""
    folder = tmp_path_factory.mktemp("limits")
    (folder / "appd.conf").write_text(CONFIGURATION)
    made = {name: socket.create_server(("127.0.0.1", 0)) for name in ("web", "loop", "old", "usual")}
    running = Running([APPD, "run", str(folder / "appd.conf")], folder, list(made.items()))
    try:
        running.wait_ready()
        yield made
        assert running.stop() == 0
    finally:
        running.close()
        for one in made.values():
            one.close()


def status(listener: socket.socket, head: str, body: bytes = b"") -> int:
    """Of the one answer; the connection ends after it."""
    with socket.create_connection(listener.getsockname(), 30) as client:
        client.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 ") == 1
    return int(answer.split(b" ", 2)[1])


def line(length: int) -> str:
    return f"GET /said?{'x' * (length - len('GET /said? HTTP/1.1'))} HTTP/1.1\nHost: x\nConnection: close"


def fields(count: int) -> str:
    return "GET /said HTTP/1.1\nHost: x\nConnection: close" + "".join(f"\nX-{one}: y" for one in range(count - 2))


def sized(size: int) -> str:
    head = "GET /said HTTP/1.1\nHost: x\nConnection: close\nX-Long: "
    return head + "y" * (size - len(head.partition("\n")[2].replace("\n", "\r\n")) - 2)


def posted(length: int) -> tuple[str, bytes]:
    return f"POST /body_by_read HTTP/1.1\nHost: x\nConnection: close\nContent-Length: {length}", b"x" * length


def chunked(length: int) -> tuple[str, bytes]:
    head = "POST /body_by_read HTTP/1.1\nHost: x\nConnection: close\nTransfer-Encoding: chunked"
    chunks = [min(1000, length - at) for at in range(0, length, 1000)]
    return head, b"".join(b"%x\r\n%s\r\n" % (one, b"x" * one) for one in chunks) + b"0\r\n\r\n"


@pytest.mark.parametrize("server", ["web", "loop", "old"])
@pytest.mark.parametrize(
    ("inside", "beyond", "refusal"),
    [
        ((line(200), b""), (line(201), b""), 414),
        ((fields(10), b""), (fields(11), b""), 431),
        ((sized(1024), b""), (sized(1025), b""), 431),
        (posted(5000), posted(5001), 413),
        (chunked(5000), chunked(5001), 413),
    ],
    ids=["request-line", "header-count", "header-size", "body-size", "body-size chunked"],
)
def test_of_the_file(
    sockets: dict[str, socket.socket],
    server: str,
    inside: tuple[str, bytes],
    beyond: tuple[str, bytes],
    refusal: int,
) -> None:
    """To the byte."""
    assert status(sockets[server], *inside) == 200
    assert status(sockets[server], *beyond) == refusal
    assert status(sockets["usual"], *beyond) == 200


@pytest.mark.parametrize(
    ("inside", "beyond", "refusal"),
    [
        (line(8190), line(8191), 414),
        (fields(100), fields(101), 431),
        (sized(32768), sized(32769), 431),
    ],
    ids=["request-line", "header-count", "header-size"],
)
def test_by_itself(sockets: dict[str, socket.socket], inside: str, beyond: str, refusal: int) -> None:
    """What a server without <limits> takes; the body stops at 1 GB, before a byte of it is sent."""
    assert status(sockets["usual"], inside) == 200
    assert status(sockets["usual"], beyond) == refusal
    head = posted(0)[0].replace("Length: 0", f"Length: {1024**3 + 1}")
    assert status(sockets["usual"], head) == 413
