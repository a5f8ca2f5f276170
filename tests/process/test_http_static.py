"""Static files over real sockets."""

from __future__ import annotations

import contextlib
import email
import email.policy
import gzip
import http.client
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running import APPD, Running, read_to, wait_until

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
  <static>
    path /listed
    root root
    listing on
    hidden on
    max-age 1h
    charset off
  </static>
  <static>
    path /current
    root current
  </static>
  <redirect>
    path /old
    to /media
    status 301
  </redirect>
  <redirect>
    path /old/exact
    to https://www.example.com/?a=b
    exact on
  </redirect>
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
    (root / ".secret").write_bytes(b"hidden")
    (root / "app.js").write_bytes(b"plain" * 100)
    (root / "app.js.gz").write_bytes(gzip.compress(b"plain" * 100))
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "version").write_text(name)
    (folder / "current").symlink_to("one")
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
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def workers_behind(port: int) -> list[int]:
    """The workers of the supervisor that has the listening socket of a port."""
    wanted = f":{port:04X}"
    with open("/proc/net/tcp") as table:
        inodes = {line.split()[9] for line in table if line.split()[1].endswith(wanted) and line.split()[3] == "0A"}
    holders = []
    for process in (int(one) for one in os.listdir("/proc") if one.isdecimal()):
        with contextlib.suppress(OSError):
            links = {os.readlink(f"/proc/{process}/fd/{fd}") for fd in os.listdir(f"/proc/{process}/fd")}
            if links & {f"socket:[{inode}]" for inode in inodes}:
                holders.append(process)
    parents = {
        process: int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]) for process in holders
    }
    return [process for process in holders if parents[process] in holders and parents[process] != os.getpid()]


def open_files(process: int) -> int:
    """How many regular files of the folder and sockets it has open."""
    count = 0
    for fd in os.listdir(f"/proc/{process}/fd"):
        # One that is closed meanwhile.
        with contextlib.suppress(OSError):
            link = os.readlink(f"/proc/{process}/fd/{fd}")
            count += "/root/" in link or link.startswith("socket:")
    return count


def test_a_file(port: int) -> None:
    """Its length, its type, its date, the mount's header."""
    response, body = ask(port, "/media/a.txt")
    assert (response.status, body) == (200, b"0123456789")
    wanted = {
        "Content-Length": "10",
        "Content-Type": "text/plain; charset=utf-8",
        "Accept-Ranges": "bytes",
        "Server": "appd",
    }
    assert wanted.items() <= dict(response.getheaders()).items()
    assert response.getheader("Cache-Control") == "max-age=60"
    assert response.getheader("Last-Modified") is not None


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("x.tar.gz", "application/gzip"),
        ("x.tar.xz", "application/x-xz"),
        ("data:text,x.css", "text/css; charset=utf-8"),
        ("strange.wxyz", "application/octet-stream"),
        ("with%20space.html", "text/html; charset=utf-8"),
    ],
)
def test_types(port: int, name: str, type_: str) -> None:
    """By the name; what nobody knows is not guessed to be HTML."""
    response, _ = ask(port, f"/media/{name}")
    assert (response.getheader("Content-Type"), response.getheader("Content-Encoding")) == (type_, None)


def test_a_large_file(port: int, folder: Path) -> None:
    """As it is; by curl, another connection of which is kept."""
    url = f"http://127.0.0.1:{port}/media"
    command = ["curl", "-sSf", "--max-time", "30", f"{url}/large.bin", f"{url}/a.txt"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
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


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PROPFIND"])
def test_other_methods(port: int, method: str) -> None:
    """405, and which are allowed."""
    response, _ = ask(port, "/media/a.txt", method)
    assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD, OPTIONS")
    response, body = ask(port, "/media/a.txt", "OPTIONS")
    assert (response.status, response.getheader("Allow"), body) == (204, "GET, HEAD, OPTIONS", b"")


@pytest.mark.parametrize(
    ("field", "status", "body", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-500", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"416 ", "bytes */10"),
        ("bytes=4-2", 200, b"0123456789", None),
        ("bytes=0-1,4-5", 206, b"012345", "bytes 0-5/10"),
        ("bytes=5-6,99-", 206, b"56", "bytes 5-6/10"),
        ("nonsense", 200, b"0123456789", None),
    ],
)
def test_ranges(port: int, field: str, status: int, body: bytes, content_range: str | None) -> None:
    """A part of the file."""
    response, got = ask(port, "/media/a.txt", Range=field)
    assert (response.status, response.getheader("Content-Range")) == (status, content_range)
    # How Python calls a status has changed with its versions.
    assert got == body or (status == 416 and got.startswith(body))


def test_a_large_range(port: int, folder: Path) -> None:
    """More than is sent in one go."""
    _, got = ask(port, "/media/large.bin", Range="bytes=100000-400000")
    assert got == (folder / "root" / "large.bin").read_bytes()[100_000:400_001]


def strong(tag: str | None) -> str | None:
    return tag if tag and not tag.startswith("W/") else None


def test_if_range(port: int) -> None:
    """A part only of the version that the client has."""
    # A file that was changed just now has no version yet that is sure.
    tag = wait_until(lambda: strong(ask(port, "/media/a.txt")[0].getheader("ETag")))
    modified = ask(port, "/media/a.txt")[0].getheader("Last-Modified")
    assert modified is not None
    assert ask(port, "/media/a.txt", Range="bytes=0-0", If_Range=modified)[0].status == 206
    assert ask(port, "/media/a.txt", Range="bytes=0-0", If_Range=tag)[0].status == 206
    other = "Sat, 01 Jan 2000 00:00:00 GMT"
    assert ask(port, "/media/a.txt", Range="bytes=0-0", If_Range=other)[0].status == 200
    assert ask(port, "/media/a.txt", Range="bytes=0-0", If_Range='"tag"')[0].status == 200


def test_several_ranges(port: int, folder: Path) -> None:
    """One body of parts, taken apart by somebody else's parser."""
    response, got = ask(port, "/media/large.bin", Range="bytes=4000000-4099999,0-9,-5")
    assert response.status == 206
    text = f"Content-Type: {response.getheader('Content-Type')}\r\n\r\n".encode() + got
    parts = email.message_from_bytes(text, policy=email.policy.HTTP).get_payload()
    content = (folder / "root" / "large.bin").read_bytes()
    assert [one["Content-Range"] for one in parts] == [
        f"bytes {place}/{len(content)}"
        for place in ("4000000-4099999", "0-9", f"{len(content) - 5}-{len(content) - 1}")
    ]
    assert [one.get_payload(decode=True) for one in parts] == [content[4_000_000:4_100_000], content[:10], content[-5:]]


def test_entity_tags(port: int) -> None:
    """304 without a body, and the connection goes on."""
    # That of a file that was changed just now changes once more, when it is sure.
    tag = wait_until(lambda: strong(ask(port, "/media/a.txt")[0].getheader("ETag")))
    response, body = ask(port, "/media/a.txt", If_None_Match=f'"x", {tag}')
    assert (response.status, body, response.getheader("ETag")) == (304, b"", tag)
    assert response.getheader("Content-Length") in (None, "10")
    assert ask(port, "/media/a.txt", If_Match='"x"')[0].status == 412
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        field = f"If-None-Match: {tag}\r\n".encode()
        one = b"GET /media/a.txt HTTP/1.1\r\nHost: x\r\n"
        client.sendall(
            one + field + b"\r\n" + one.replace(b"GET", b"HEAD") + b"\r\n" + one + b"Connection: close\r\n\r\n"
        )
        answers = b"".join(iter(lambda: client.recv(65536), b""))
    assert [answers.count(status) for status in (b"HTTP/1.1 304 ", b"HTTP/1.1 200 ")] == [1, 2]
    assert answers.endswith(b"\r\n\r\n0123456789") and answers.count(b"0123456789") == 1


def test_a_compressed_copy(port: int, tmp_path: Path) -> None:
    """To curl, which unpacks it; and as it is to whoever takes none."""
    url = f"http://127.0.0.1:{port}/media/app.js"
    command = ["curl", "-sSf", "--max-time", "30", "--compressed", "-D", str(tmp_path / "head"), url]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    head = (tmp_path / "head").read_bytes().lower()
    assert b"\r\ncontent-encoding: gzip\r\n" in head and b"\r\nvary: accept-encoding\r\n" in head
    assert done.stdout == b"plain" * 100
    response, body = ask(port, "/media/app.js")
    assert (response.getheader("Content-Encoding"), response.getheader("Vary"), body) == (
        None,
        "Accept-Encoding",
        b"plain" * 100,
    )


def test_http_1_0(port: int) -> None:
    """By curl: the connection ends, and with --http1.0 nothing is chunked."""
    command = ["curl", "-sSf", "--http1.0", "--max-time", "30", "-i", f"http://127.0.0.1:{port}/media/a.txt"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert b"Content-Length: 10\r\n" in done.stdout and b"Connection: close\r\n" in done.stdout
    assert done.stdout.endswith(b"\r\n\r\n0123456789")


def test_resuming_by_curl(port: int, folder: Path, tmp_path: Path) -> None:
    """What a broken download has left is asked for, and nothing else."""
    content = (folder / "root" / "large.bin").read_bytes()
    half = tmp_path / "half"
    half.write_bytes(content[:3_000_000])
    command = ["curl", "-sSf", "--max-time", "30", "-C", "-", "-o", str(half), "-w", "%{http_code} %{size_download}"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/media/large.bin"], capture_output=True, timeout=60, check=True
    )
    assert done.stdout.decode() == f"206 {len(content) - 3_000_000}"
    assert half.read_bytes() == content


def test_listings(port: int) -> None:
    """Where they are wanted, and with what is hidden where that is."""
    response, body = ask(port, "/listed/")
    assert (response.status, response.getheader("Content-Type")) == (200, "text/html; charset=utf-8")
    assert b'href="./a.txt"' in body and b"./.secret" in body and b"fifo" not in body and b"./out" not in body
    assert ask(port, "/listed")[0].getheader("Location") == "/listed/"
    response, body = ask(port, "/listed/.secret")
    assert (body, response.getheader("Cache-Control")) == (b"hidden", "max-age=3600")
    assert ask(port, "/media/.secret")[0].status == 404
    assert ask(port, "/listed/a.txt")[0].getheader("Content-Type") == "text/plain"
    assert ask(port, "/listed/nothing")[0].getheader("Cache-Control") is None


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/old", 301, "/media"),
        ("/old/a.txt?x=y", 301, "/media/a.txt?x=y"),
        ("/old//evil.example", 301, "/media/evil.example"),
        ("/old/%0d%0aX:y", 301, "/media/%0d%0aX:y"),
        ("/old/exact/whatever?x", 308, "https://www.example.com/?a=b"),
    ],
)
def test_redirects(port: int, path: str, status: int, location: str) -> None:
    """With any method; a body that comes with it does no harm."""
    for method in ("GET", "HEAD", "DELETE"):
        response, _ = ask(port, path, method)
        assert (response.status, response.getheader("Location")) == (status, location)
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "30", "--data-binary", "x" * 5000, "-o", "/dev/null", "-w", "%{http_code}",
         f"http://127.0.0.1:{port}{path}"],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.decode() == str(status)


def test_a_deployment(port: int, folder: Path) -> None:
    """The root is a link: from the moment on that it leads elsewhere, that is served."""
    for number in range(10):
        name = ("two", "one")[number % 2]
        (folder / "next").symlink_to(name)
        (folder / "next").rename(folder / "current")
        assert ask(port, "/current/version")[1] == name.encode()


def test_a_file_that_shrinks_meanwhile(port: int, folder: Path) -> None:
    """Nothing is made up for what is missing: the connection ends before the length that was announced."""
    file = folder / "root" / "shrinks"
    size = 64 * 1024**2
    file.write_bytes(b"")
    os.truncate(file, size)
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(b"GET /media/shrinks HTTP/1.1\r\nHost: x\r\n\r\nGET /media/a.txt HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = read_to(client, b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % size in answer
        os.truncate(file, 1024**2)
        length = len(answer)
        # Reset or closed: what matters is that the client can tell.
        with contextlib.suppress(ConnectionResetError):
            while block := client.recv(1 << 20):
                length += len(block)
                assert b"HTTP/1.1" not in block
    assert length < size
    assert ask(port, "/media/shrinks")[0].getheader("Content-Length") == str(1024**2)


def test_a_file_that_grows_meanwhile(port: int, folder: Path) -> None:
    """What was announced is sent, and then the next response."""
    file = folder / "root" / "grows"
    size = 32 * 1024**2
    file.write_bytes(b"")
    os.truncate(file, size)
    with socket.create_connection(("127.0.0.1", port), 30) as client, file.open("ab") as more:
        client.sendall(b"GET /media/grows HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = read_to(client, b"\r\n\r\n")
        more.write(b"x" * 100_000)
        more.flush()
        client.sendall(b"GET /media/a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head, _, begun = answer.partition(b"\r\n\r\n")
        left = size - len(begun)
        while left:
            left -= len(client.recv(min(left, 1 << 20)))
        rest = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"Content-Length: %d" % size in head
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n") and rest.endswith(b"0123456789")


def test_a_file_that_becomes_something_else(port: int, folder: Path) -> None:
    """A FIFO in its place is not opened, so that nobody waits for it, us included."""
    file = folder / "root" / "changes"
    file.write_bytes(b"before")
    assert ask(port, "/media/changes")[1] == b"before"
    file.unlink()
    os.mkfifo(file)
    assert ask(port, "/media/changes")[0].status == 404
    with pytest.raises(OSError, match="No such device"):
        os.open(file, os.O_WRONLY | os.O_NONBLOCK)
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert ask(port, "/media/changes")[0].status == 404


def test_no_descriptor_is_lost(port: int) -> None:
    """Whatever was answered, and however the client has left."""
    (worker,) = workers_behind(port)
    before = open_files(worker)
    for _ in range(20):
        for path, fields in (("a.txt", {}), ("large.bin", {"Range": "bytes=0-5,900-905"}), ("a.txt", {"If_None_Match": "*"}),
                             ("app.js", {"Accept_Encoding": "gzip"}), ("out", {}), ("fifo", {}), ("sub", {}), ("large.bin", {"Range": "bytes=1-9"})):  # fmt: skip
            ask(port, f"/media/{path}", **fields)
            ask(port, f"/media/{path}", "HEAD", **fields)
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            client.sendall(b"GET /media/large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(1000)
    wait_until(lambda: open_files(worker) <= before, explain=lambda: f"{open_files(worker)} instead of {before}")


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
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            client.sendall(b"GET /media/large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_to(client, b"\r\n").startswith(b"HTTP/1.1 200")
    assert ask(port, "/media/a.txt")[0].status == 200


def test_a_client_that_reads_late_gets_all(port: int, folder: Path) -> None:
    """The end of the connection does not cut off what is on its way, though more was sent than read."""
    request = b"GET /media/large.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(request + b"GET /media/a.txt HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        answer: Any = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.partition(b"\r\n\r\n")[2] == (folder / "root" / "large.bin").read_bytes()


def test_on_an_address_that_twisted_binds(folder: Path) -> None:
    """The loop says the same: files, ranges, conditions, copies, listings, redirects."""
    here = folder / "by-twisted"
    here.mkdir()
    address = "address haproxy:tcp:0:interface=127.0.0.1"
    (here / "appd.conf").write_text(CONFIGURATION.replace("address systemd:name=web", address))
    (here / "root").symlink_to("../root")
    (here / "current").symlink_to("../one")
    running = Running([APPD, "run", str(here / "appd.conf")], here)
    try:
        running.wait_ready()
        found = wait_until(lambda: re.search(r"port=(\d+)", running.errors), explain=lambda: running.errors)

        def answer(path: str, *fields: str, method: str = "GET") -> tuple[bytes, bytes]:
            lines = ["PROXY TCP4 192.0.2.1 192.0.2.2 1 2", f"{method} {path} HTTP/1.1", "Host: x", "Connection: close"]
            with socket.create_connection(("127.0.0.1", int(found[1])), 30) as client:
                client.sendall("".join(f"{one}\r\n" for one in (*lines, *fields, "")).encode())
                head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
            return head + b"\r\n", body

        head, body = answer("/media/a.txt")
        assert head.startswith(b"HTTP/1.1 200 ") and body == b"0123456789"
        tag = re.search(rb"\r\nE[Tt]ag: (.*)\r\n", head)
        assert tag is not None
        assert answer("/media/a.txt", f"If-None-Match: {tag[1].decode()}")[0].startswith(b"HTTP/1.1 304 ")
        assert answer("/media/a.txt", "Range: bytes=2-4")[1] == b"234"
        assert answer("/media/large.bin")[1] == (folder / "root" / "large.bin").read_bytes()
        head, body = answer("/media/large.bin", "Range: bytes=0-9,2000000-2000009")
        assert b"multipart/byteranges" in head and body.count(b"Content-Range: bytes ") == 2
        assert answer("/media/large.bin", "Range: bytes=2-99", method="HEAD")[1] == b""
        assert gzip.decompress(answer("/media/app.js", "Accept-Encoding: gzip")[1]) == b"plain" * 100
        assert b'href="./a.txt"' in answer("/listed/")[1]
        assert b"\r\nLocation: /media/sub/?a=b\r\n" in answer("/media/sub?a=b")[0]
        assert b"\r\nLocation: /media/%c3%a4?x=y\r\n" in answer("/old/%c3%a4?x=y")[0]
        for path in ("/media/out", "/media/fifo", "/media/.secret", "/media/..%2fsecret"):
            assert answer(path)[0].startswith(b"HTTP/1.1 404 ")
        assert running.stop() == 0
        assert "Traceback" not in running.errors
    finally:
        running.close()
