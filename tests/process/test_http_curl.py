"""curl as the client: another reading of the RFCs than ours, in every manner that it knows."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running import APPD, Running

APPLICATIONS = Path(__file__).parents[1] / "applications"
CONTENT = bytes(range(251)) * 4000

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


class Curl:
    """Where to, and what curl says of it."""

    def __init__(self, port: int, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder

    def __call__(self, *arguments: str, body: bytes | None = None) -> bytes:
        command = [
            "curl",
            "-sS",
            "--max-time",
            "30",
            "--noproxy",
            "*",
            *(one.replace("@", self.url) for one in arguments),
        ]
        done = subprocess.run(command, input=body, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@pytest.fixture(scope="module")
def curl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Curl]:
    """One appd with files and applications, on TCP and UNIX."""
    folder = tmp_path_factory.mktemp("curl")
    (folder / "root").mkdir()
    (folder / "root" / "file.bin").write_bytes(CONTENT)
    os.utime(folder / "root" / "file.bin", (1_700_000_000, 1_700_000_000))
    (folder / "appd.conf").write_text(
        f"<http web>\n address systemd:name=web\n address {folder}/web.sock\n"
        f" <wsgi>\n  application {APPLICATIONS}/validated.py:application\n </wsgi>\n"
        " <static>\n  path /files\n  root root\n </static>\n"
        " <redirect>\n  path /moved\n  to /body_echoed\n  exact on\n </redirect>\n"
        " <redirect>\n  path /seen\n  to /said\n  exact on\n  status 303\n </redirect>\n</http>\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as sock:
        running = Running([APPD, "run", str(folder / "appd.conf")], folder, [("web", sock)])
        try:
            running.wait_ready()
            yield Curl(sock.getsockname()[1], folder)
            assert running.stop() == 0
        finally:
            running.close()


def test_keep_alive(curl: Curl) -> None:
    """Ten requests, one connection."""
    said = curl(
        *["-o", os.devnull] * 10, "-w", "%{http_code} %{num_connects}\n", *["@/files/file.bin", "@/generated"] * 5
    )
    assert said.split() == [b"200", b"1"] + [b"200", b"0"] * 9


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_versions(curl: Curl, version: str) -> None:
    """A body without a length ends with the connection, or is chunked."""
    said = curl(version, "-i", "@/generated")
    assert (b"Transfer-Encoding: chunked" in said) is (version == "--http1.1")
    assert said.endswith(b"1 2 3 4 5 6 7 8 9 11 12 13 14 15 16 17 18 19 " + said.partition(b" 19 ")[2])
    assert curl(version, "@/files/file.bin") == CONTENT


def test_head(curl: Curl) -> None:
    """-I, on a connection that goes on."""
    said = curl("-I", "@/files/file.bin", "@/with_a_length", "@/generated", "-w", "%{num_connects}\n").replace(
        b"\r", b""
    )
    assert said.count(b"HTTP/1.1 200 OK") == 3
    assert b"Content-Length: %d\n" % len(CONTENT) in said and b"Content-Length: 10\n" in said
    assert re.findall(rb"^[01]$", said, re.M) == [b"1", b"0", b"0"]


def test_ranges(curl: Curl) -> None:
    """-r, one and several; -C goes on where something broke off; -z asks whether there is something new."""
    assert curl("-r", "1000-1999", "@/files/file.bin") == CONTENT[1000:2000]
    assert curl("-r", "-500", "@/files/file.bin") == CONTENT[-500:]
    assert curl("-r", "0-9,500000-", "@/files/file.bin").count(b"Content-Range: bytes ") == 2
    assert curl("-r", "9000000-", "-o", os.devnull, "-w", "%{http_code}", "@/files/file.bin") == b"416"
    saved = curl.folder / "saved"
    saved.write_bytes(CONTENT[:700_000])
    curl("-C", "-", "-o", str(saved), "@/files/file.bin")
    assert saved.read_bytes() == CONTENT
    assert curl("-z", "1 Jan 2030", "-w", "%{http_code}", "@/files/file.bin") == b"304"
    assert curl("-z", "1 Jan 2001", "-o", os.devnull, "-w", "%{http_code}", "@/files/file.bin") == b"200"


def test_etags(curl: Curl) -> None:
    """--etag-save and --etag-compare."""
    tag = str(curl.folder / "tag")
    assert curl("--etag-save", tag, "@/files/file.bin") == CONTENT
    assert curl("--etag-compare", tag, "-w", "%{http_code}", "@/files/file.bin") == b"304"


@pytest.mark.parametrize("size", [0, 1, 1023, 1_000_000, 3_000_000])
@pytest.mark.parametrize(
    "how", [[], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"], ["--http1.0"]]
)
def test_uploads(curl: Curl, how: list[str], size: int) -> None:
    """-T: with a length, chunked, after a 100, in 1.0; and back."""
    if "chunked" in str(how) and not size:
        pytest.skip("curl 7.88 sends no last chunk of an empty file")
    body = os.urandom(size)
    (curl.folder / "up").write_bytes(body)
    up = str(curl.folder / "up")
    assert curl(*how, "-T", up, "@/body_by_read") == hashlib.sha256(body).hexdigest().encode()
    assert curl(*how, "-T", up, "@/body_echoed") == body


def test_100_continue(curl: Curl) -> None:
    """Comes when the body is wanted, and before it; to a file nobody sends one."""
    done = subprocess.run(
        ["curl", "-sv", "--max-time", "30", "--noproxy", "*", "--expect100-timeout", "20", "-H", "Expect: 100-continue",
         "--data-binary", "x" * 100, f"{curl.url}/body_by_read"],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert b"< HTTP/1.1 100 Continue" in done.stderr
    assert done.stdout == hashlib.sha256(b"x" * 100).hexdigest().encode()


def test_forms(curl: Curl) -> None:
    """-d and -F, whose bodies an application gets as they are."""
    assert curl("-d", "a=b", "--data-urlencode", "c=ä &", "@/body_echoed") in (
        b"a=b&c=%C3%A4%20%26",
        b"a=b&c=%C3%A4+%26",
    )
    said = curl("-F", "file=<-", "@/body_echoed", body=b"in a form")
    assert b"\r\n\r\nin a form\r\n--" in said


def test_redirects(curl: Curl) -> None:
    """-L: 308 keeps method and body, 303 makes a GET of it."""
    assert curl("-L", "--data-binary", "kept", "@/moved/x") == b"kept"
    said = json.loads(curl("-L", "-d", "dropped", "@/seen"))
    assert said["REQUEST_METHOD"] == "GET"
    assert curl("-o", os.devnull, "-w", "%{http_code} %{redirect_url}", "@/files").decode() == "404 "


def test_a_unix_socket(curl: Curl) -> None:
    """--unix-socket."""
    assert curl("--unix-socket", str(curl.folder / "web.sock"), "http://x.example/files/file.bin") == CONTENT
    said = json.loads(curl("--unix-socket", str(curl.folder / "web.sock"), "http://x.example/said"))
    assert said["HTTP_HOST"] == "x.example"


def test_paths_that_climb(curl: Curl) -> None:
    """--path-as-is leaves them in, and they lead nowhere."""
    for path in ("/files/../appd.conf", "/files/%2e%2e/appd.conf", "/files/..%2fappd.conf", "/files/..%5cappd.conf"):
        assert curl("--path-as-is", "-o", os.devnull, "-w", "%{http_code}", f"@{path}") == b"404"


def test_many_at_once(curl: Curl) -> None:
    """--parallel."""
    names = [str(curl.folder / f"got{number}") for number in range(30)]
    wanted = [one for name in names for one in ("-o", name, "@/files/file.bin")]
    curl("--parallel", "--parallel-max", "30", *wanted)
    assert all(Path(name).read_bytes() == CONTENT for name in names)
