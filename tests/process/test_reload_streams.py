"""Two reloads under load while streams of every kind are open: each ends as promised, and nothing else is lost."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame
from support.running import Running, wait_until
from support.service import Load, Service
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

APPLICATION = """
import asyncio, hashlib, os

HERE = os.path.dirname(__file__)
PID = str(os.getpid()).encode()

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"] + " " + str(os.getpid())})
        return
    if scope["type"] != "http":
        raise ValueError("no lifespan")
    path = scope["path"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if path.startswith("/stream"):
        # Until it may end; /stream/endless never may.
        number = 0
        while not os.path.exists(HERE + path.replace("/", "/go-")):
            await send({"type": "http.response.body", "body": b"%d\\n" % number, "more_body": True})
            number += 1
            await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"%d lines of %s" % (number, PID)})
    elif path == "/upload":
        found, more = hashlib.sha256(), True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            found.update(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.body", "body": found.hexdigest().encode() + b" " + PID})
    else:
        await send({"type": "http.response.body", "body": PID})
"""
SERVERS = """
<http h>
  address systemd:name=h
  http2 on
  <asgi>
    application streaming:app
  </asgi>
</http>
"""
# Long enough for two reloads on a busy machine; what is left then is cut.
DRAIN = 20


class Asked:
    """A request of HTTP/1.1 whose answer is read in a thread of its own."""

    def __init__(self, address: tuple[str, int], path: str) -> None:
        self.connection = http.client.HTTPConnection(*address, timeout=60)
        self.connection.request("GET", path)
        self.data = b""
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            answer = self.connection.getresponse()
            while part := answer.read1(65536):
                self.data += part
        except (OSError, http.client.HTTPException) as error:
            self.error = error

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.connection.close()


class Stream2:
    """A request of HTTP/2, written by h2. The frames are read as they are: h2 takes none after a GOAWAY."""

    def __init__(self, address: tuple[str, int], path: str) -> None:
        self.sock = socket.create_connection(address, timeout=30)
        self.frames: list[Frame] = []
        self._left = b""
        client = H2Connection(H2Configuration(client_side=True))
        client.initiate_connection()
        pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", path)]
        client.send_headers(1, pseudo, end_stream=True)
        self.sock.sendall(client.data_to_send())

    def read(self) -> Frame | None:
        """The next frame, None at the end."""
        while True:
            if len(self._left) >= 9:
                frame, size = Frame.parse_frame_header(memoryview(self._left[:9]))
                if len(self._left) >= 9 + size:
                    frame.parse_body(memoryview(self._left[9 : 9 + size]))
                    self._left = self._left[9 + size :]
                    self.frames.append(frame)
                    return frame
            data = self.sock.recv(65536)
            if not data:
                return None
            self._left += data

    def until(self, kind: type[Frame]) -> Frame:
        """Reads to the next such frame."""
        while not isinstance(frame := self.read(), kind):
            assert frame is not None, self.frames
        return frame


def is_whole(data: bytes, pid: int) -> bool:
    """Whether it is each line once, and says at its end how many they are and of whom."""
    *lines, last = data.split(b"\n")
    return lines == [b"%d" % one for one in range(len(lines))] and last == b"%d lines of %d" % (len(lines), pid)


def test_two_reloads(start: Callable[..., Running], tmp_path: Path) -> None:
    """A stream, an upload, a stream of HTTP/2 and a WebSocket go on with their generation, to its last moment."""
    (tmp_path / "streaming.py").write_text(APPLICATION)
    made = Service(start, tmp_path, before=f"reload-drain-timeout {DRAIN}s\n", servers=SERVERS)
    address = made.passed.getsockname()
    first = only(made.workers())
    payload = os.urandom(1_500_000)
    with ExitStack() as stack:
        stream, endless = Asked(address, "/stream"), Asked(address, "/stream/endless")
        upload = stack.enter_context(socket.create_connection(address, timeout=30))
        upload.sendall(
            b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(payload) + payload[:500_000]
        )
        http2 = Stream2(address, "/stream")
        stack.callback(http2.sock.close)
        # 0x88 is `:status 200` of the static table.
        assert http2.until(HeadersFrame).data[:1] == b"\x88"
        talk = stack.enter_context(connect(f"ws://127.0.0.1:{address[1]}/", open_timeout=30, close_timeout=30))
        talk.send("before")
        assert talk.recv(30) == f"before {first}"
        wait_until(lambda: stream.data and endless.data)
        with Load(made.passed, threads=4) as load:
            began = time.monotonic()
            for generation in (2, 3):
                done = made.reload()
                assert (done.returncode, done.stdout) == (0, f"generation {generation} serves\n")
                serving = only(made.workers())
                assert serving != first
                # The one before hears of its drain when this one listens.
                wait_until(lambda serving=serving: {made.pid() for _ in range(5)} == {serving})
                # All of them are with the first generation, and alive.
                talk.send("between")
                assert talk.recv(30) == f"between {first}"
                upload.sendall(payload[500_000 * (generation - 1) : 500_000 * generation])
                seen = [len(one.data) for one in (stream, endless)]
                wait_until(lambda seen=seen: len(stream.data) > seen[0] and len(endless.data) > seen[1])
            goodbye = http2.until(GoAwayFrame)
            assert (goodbye.error_code, goodbye.last_stream_id) == (0, 1)
            http2.until(DataFrame)
            (tmp_path / "go-stream").touch()
            while http2.read() is not None:
                pass
            body = b"".join(one.data for one in http2.frames if isinstance(one, DataFrame))
            assert is_whole(body, first), body
            ended = [one for one in http2.frames if isinstance(one, DataFrame) and "END_STREAM" in one.flags]
            assert len(ended) == 1
            stream.join()
            assert stream.error is None and is_whole(stream.data, first), (stream.error, stream.data)
            upload.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: upload.recv(65536), b""))
            assert f"{hashlib.sha256(payload).hexdigest()} {first}".encode() in answer, answer
        assert set(load.results) == {"ok"}, load.results
        # What is left when its time is up: told so, or cut, and not before.
        with pytest.raises(ConnectionClosed) as caught:
            talk.recv(DRAIN + 30)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1012
        assert time.monotonic() - began >= DRAIN
        endless.join()
        assert endless.error is not None
    assert made.running.stop() == 0
    assert "Traceback" not in made.running.errors


def only(pids: set[int]) -> int:
    """The one process."""
    (found,) = pids
    return found
