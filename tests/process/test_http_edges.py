"""Requests at the edges of what is allowed, on both drivers; and PROXY headers before TLS where two workers serve."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.authority import Authority
from support.running import Running, listening, wait_until
from support.talking import Talker

ROOT = Authority("Root")
APPLICATION = """
import os

def application(environ, start_response):
    name = environ["PATH_INFO"].rpartition("/")[2]
    fields = {"value": [("X-A", "a\\r\\nSet-Cookie: b=c")], "name": [("X-A: b\\r\\nX-B", "a")], "tab": [("X-A", "a\\x0bb")]}
    if name == "status":
        start_response("200 OK\\r\\nX-B: c", [])
        return [b"split"]
    if name == "pieces":
        start_response("200 OK", [])
        return iter([b"one", b"two"])
    if name == "who":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ['REMOTE_ADDR']} {environ['wsgi.url_scheme']} {os.getpid()}".encode()]
    length = len(environ["wsgi.input"].read())
    start_response("200 OK", fields.get(name, []))
    return [b"<%d %s>" % (length, environ.get("HTTP_HOST", "").encode())]

async def live(scope, receive, send):
    name = scope["path"].rpartition("/")[2]
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message["body"])
        more = message["more_body"]
    fields = {"value": [(b"x-a", b"a\\r\\nset-cookie: b=c")], "name": [(b"x-a: b\\r\\nx-b", b"a")], "tab": [(b"x-a", b"a\\x0bb")]}
    status = "200 OK\\r\\nX-B: c" if name == "status" else 200
    await send({"type": "http.response.start", "status": status, "headers": fields.get(name, [])})
    if name == "pieces":
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
        return
    host = dict(scope["headers"]).get(b"host", b"")
    body = b"<%d %s>" % (length, host)
    if name == "who":
        body = f"{scope['client'][0]} {scope['scheme']} {os.getpid()}".encode()
    await send({"type": "http.response.body", "body": body})
"""
CONFIGURATION = """
python-path ..
threads 2
{more}
<http web>
  {address} systemd:name=web
  {keys}
  <limits>
    body-size 100000
  </limits>
  {mount}
</http>
"""
MOUNTS = {
    "lane": "<wsgi>\n    application hosted:application\n  </wsgi>",
    "loop": "<asgi>\n    application hosted:live\n    lifespan off\n  </asgi>",
    # A WSGI application on a connection that the loop has.
    "guest": "<wsgi>\n    application hosted:application\n  </wsgi>\n  <asgi>\n    path /warm\n    application hosted:live\n"
    "    lifespan off\n  </asgi>",
}
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(params=MOUNTS)
def talk(request: pytest.FixtureRequest, start: Callable[..., Running], tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Starts a server, and opens connections to it."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    sock = listening()
    text = CONFIGURATION.format(address="address", more="", keys="", mount=MOUNTS[request.param])
    running = start(text, ("web", sock), arguments=("--single",)).wait_ready()
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        client = socket.create_connection(sock.getsockname(), 20)
        opened.append(client)
        if request.param == "guest":
            client.sendall(b"GET /warm HTTP/1.1\r\nHost: x\r\n\r\n")
            until(client, b"<0 x>")
        return client

    yield connect
    for one in opened:
        one.close()
    assert running.stop() == 0


def until(client: socket.socket, text: bytes) -> bytes:
    """What comes up to a text, or to the end."""
    data = b""
    while text not in data:
        part = client.recv(65536)
        if not part:
            break
        data += part
    return data


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_that_ends_at_the_limit(talk: Any, framing: str) -> None:
    """It is taken; one byte more is not."""
    for size, expected in ((100_000, b"<100000 x>"), (100_001, b"413 ")):
        client = talk()
        if framing == "length":
            data = POST + b"Content-Length: %d\r\n\r\n" % size + bytes(size)
        else:
            data = POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size + bytes(size) + b"\r\n0\r\n\r\n"
        client.sendall(data)
        assert expected in until(client, expected)


def test_requests_behind_one_that_expects_100(talk: Any) -> None:
    """A body that does not wait for it, and the next request in the same packet: nothing is taken for something else."""
    client = talk()
    head = POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    client.sendall(head + b"helloGET /next HTTP/1.1\r\nHost: y\r\n\r\n")
    answers = until(client, b"<0 y>")
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert answers.index(b"<5 x>") < answers.index(b"<0 y>")
    client.sendall(head)
    assert until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.sendall(b"hello")
    assert b"<5 x>" in until(client, b"<5 x>")


def test_a_body_that_is_refused_before_it_comes(talk: Any) -> None:
    """No 100, and the end: what may come behind is no request."""
    client = talk()
    client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n")
    answer = until(client, b"never")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in answer


def test_a_client_that_would_like_http2(talk: Any) -> None:
    """Upgrade: h2c is gone (RFC 9113, 3.1): the request is answered as it is."""
    client = talk()
    client.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    )
    assert until(client, b"<0 x>").startswith(b"HTTP/1.1 200 OK\r\n")


def test_very_many_small_chunks(talk: Any) -> None:
    """Of a byte each, to the limit of the body."""
    client = talk()
    client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
    assert b"<100000 x>" in until(client, b"<100000 x>")


def test_head_of_what_comes_in_chunks(talk: Any) -> None:
    """Nothing of a body, so that the next response is where it should be."""
    client = talk()
    client.sendall(b"HEAD /pieces HTTP/1.1\r\nHost: x\r\n\r\nGET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
    first, _, rest = until(client, b"0\r\n\r\n").partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


@pytest.mark.parametrize("what", ["value", "name", "status", "tab"])
def test_an_application_that_would_split_its_response(talk: Any, what: str) -> None:
    """Line ends and controls in what it says of the response: 500, and none of it."""
    client = talk()
    client.sendall(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % what.encode())
    answer = until(client, b"500 Internal Server Error\n")
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"cookie" not in answer.lower()
    assert b"x-b" not in answer.lower()


def test_more_slow_uploads_than_threads(talk: Any) -> None:
    """They hold none: who comes meanwhile is answered, and so are they."""
    slow = [talk() for _ in range(20)]
    for one in slow:
        one.sendall(POST + b"Content-Length: 10\r\n\r\n12345")
    client = talk()
    client.sendall(b"GET / HTTP/1.1\r\nHost: y\r\n\r\n")
    assert b"<0 y>" in until(client, b"<0 y>")
    for one in slow:
        one.sendall(b"67890")
        assert b"<10 x>" in until(one, b"<10 x>")


@pytest.mark.parametrize("kind", ["lane", "loop"])
def test_proxy_headers_before_tls_for_two_workers(start: Callable[..., Running], tmp_path: Path, kind: str) -> None:
    """Whichever worker has the connection knows the client; header and handshake come together, or byte by byte."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    ROOT.issue("localhost").write(tmp_path / "site.pem")
    sock = listening(backlog=200)
    keys = "trusted 127.0.0.1\n  proxy-protocol on\n  <tls>\n    certificate ../site.pem\n  </tls>"
    text = CONFIGURATION.format(address="tls-address", more="workers 2", keys=keys, mount=MOUNTS[kind])
    running = start(text, ("web", sock)).wait_ready()
    context = ssl.create_default_context(cadata=ROOT.pem.decode())
    workers: set[str] = set()
    wrong: list[str] = []

    def ask(number: int) -> None:
        plain = socket.create_connection(sock.getsockname(), 20)
        header = b"PROXY TCP4 192.0.2.%d 198.51.100.1 4711 443\r\n" % number
        if number % 2:
            for at in range(len(header)):
                plain.sendall(header[at : at + 1])
        else:
            plain.sendall(header)
        with Talker(plain, context) as client:
            client.sendall(b"GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")[2].decode()
        address, scheme, worker = body.split(" ")
        workers.add(worker)
        if (address, scheme) != (f"192.0.2.{number}", "https"):
            wrong.append(body)

    def burst() -> bool:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 17)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(30)
        return len(workers) == 2

    wait_until(burst, 60, lambda: f"{workers} {running.errors}")
    assert wrong == []
    assert running.stop() == 0
    assert "Traceback" not in running.errors
