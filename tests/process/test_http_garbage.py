"""What is no request gets a 400, and the log stays quiet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running import Running, serving

CONFIGURATION = """
<http web>
  address systemd:name=web
  <{kind}>
    application {application}
  </{kind}>
</http>
"""
# What answers, on each driver.
DRIVERS = {
    "lane": ("wsgi", "wsgiref.simple_server:demo_app"),
    "loop": ("asgi", f"{Path(__file__).parents[1]}/applications/quiet.py:application"),
}


@pytest.fixture(scope="module", params=DRIVERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, int]]:
    """One appd for all tests of this file, and its port."""
    folder = tmp_path_factory.mktemp("garbage")
    kind, application = DRIVERS[request.param]
    (folder / "appd.conf").write_text(CONFIGURATION.format(kind=kind, application=application))
    with serving(folder) as made:
        yield made


def ask(port: int, data: bytes) -> bytes:
    """Sends bytes and reads to the end, its own side open."""
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(data)
        return b"".join(iter(lambda: client.recv(65536), b""))


GARBAGE = [
    b"\r\n\r\n\r\n",
    b"garbage\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/2.0\r\n\r\n",
    b"GET / HTTP/9\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
    b"GET /\x80\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    b"GET /" + b"x" * 100_000,
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 100_000,
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n" * 3,
    bytes(range(256)) * 4 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX\x0b: a\r\n\r\n",
]


# Those that are understood, and refused for what they are.
OTHERS = {b"GET / HTTP/2.0": b"505", b"GET /" + b"x" * 9: b"414", b"X: " + b"y" * 9: b"431", b"X: y": b"431"}


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage(served: tuple[Running, int], garbage: bytes) -> None:
    """400, or what fits better, and the end, once; not a word in the log."""
    status = next((status for part, status in OTHERS.items() if part in garbage), b"400")
    running, port = served
    before = len(running.err)
    answer = ask(port, garbage)
    assert answer.startswith(b"HTTP/1.1 " + status + b" ")
    assert answer.count(b"HTTP/") == 1
    assert b"Server: appd\r\n" in answer
    assert b"wisted" not in answer
    assert ask(port, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(running.err) == before


def test_nothing_is_served_after_garbage(served: tuple[Running, int]) -> None:
    """Whatever follows on the same connection may be part of it."""
    _running, port = served
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = ask(port, request + b"garbage\r\n" + request)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n400 Bad Request\n")
    assert answer.count(b"HTTP/1.1 ") == 2


def test_options_of_the_server(served: tuple[Running, int]) -> None:
    """`OPTIONS *` is no garbage, and for us."""
    answer = ask(served[1], b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
