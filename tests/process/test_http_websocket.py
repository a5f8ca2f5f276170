"""WebSockets of ASGI applications, by the client of the `websockets` library and by hand."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.running import Running, listening, read_exactly, wait_until
from support.service import Service
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

APPLICATION = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise ValueError(scope["type"])
    path = scope["path"]
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"plain"})
        return
    assert (await receive())["type"] == "websocket.connect"
    if path == "/no":
        await send({"type": "websocket.close"})
        return
    if path == "/denied":
        await send({"type": "websocket.http.response.start", "status": 418, "headers": [(b"x-why", b"tea")]})
        await send({"type": "websocket.http.response.body", "body": b"a tea", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"pot"})
        return
    if path == "/fails":
        raise RuntimeError("no handshake")
    chosen = scope["subprotocols"][-1] if scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": chosen, "headers": [(b"x-one", b"1")]})
    if path == "/flood":
        while True:
            await send({"type": "websocket.send", "bytes": b"x" * 65536})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("ended", message["code"], message["reason"])
            return
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4001, "reason": "as you say"})
        elif message.get("text") == "fail":
            raise RuntimeError("in the middle")
        elif message.get("text") == "return":
            return
        elif message.get("text") == "scope":
            await send({"type": "websocket.send", "text": repr((scope["scheme"], scope["root_path"], scope["path"]))})
        elif message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
"""

CONFIGURATION = """
python-path ..
<log>
  format json
</log>
<http web>
  address systemd:name=web
  {server}
  <asgi>
    application sockets:app
    {keys}
  </asgi>
  {more}
</http>
"""
# With a mount of the lane a connection begins there.
HANDED = "<redirect>\n path /redirect\n to /\n</redirect>"


class Site:
    """A running server."""

    def __init__(self, running: Running, address: Any) -> None:
        self.running = running
        self.address = address

    def connect(self, path: str = "/", **options: Any) -> ClientConnection:
        """A WebSocket."""
        return connect(f"ws://127.0.0.1:{self.address[1]}{path}", open_timeout=30, close_timeout=30, **options)

    def raw(self, *fields: str) -> socket.socket:
        """A connection on which a handshake was sent."""
        client = socket.create_connection(self.address, timeout=30)
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        lines = [
            "GET / HTTP/1.1",
            "Host: x",
            "Upgrade: websocket",
            "Connection: upgrade",
            *(fields or (key, "Sec-WebSocket-Version: 13")),
        ]
        client.sendall("".join(f"{one}\r\n" for one in lines).encode() + b"\r\n")
        return client


@pytest.fixture(params=["loop", "handed"])
def site(request: Any, start: Callable[..., Running], tmp_path: Path) -> Any:
    """Makes a site where connections begin on the loop, and one where the lane hands them over."""

    def make(keys: str = "", server: str = "") -> Site:
        (tmp_path / "sockets.py").write_text(APPLICATION)
        sock = listening()
        more = HANDED if request.param == "handed" else ""
        text = CONFIGURATION.format(keys=keys, server=server, more=more)
        return Site(start(text, ("web", sock), arguments=("--single",)).wait_ready(), sock.getsockname())

    return make


def read_head(client: socket.socket) -> bytes:
    """What comes up to the end of a head."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        if not part:
            break
        data += part
    return data


def test_messages(site: Any) -> None:
    """Text and bytes, of all sizes, whole and in fragments, compressed and not."""
    served = site()
    for compression in (None, "deflate"):
        with served.connect(compression=compression, max_size=None) as client:
            assert (client.protocol.extensions != []) == (compression is not None)
            for size in (0, 1, 125, 126, 65535, 65536, 1_000_000):
                client.send("ä" * size)
                assert client.recv(30) == "ä" * size
                client.send(bytes(size))
                assert client.recv(30) == bytes(size)
            client.send(["in ", "three ", "parts"])
            assert client.recv(30) == "in three parts"
            client.send("scope")
            assert client.recv(30) == "('ws', '', '/')"


def test_a_subprotocol_and_a_field(site: Any) -> None:
    """What the application chooses and adds to the handshake."""
    with site().connect(subprotocols=["one", "two"]) as client:
        assert client.subprotocol == "two"
        assert client.response.headers["x-one"] == "1"


def test_an_application_that_says_no(site: Any) -> None:
    """403, or a response of its own; the connection goes on with HTTP. One that fails is a 500."""
    served = site()
    for path, status, body in (("/no", 403, b""), ("/denied", 418, b"a teapot"), ("/fails", 500, None)):
        with pytest.raises(InvalidStatus) as caught:
            served.connect(path)
        assert caught.value.response.status_code == status
        assert body is None or caught.value.response.body == body
    assert "no handshake" in served.running.wait_said("no handshake")


def test_a_handshake_that_is_none(site: Any) -> None:
    """400 and 426; without Upgrade it is a request."""
    served = site()
    with served.raw("Sec-WebSocket-Key: short", "Sec-WebSocket-Version: 13") as client:
        assert read_head(client).startswith(b"HTTP/1.1 400 ")
    with served.raw("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 8") as client:
        head = read_head(client)
        assert head.startswith(b"HTTP/1.1 426 ")
        assert b"Sec-WebSocket-Version: 13" in head
    with socket.create_connection(served.address) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"plain" in b"".join(iter(lambda: client.recv(65536), b""))


def test_websocket_off(site: Any) -> None:
    """The request is one of HTTP."""
    with site("websocket off").raw() as client:
        assert read_head(client).startswith(b"HTTP/1.1 200 ")


def test_frames_behind_the_handshake(site: Any) -> None:
    """In one segment with it."""
    served = site()
    with socket.create_connection(served.address, timeout=30) as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            b"\x81\x82\0\0\0\0hi"
        )
        data = b""
        while not data.endswith(b"\x81\x02hi"):
            data += client.recv(1000)
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in data


def test_who_closes(site: Any) -> None:
    """Codes and reasons in both directions."""
    served = site()
    with served.connect() as client:
        client.close(4321, "enough")
    served.running.wait_said("ended 4321 enough")
    for said, code in (("close", 4001), ("return", 1000), ("fail", 1011)):
        with served.connect() as client:
            client.send(said)
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(30)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == code
    with served.connect() as client:
        client.socket.shutdown(socket.SHUT_RDWR)
        served.running.wait_said("ended 1006")


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\x83\x80\0\0\0\0", 1002),  # a reserved opcode
        (b"\x81\x02hi", 1002),  # not masked
        (b"\x81\x81\0\0\0\0\xff", 1007),  # not UTF-8
        (b"\x89\xfe\0\x7e\0\0\0\0" + bytes(126), 1002),  # a ping that is too long
        (b"\x80\x80\0\0\0\0", 1002),  # a continuation of nothing
        (b"\x82\xff\0\0\0\0\0\x20\0\0\0\0\0\0" + bytes(100_000), 1009),  # too big
    ],
    ids=["opcode", "unmasked", "text", "ping", "continuation", "size"],
)
def test_a_client_that_breaks_the_rules(site: Any, frames: bytes, code: int) -> None:
    """It is told which, by the code."""
    with site("message-size 60KB").raw() as client:
        read_head(client)
        client.sendall(frames)
        data = read_exactly(client, 4)
        assert data[:1] == b"\x88"
        assert int.from_bytes(data[2:4], "big") == code


def test_a_bomb(site: Any) -> None:
    """What is small as long as it is compressed counts as what it is."""
    with site("message-size 1MB").connect(max_size=None) as client, pytest.raises(ConnectionClosedError) as caught:
        client.send(bytes(50_000_000))
        client.recv(20)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009


def test_a_client_that_has_gone_quietly(site: Any) -> None:
    """It is pinged, and cut when it does not answer; one that answers stays."""
    served = site("ping-interval 1s\nping-timeout 5s")
    with served.raw() as dead, served.connect() as living:
        read_head(dead)
        assert read_exactly(dead, 2) == b"\x89\x00"
        served.running.wait_said("ended 1011 keepalive")
        living.send("here")
        assert living.recv(30) == "here"


def test_a_reader_that_takes_nothing(site: Any) -> None:
    """The application waits, and the memory does not grow; after the write time-out it is cut."""
    served = site(server="<limits>\n write-timeout 1s\n</limits>")
    with socket.create_connection(served.address, timeout=30) as client:
        client.sendall(
            b"GET /flood HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        statm = Path(f"/proc/{served.running.process.pid}/statm")
        time.sleep(1)
        assert int(statm.read_text().split()[1]) * 4096 < 300_000_000

        wait_until(lambda: _is_cut(client), 30)


def _is_cut(client: socket.socket) -> bool:
    try:
        client.send(b"\x8a\x80\0\0\0\0")
    except OSError:
        return True
    return False


def test_a_stop(site: Any) -> None:
    """1001 to everybody, at once."""
    served = site()
    with ExitStack() as stack:
        clients = [stack.enter_context(served.connect()) for _ in range(5)]
        served.running.process.send_signal(signal.SIGTERM)
        for client in clients:
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(30)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
    assert served.running.wait_exit() == 0
    assert "Traceback" not in served.running.errors


def test_a_reload(start: Callable[..., Running], tmp_path: Path) -> None:
    """A connection goes on with the generation that has it, and is told 1012 when its time is up."""
    (tmp_path / "sockets.py").write_text(APPLICATION)
    servers = "<http web>\n address systemd:name=h\n <asgi>\n  application sockets:app\n </asgi>\n</http>\n"
    service = Service(start, tmp_path, before="reload-drain-timeout 6s\n", servers=servers)
    served = Site(service.running, service.passed.getsockname())
    with served.connect() as client:
        client.send("before")
        assert client.recv(30) == "before"
        assert service.reload().returncode == 0
        client.send("after")
        assert client.recv(30) == "after"
        with served.connect() as other:
            other.send("new")
            assert other.recv(30) == "new"
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(30)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1012
            other.send("still")
            assert other.recv(30) == "still"


def test_many_at_once(site: Any) -> None:
    """Each has its own answers."""
    served = site()

    def talk(number: int, results: list[bool]) -> None:
        with served.connect() as client:
            for count in range(20):
                client.send(json.dumps([number, count]))
                if client.recv(30) != json.dumps([number, count]):
                    return
            results.append(True)

    results: list[bool] = []
    threads = [threading.Thread(target=talk, args=(number, results)) for number in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(results) == 20
