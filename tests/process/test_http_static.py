"""Static files over real sockets."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running import APPD, Running

CONFIGURATION = """
<http web>
  address systemd:name=web
  <static>
    path /media
    root root
    header Cache-Control max-age=60
  </static>
  <static>
    host files.example
    root root/sub
  </static>
</http>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files."""
    folder = tmp_path_factory.mktemp("static")
    root = folder / "root"
    (root / "sub").mkdir(parents=True)
    (root / "bare").mkdir()
    (root / "a.txt").write_bytes(b"0123456789")
    (root / "empty").write_bytes(b"")
    (root / "large.bin").write_bytes(bytes(range(256)) * 20_000)
    (root / "x.tar.gz").write_bytes(b"gz")
    (root / "x.tar.xz").write_bytes(b"xz")
    (root / "data:text,x.css").write_bytes(b"css")
    (root / "strange.wxyz").write_bytes(b"<script>")
    (root / "with space.html").write_bytes(b"<p>")
    (root / "sub" / "index.html").write_bytes(b"index")
    (root / "out").symlink_to("/etc/passwd")
    (folder / "secret").write_bytes(b"secret")
    os.mkfifo(root / "fifo")
    (folder / "appd.conf").write_text(CONFIGURATION)
    return folder


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    """One appd for all tests of this file."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        running = Running([APPD, "run", str(folder / "appd.conf")], folder, [("web", sock)])
        try:
            running.wait_ready()
            yield sock.getsockname()[1]
            assert running.stop() == 0
            assert "Traceback" not in running.errors
        finally:
            running.close()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_a_file(port: int) -> None:
    """Its length, its type, its date, the mount's header."""
    response, body = ask(port, "/media/a.txt")
    assert (response.status, body) == (200, b"0123456789")
    wanted = {"Content-Length": "10", "Content-Type": "text/plain", "Accept-Ranges": "bytes", "Server": "appd"}
    assert wanted.items() <= dict(response.getheaders()).items()
    assert response.getheader("Cache-Control") == "max-age=60"
    assert response.getheader("Last-Modified") is not None


@pytest.mark.parametrize(
    ("name", "type_", "encoding"),
    [
        ("x.tar.gz", "application/x-tar", "gzip"),
        ("x.tar.xz", "application/octet-stream", None),
        ("data:text,x.css", "text/css", None),
        ("strange.wxyz", "application/octet-stream", None),
        ("with%20space.html", "text/html", None),
    ],
)
def test_types(port: int, name: str, type_: str, encoding: str | None) -> None:
    """By the name; what nobody knows is not guessed to be HTML."""
    response, _ = ask(port, f"/media/{name}")
    assert (response.getheader("Content-Type"), response.getheader("Content-Encoding")) == (type_, encoding)


def test_a_large_file(port: int, folder: Path) -> None:
    """As it is; by curl, another connection of which is kept."""
    url = f"http://127.0.0.1:{port}/media"
    command = ["curl", "-sSf", "--max-time", "10", f"{url}/large.bin", f"{url}/a.txt"]
    done = subprocess.run(command, capture_output=True, timeout=20, check=True)
    assert done.stdout == (folder / "root" / "large.bin").read_bytes() + b"0123456789"


def test_an_empty_file(port: int) -> None:
    """Nothing, with its length."""
    response, body = ask(port, "/media/empty")
    assert (response.status, response.getheader("Content-Length"), body) == (200, "0", b"")


def test_head(port: int) -> None:
    """The head of a GET."""
    got, _ = ask(port, "/media/a.txt")
    response, body = ask(port, "/media/a.txt", "HEAD")
    assert body == b""
    differs = {"Date"}
    assert [one for one in response.getheaders() if one[0] not in differs] == [
        one for one in got.getheaders() if one[0] not in differs
    ]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
def test_other_methods(port: int, method: str) -> None:
    """405, and which are allowed."""
    response, _ = ask(port, "/media/a.txt", method)
    assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("field", "status", "body", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-500", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"416 Requested Range not satisfiable\n", "bytes */10"),
        ("bytes=4-2", 200, b"0123456789", None),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("nonsense", 200, b"0123456789", None),
    ],
)
def test_ranges(port: int, field: str, status: int, body: bytes, content_range: str | None) -> None:
    """A part of the file."""
    response, got = ask(port, "/media/a.txt", Range=field)
    assert (response.status, got, response.getheader("Content-Range")) == (status, body, content_range)


def test_a_large_range(port: int, folder: Path) -> None:
    """More than is sent in one go."""
    _, got = ask(port, "/media/large.bin", Range="bytes=100000-400000")
    assert got == (folder / "root" / "large.bin").read_bytes()[100_000:400_001]


def test_if_range(port: int) -> None:
    """A part only of the version that the client has."""
    modified = ask(port, "/media/a.txt")[0].getheader("Last-Modified")
    assert modified is not None
    assert ask(port, "/media/a.txt", Range="bytes=0-0", If_Range=modified)[0].status == 206
    other = "Sat, 01 Jan 2000 00:00:00 GMT"
    assert ask(port, "/media/a.txt", Range="bytes=0-0", If_Range=other)[0].status == 200
    assert ask(port, "/media/a.txt", Range="bytes=0-0", If_Range='"tag"')[0].status == 200


def test_if_modified_since(port: int) -> None:
    """304 for the version that the client has; a date that is none does not count."""
    modified = ask(port, "/media/a.txt")[0].getheader("Last-Modified")
    assert modified is not None
    response, body = ask(port, "/media/a.txt", If_Modified_Since=modified)
    assert (response.status, body) == (304, b"")
    assert response.getheader("Cache-Control") == "max-age=60"
    for date in ("Sat, 01 Jan 2000 00:00:00 GMT", "no date", " ", ";", "Sat, 99 Foo 99999999999 00:00:00 GMT"):
        assert ask(port, "/media/a.txt", If_Modified_Since=date)[0].status == 200
    assert ask(port, "/media/a.txt", If_Modified_Since=modified, If_None_Match='"x"')[0].status == 200


def test_folders(port: int) -> None:
    """The index file, the way to it, and no listing."""
    assert ask(port, "/media/sub/")[1] == b"index"
    response, _ = ask(port, "/media/sub?a=b")
    assert (response.status, response.getheader("Location")) == (301, "/media/sub/?a=b")
    assert response.getheader("Cache-Control") == "max-age=60"
    for path in ("/media", "/media/", "/media/bare", "/media/bare/"):
        assert ask(port, path)[0].status == 404
    assert ask(port, "/", Host="files.example")[1] == b"index"


@pytest.mark.parametrize(
    "path",
    ["/", "/mediax", "/media/fifo", "/media/out", "/media/../secret", "/media/%2e%2e/secret", "/media/..%2fsecret",
     "/media/..%5csecret", "/media/a.txt%00", "/media/a.txt/", "/media//a.txt", "/media/sub%2findex.html",
     "//127.0.0.1/media/sub", "/media/%2fetc/passwd"],
)  # fmt: skip
def test_not_found(port: int, path: str) -> None:
    """What is not there, not a file, or not inside."""
    response, body = ask(port, path)
    assert (response.status, body) == (404, b"404 Not Found\n")


def test_a_client_that_leaves(port: int) -> None:
    """In the middle of a file; the next one is served, and nothing is logged."""
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(b"GET /media/large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert ask(port, "/media/a.txt")[0].status == 200


def test_a_client_that_reads_late_gets_all(port: int, folder: Path) -> None:
    """The end of the connection does not cut off what is on its way, though more was sent than read."""
    request = b"GET /media/large.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(request + b"GET /media/a.txt HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        answer: Any = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.partition(b"\r\n\r\n")[2] == (folder / "root" / "large.bin").read_bytes()
