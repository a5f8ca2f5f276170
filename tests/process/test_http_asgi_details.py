"""The fine print of ASGI: what is told after the end, who fails where, streams both ways, and what other drivers share."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.running import Running, listening, read_to, wait_until
from support.service import Service

APPLICATION = """
import asyncio, os, sys, time

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}

async def answer(send, body):
    await send(START)
    await send({"type": "http.response.body", "body": body})

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"].update(number=1, shared=[])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    if path == "/state":
        scope["state"]["number"] += 1
        scope["state"]["shared"].append(1)
        scope["headers"].append((b"mine", b"1"))
        scope["extensions"]["mine"] = {}
        await answer(send, repr((scope["state"]["number"], len(scope["state"]["shared"]))).encode())
    elif path == "/scope":
        await answer(send, repr((sorted(scope["extensions"]), scope["asgi"], scope["headers"])).encode())
    elif path == "/push":
        try:
            await send({"type": "http.response.push", "path": "/x", "headers": []})
        except RuntimeError as error:
            await answer(send, str(error).encode())
    elif path == "/after":
        first = await receive()
        await answer(send, b"answered")
        print("after", first["type"], (await receive())["type"], (await receive())["type"])
        try:
            await send({"type": "http.response.body", "body": b"more"})
        except RuntimeError as error:
            print("refused", error)
    elif path == "/fails_after_start":
        await send(START)
        raise RuntimeError("behind the head")
    elif path == "/fails_at_the_end":
        await answer(send, b"answered")
        raise RuntimeError("behind the end")
    elif path == "/twice":
        await send(START)
        try:
            await send(START)
        except RuntimeError as error:
            await send({"type": "http.response.body", "body": str(error).encode()})
    elif path == "/relative":
        await send(START)
        await send({"type": "http.response.pathsend", "path": "relative"})
    elif path == "/missing":
        await send(START)
        await send({"type": "http.response.pathsend", "path": "/nowhere/at/all"})
    elif path == "/file":
        await send(START)
        await send({"type": "http.response.pathsend", "path": os.path.abspath("hosted.bin")})
    elif path == "/echo":
        await send(START)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                print("echo: told of the end")
                break
            await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
            if not message["more_body"]:
                return
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0.01)
        except OSError as error:
            print("echo: cannot send:", error)
            raise
    elif path == "/endless":
        await send(START)
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                app.sent = getattr(app, "sent", 0) + 65536
        except OSError:
            print("endless: left")
    elif path == "/sent":
        await answer(send, b"%d" % getattr(app, "sent", 0))
    elif path == "/deaf":
        open("deaf.here", "w").close()
        while not os.path.exists("deaf.go"):
            await asyncio.sleep(0.01)
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await answer(send, b"%d" % size)
    elif path == "/cancelled":
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("cancelled")
            raise
    elif path == "/hang":
        time.sleep(60)
    else:
        await answer(send, b"\\n%d" % os.getpid())

def wsgi(environ, start_response):
    start_response("200 OK", [("X-Kind", "mine")])
    return [b"wsgi"]

from twisted.web.resource import Resource
class Page(Resource):
    isLeaf = True
    def render_GET(self, request):
        request.setHeader(b"X-Kind", b"mine")
        return b"page"
page = Page()
"""


class Site:
    """A running server."""

    def __init__(self, running: Running, sock: socket.socket, folder: Path) -> None:
        self.running = running
        self.sock = sock
        self.folder = folder

    def connect(self) -> socket.socket:
        return socket.create_connection(self.sock.getsockname(), timeout=30)

    def ask(self, path: str, method: str = "GET") -> bytes:
        """Asks on a connection of its own."""
        with self.connect() as client:
            client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.fixture
def site(start: Callable[..., Running], tmp_path: Path) -> Callable[..., Site]:
    def make(server: str = "", mounts: str = "<asgi>\n application hosted:app\n</asgi>") -> Site:
        (tmp_path / "hosted.py").write_text(APPLICATION)
        sock = listening()
        text = f"python-path ..\n<http web>\n address systemd:name=web\n{server}\n{mounts}\n</http>\n"
        return Site(start(text, ("web", sock), arguments=("--single",)).wait_ready(), sock, tmp_path / "run0")

    return make


def test_each_request_has_its_own(site):
    """A state, fields and extensions that it may change; what is in the state is shared."""
    served = site()
    assert [served.ask("/state")[-6:] for _ in range(3)] == [b"(2, 1)", b"(2, 2)", b"(2, 3)"]
    said = served.ask("/scope").partition(b"\r\n\r\n")[2]
    extensions, about, fields = eval(said)
    # Trailers are for who asks for them, and HTTP/2's push is gone from the world (RFC 9113, 8.4, makes it optional).
    assert extensions == ["http.response.early_hint", "http.response.pathsend"]
    assert about["version"] == "3.0"
    assert fields == [(b"host", b"x"), (b"connection", b"close")]
    assert b"'http.response.push' is no message of ASGI that is known here" in served.ask("/push")


def test_after_the_end(site):
    """Who asks on is told that the client has gone, and whoever sends on that it is not its turn."""
    served = site()
    with served.connect() as client:
        for _ in range(2):
            client.sendall(b"GET /after HTTP/1.1\r\nHost: x\r\n\r\n")
            read_to(client, b"answered")
    served.running.wait_said("after http.request http.disconnect http.disconnect")
    served.running.wait_said("refused http.response.body was sent when it was not its turn")


def test_who_fails_where(site):
    """A head that has not gone out becomes a 500; behind the end nothing is changed, and the connection goes on."""
    served = site()
    assert served.ask("/fails_after_start").startswith(b"HTTP/1.1 500 ")
    served.running.wait_said("behind the head")
    with served.connect() as client:
        for _ in range(3):
            client.sendall(b"GET /fails_at_the_end HTTP/1.1\r\nHost: x\r\n\r\n")
            read_to(client, b"answered")
    served.running.wait_said("behind the end")
    assert served.ask("/twice").endswith(b"http.response.start was sent twice")


def test_files_that_are_none(site):
    """500 and the reason; HEAD has the length and no byte."""
    served = site()
    (served.folder / "hosted.bin").write_bytes(b"y" * 100_000)
    for path in ("/relative", "/missing"):
        assert served.ask(path).startswith(b"HTTP/1.1 500 ")
    served.running.wait_said("is no absolute path")
    served.running.wait_said("/nowhere/at/all")
    assert served.ask("/file").endswith(b"\r\n\r\n" + b"y" * 100_000)
    head = served.ask("/file", "HEAD")
    assert b"Content-Length: 100000\r\n" in head
    assert head.endswith(b"\r\n\r\n")


def test_both_ways_at_once(site):
    """Each part comes back before the next is sent; who leaves in between is missed by `receive` and by `send`."""
    served = site()
    with served.connect() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            client.sendall(b"6\r\npart %d\r\n" % number)
            data = b""
            while b"part %d" % number not in data:
                part = client.recv(65536)
                assert part, data
                data += part
    served.running.wait_said("echo: told of the end")
    served.running.wait_said("echo: cannot send: the client has left")
    wait_until(lambda: served.ask("/").startswith(b"HTTP/1.1 200"))
    # It is the client's doing, and nobody's failure.
    assert "the application failed" not in served.running.errors


def test_nobody_is_outrun(site):
    """A client that does not read stops the application, one that is not read from stops its client."""
    served = site()
    with served.connect() as slow:
        slow.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")

        def stands_still() -> bool:
            first = served.ask("/sent").rpartition(b"\n")[2]
            time.sleep(0.5)
            return first != b"0" and served.ask("/sent").rpartition(b"\n")[2] == first

        wait_until(stands_still, 30)
        assert int(served.ask("/sent").rpartition(b"\n")[2]) < 20_000_000
    served.running.wait_said("endless: left")
    with served.connect() as client:
        client.sendall(b"POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
        wait_until(lambda: (served.folder / "deaf.here").exists())
        client.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 50_000_000:
                sent += client.send(b"z" * min(65536, 50_000_000 - sent))
        assert sent < 20_000_000
        client.settimeout(20)
        (served.folder / "deaf.go").touch()
        while sent < 50_000_000:
            sent += client.send(b"z" * min(65536, 50_000_000 - sent))
        assert read_to(client, b"50000000").startswith(b"HTTP/1.1 200 ")


def test_a_body_that_is_none_before_the_call_has_begun(site):
    """In one packet with the head: the call is cancelled before it begins, and a stop does not wait for it."""
    served = site()
    for _ in range(20):
        with served.connect() as client:
            client.sendall(b"POST /cancelled HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
            assert read_to(client, b"\r\n").startswith(b"HTTP/1.1 400 ")
    began = time.monotonic()
    assert served.running.stop() == 0
    assert time.monotonic() - began < 20
    assert "cancelled" not in served.running.errors


def test_headers_of_every_kind_of_mount(site, tmp_path):
    """What the file says goes in place of what the mount says, whatever the mount is."""
    (tmp_path / "a.txt").write_text("a file")
    behind = site(mounts="<wsgi>\n application hosted:wsgi\n</wsgi>")
    port = behind.sock.getsockname()[1]
    kinds = {
        "wsgi": "application hosted:wsgi",
        "asgi": "application hosted:app",
        "resource": "resource hosted:page",
        "static": f"root {tmp_path}",
        "redirect": "to /elsewhere",
        "proxy": f"upstream 127.0.0.1:{port}",
    }
    mounts = "".join(
        f"<{kind}>\n path /{kind}\n header X-Kind {kind}\n header X-Other of the file\n {more}\n</{kind}>\n"
        for kind, more in kinds.items()
    )
    served = site(mounts=mounts)
    for kind in kinds:
        head = served.ask(f"/{kind}/a.txt").partition(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"http/1.1 30" if kind == "redirect" else b"http/1.1 200"), (kind, head)
        assert head.count(b"x-kind:") == 1, (kind, head)
        assert f"x-kind: {kind}".encode() in head and b"x-other: of the file" in head


def test_a_loop_that_hangs(start: Callable[..., Running], tmp_path: Path) -> None:
    """The worker is dumped, with the application's line, and replaced."""
    (tmp_path / "asleep.py").write_text(APPLICATION)
    servers = "<http web>\n address systemd:name=h\n <asgi>\n  application asleep:app\n </asgi>\n</http>\n"
    made = Service(start, tmp_path, "watchdog 3s\n", servers)
    first = made.pid()
    with socket.create_connection(made.passed.getsockname()) as client:
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        made.running.wait_said("has not answered for 3 s: it is killed")
        made.running.wait_said("its stacks:")
        made.running.wait_said('asleep.py", line')
    assert made.pid() != first
