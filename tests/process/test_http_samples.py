"""Frameworks side by side in one server, by the snippet of docs/http.md: Django, FastAPI, Starlette, Flask, klein."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.authority import Authority
from support.running import APPD, Running
from websockets.sync.client import connect

ROOT = Path(__file__).parents[2]
APPLICATIONS = ROOT / "tests" / "applications"


def snippet() -> str:
    """The configuration that the manual shows for this."""
    text = (ROOT / "docs" / "http.md").read_text()
    found = re.search(r"```\n(<http everything>\n.*?</http>\n)```", text, re.S)
    assert found is not None
    return found[1]


ROOT_OF_TLS = Authority()


class Ports(NamedTuple):
    """Where the server listens."""

    plain: int
    tls: int


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    """One appd with all of them, over TCP and TLS."""
    folder = tmp_path_factory.mktemp("samples")
    data = folder / "data"
    (data / "static").mkdir(parents=True)
    (data / "static" / "style.css").write_text("p {}")
    ROOT_OF_TLS.issue("localhost").write(folder / "site.pem")
    paths = f"python-path {APPLICATIONS}/shop\npython-path {APPLICATIONS}\n<environment>\n  SHOP_DATA {data}\n</environment>\n"
    tls = f"  tls-address systemd:name=https\n  <tls>\n    certificate {folder}/site.pem\n  </tls>\n</http>\n"
    text = snippet().replace("/srv/shop", str(data)).replace("</http>\n", tls)
    (folder / "appd.conf").write_text(paths + text)
    environ = {**os.environ, "SHOP_DATA": str(data), "PYTHONDONTWRITEBYTECODE": "1"}
    manage = [sys.executable, str(APPLICATIONS / "shop" / "manage.py"), "migrate", "--verbosity=0"]
    subprocess.run(manage, env=environ, check=True, timeout=120)
    with socket.create_server(("127.0.0.1", 0)) as sock, socket.create_server(("127.0.0.1", 0)) as https:
        passed = [("http", sock), ("https", https)]
        running = Running([APPD, "run", str(folder / "appd.conf")], folder, passed, environ=environ)
        try:
            running.wait_ready(60)
            yield Ports(sock.getsockname()[1], https.getsockname()[1])
            assert running.stop() == 0
            assert "Traceback" not in running.errors
        finally:
            running.close()


@pytest.fixture
def port(ports: Ports) -> int:
    return ports.plain


@pytest.mark.parametrize("tls", [False, True], ids=["segment", "record"])
def test_all_on_one_connection(ports: Ports, tls: bool) -> None:
    """Each kind twice, in one segment or one record of TLS: by Django, FastAPI, Starlette, Flask and klein, and a file."""
    wanted = {
        "/where/x": b"/where/x",
        "/api/items/7?q=a": b'{"id":7,"q":"a","root":"/api"}',
        "/live/lines": b"line 0\nline 1\nline 2\n",
        "/notes/": b'"here":"/notes/"',
        "/shelf/moby": b"moby is on the shelf",
        "/static/style.css": b"p {}",
    }
    paths = [*wanted, *wanted]
    data = "".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in paths).encode()
    data = data[:-2] + b"Connection: close\r\n\r\n"
    # One call of OpenSSL's write is one record as long as it fits: RFC 8446, 5.1.
    assert len(data) < 16384
    client = socket.create_connection(("127.0.0.1", ports.tls if tls else ports.plain), timeout=30)
    if tls:
        context = ssl.create_default_context(cadata=ROOT_OF_TLS.pem.decode())
        client = context.wrap_socket(client, server_hostname="localhost")
    with client:
        client.sendall(data)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    answers = answer.split(b"HTTP/1.1 ")[1:]
    assert [int(one[:3]) for one in answers] == [200] * len(paths), answer
    for path, one in zip(paths, answers, strict=True):
        plain = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", one.partition(b"\r\n\r\n")[2])
        assert wanted[path] in plain or wanted[path] in one.replace(b'": "', b'":"'), (path, one)


def test_posts(port: int) -> None:
    """Bodies, checked by FastAPI."""
    url = f"http://127.0.0.1:{port}/api/items"
    for body, status in (('{"name": "tea", "price": 2.5}', "200"), ('{"name": 1}', "422")):
        command = [
            "curl",
            "-sS",
            "--max-time",
            "30",
            "-H",
            "Content-Type: application/json",
            "-d",
            body,
            "-w",
            " %{http_code}",
            url,
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert said.endswith(f" {status}"), said


def test_a_websocket(port: int) -> None:
    """Starlette's, with what the lifespan has made."""
    with connect(f"ws://127.0.0.1:{port}/live/talk") as client:
        client.send(json.dumps({"say": "hello"}))
        assert json.loads(client.recv(30)) == {"said": "hello", "pool": "a pool"}


def test_by_http2(port: int) -> None:
    """The same by nghttp, at once."""
    paths = ("/where/x", "/api/items/7?q=a", "/live/lines", "/notes/", "/shelf/moby", "/static/style.css")
    command = ["nghttp", *(f"http://127.0.0.1:{port}{path}" for path in paths)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    for part in ("/where/x", '"id":7', "line 2", "/notes/", "moby is on the shelf", "p {}"):
        assert part in said
