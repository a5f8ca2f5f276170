"""Requests of all kinds, to applications that wsgiref.validate watches: it raises, and the answer is 500, at the first slip."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running import APPD, Running

APPLICATIONS = Path(__file__).parents[1] / "applications"
BODIES = {
    "none": b"",
    "short": b"one\ntwo\n\nthree",
    "a line": b"x" * 70_000,
    "lines": b"".join(b"%d\n" % number for number in range(30_000)),
    "large": bytes(range(256)) * 8000,
}


class Server:
    """Where it is reached, and a client that speaks only what it is told."""

    def __init__(self, running: Running, sockets: dict[str, socket.socket]) -> None:
        self.running = running
        self.sockets = sockets

    def ask(self, head: str, body: bytes = b"", to: str = "web") -> tuple[bytes, dict[str, str], bytes]:
        """One request; the status line, the fields and the body, put together again where it was chunked."""
        listener = self.sockets[to]
        with socket.socket(listener.family, socket.SOCK_STREAM) as client:
            client.settimeout(20)
            client.connect(listener.getsockname())
            client.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n")
            client.sendall(body)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        head_of_answer, _, content = answer.partition(b"\r\n\r\n")
        status, *lines = head_of_answer.split(b"\r\n")
        fields = {
            name.decode().lower(): value.strip().decode("latin-1")
            for name, _, value in (one.partition(b":") for one in lines)
        }
        if fields.get("transfer-encoding") == "chunked" and not head.startswith("HEAD"):
            content = unchunked(content)
        return status, fields, content


def unchunked(data: bytes) -> bytes:
    found = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert data == b"\r\n"
            return found
        found, data = found + data[:length], data[length:]
        assert data.startswith(b"\r\n")
        data = data[2:]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One appd, on TCP and UNIX."""
    folder = tmp_path_factory.mktemp("validate")
    (folder / "appd.conf").write_text(
        f"<http web>\n address systemd:name=web\n address systemd:name=unix\n"
        f" <limits>\n  upload-memory 10000\n </limits>\n"
        f" <wsgi>\n  application {APPLICATIONS}/validated.py:application\n </wsgi>\n</http>\n"
    )
    unix = socket.socket(socket.AF_UNIX)
    with socket.create_server(("127.0.0.1", 0)) as web, unix:
        unix.bind(str(folder / "web.sock"))
        unix.listen()
        sockets = {"web": web, "unix": unix}
        running = Running([APPD, "run", str(folder / "appd.conf")], folder, list(sockets.items()))
        try:
            running.wait_ready()
            yield Server(running, sockets)
            assert running.stop() == 0
            assert "AssertionError" not in running.errors
        finally:
            running.close()


def with_length(path: str, body: bytes, version: str = "1.1", more: str = "") -> tuple[str, bytes]:
    return f"POST {path} HTTP/{version}\nHost: x\nConnection: close{more}\nContent-Length: {len(body)}", body


def chunked(path: str, body: bytes, more: str = "") -> tuple[str, bytes]:
    blocks = [body[at : at + 9999] for at in range(0, len(body), 9999)]
    data = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(one), one) for one in blocks) + b"0\r\nX-Trailer: t\r\n\r\n"
    return f"POST {path} HTTP/1.1\nHost: x\nConnection: close{more}\nTransfer-Encoding: chunked", data


FRAMINGS: dict[str, Any] = {
    "length": with_length,
    "chunked": chunked,
    "1.0": lambda path, body: with_length(path, body, "1.0"),
    "expect": lambda path, body: with_length(path, body, "1.1", "\nExpect: 100-continue"),
}


@pytest.mark.parametrize("to", ["web", "unix"])
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("kind", BODIES)
def test_bodies(server: Server, kind: str, framing: str, to: str) -> None:
    """Each way to read, of each way to send."""
    body = BODIES[kind]
    digest, lines = hashlib.sha256(body).hexdigest(), body.count(b"\n") + bool(body and not body.endswith(b"\n"))
    expected = {
        "body_by_read": digest.encode(),
        "body_by_lines": json.dumps([lines or 1, digest]).encode(),
        "body_by_iterating": json.dumps([lines, digest]).encode(),
        "body_echoed": body,
        "body_left_alone": b"not read",
        "body_read_in_part": body[:3],
    }
    for name, content in expected.items():
        status, fields, found = server.ask(*FRAMINGS[framing](f"/{name}", body), to=to)
        if status.startswith(b"HTTP/1.1 100"):
            _interim, _, rest = found.partition(b"\r\n\r\n")
            assert name and not fields
            status = _interim.split(b"\r\n")[0]
            found = unchunked(rest) if b"\r\nTransfer-Encoding: chunked" in _interim else rest
        assert status.split(b" ", 1)[1] == b"200 OK"
        assert found == content, name


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    ("path", "status", "content", "length"),
    [
        ("/written", b"200 OK", b"01234 and returned", None),
        ("/generated", b"200 OK", b"".join(b"%d " % one if one % 10 else b"" for one in range(100)), None),
        ("/with_a_length", b"200 OK", b"0123456789", "10"),
        ("/nothing", b"204 No Content", b"", None),
        ("/not_modified", b"304 Not Modified", b"", None),
        ("/empty", b"200 OK", b"", "0"),
        ("/replaced", b"500 Replaced", b"replaced", None),
        ("/many_fields", b"200 OK", b"ok", None),
    ],
)
def test_responses(server: Server, path: str, status: bytes, content: bytes, length: str | None, version: str) -> None:
    """Each way to answer, in both versions; HEAD has the same head and no body."""
    line, fields, found = server.ask(f"GET {path} HTTP/{version}\nHost: x\nConnection: close")
    assert (line.split(b" ", 1)[1], found) == (status, content)
    assert length is None or fields["content-length"] == length
    assert version == "1.1" or "transfer-encoding" not in fields
    head_line, head_fields, nothing = server.ask(f"HEAD {path} HTTP/{version}\nHost: x\nConnection: close")
    assert (head_line, nothing) == (line, b"")
    assert {**head_fields, "date": ""}.items() <= {**fields, "date": ""}.items()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("GET /said HTTP/1.1", {"REQUEST_METHOD": "GET", "QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1"}),
        ("GET /said?a=b&%20=+ HTTP/1.0", {"QUERY_STRING": "a=b&%20=+", "SERVER_PROTOCOL": "HTTP/1.0"}),
        ("GET /s%61id? HTTP/1.1", {"PATH_INFO": "/said"}),
        ("DELETE http://other.example:81/said HTTP/1.1", {"REQUEST_METHOD": "DELETE", "HTTP_HOST": "other.example:81"}),
        (
            "PATCH /said HTTP/1.1\nContent-Type: text/x\nContent-Length: 0",
            {"CONTENT_TYPE": "text/x", "CONTENT_LENGTH": ["0", "", None]},
        ),
        ("OPTIONS /said HTTP/1.1\nX-A: 1\nX-A: 2", {"HTTP_X_A": ["1,2", "1, 2"]}),
        ("GET /said HTTP/1.1\nCookie: a=b\nCookie: c=d", {"HTTP_COOKIE": "a=b; c=d"}),
        ("GET /said HTTP/1.1\nX-Latin: \xe4\xff", {"HTTP_X_LATIN": "\xe4\xff"}),
        ("GET /said HTTP/1.1\nX-Empty:", {"HTTP_X_EMPTY": ""}),
        ("GET /said HTTP/1.1\nX-Long: " + "y" * 8000, {"HTTP_X_LONG": "y" * 8000}),
    ],
)
def test_environ(server: Server, line: str, expected: dict[str, Any]) -> None:
    """What a request says arrives, on TCP and UNIX."""
    first, _, more = line.partition("\n")
    for to in ("web", "unix"):
        status, _fields, found = server.ask(f"{first}\nHost: x.example\nConnection: close\n{more}".rstrip("\n"), to=to)
        assert status.endswith(b" 200 OK")
        environ = json.loads(found)
        for name, value in expected.items():
            assert environ.get(name) in (value if isinstance(value, list) else [value])
        assert environ["wsgi.url_scheme"] == "http" and environ["SCRIPT_NAME"] == ""
        assert environ["SERVER_NAME"] and environ["SERVER_PORT"].isdecimal()


def test_all_on_one_connection(server: Server) -> None:
    """Pipelined: each answer in its turn, bodies that nobody has read between them."""
    requests = b""
    for number in range(20):
        body = b"x" * (number * 3000)
        requests += b"POST /body_left_alone HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        requests += b"GET /generated HTTP/1.1\r\nHost: x\r\n\r\n"
    requests += b"GET /with_a_length HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    listener = server.sockets["web"]
    with socket.create_connection(listener.getsockname(), 30) as client:
        client.settimeout(20)
        client.sendall(requests)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 41
    assert answer.count(b"not read") == 20
    assert answer.endswith(b"\r\n\r\n0123456789")
