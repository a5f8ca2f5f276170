"""The stop of an HTTP server: what is in flight is answered, what is idle ends soon."""

from __future__ import annotations

import http.client
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.running import Running, listening, wait_until
from support.service import LINGER

APPLICATION = '''
import asyncio, os, time

def wait_for(name):
    """Says that it has come here, and waits until it may go on."""
    open(name + ".here", "w").close()
    while not os.path.exists(name + ".go"):
        time.sleep(0.01)

def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    body = environ["wsgi.input"].read()
    if name.startswith("wait"):
        wait_for(name)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if name.startswith("stream"):
        def stream():
            yield b"begun "
            wait_for(name)
            yield b"done"
        return stream()
    return [b"answer to " + name.encode() + body]

async def wait_here(name):
    open(name + ".here", "w").close()
    while not os.path.exists(name + ".go"):
        await asyncio.sleep(0.01)

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("no lifespan")
    name, body, more = scope["path"].strip("/"), b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    if name.startswith("wait"):
        await wait_here(name)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if name.startswith("stream"):
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        await wait_here(name)
        if name.endswith("block"):
            wait_for("blocks")
        await send({"type": "http.response.body", "body": b"done"})
    else:
        await send({"type": "http.response.body", "body": b"answer to " + name.encode() + body})
'''

CONFIGURATION = """
python-path ..
drain-timeout 60s
<http web>
  address systemd:name=web
  {mount}
</http>
"""
DRIVERS = {
    "lane": CONFIGURATION.format(mount="<wsgi>\n    application hosted:application\n  </wsgi>"),
    "loop": CONFIGURATION.format(mount="<asgi>\n    application hosted:asgi\n  </asgi>"),
}


class Draining:
    """A server with connections, that is told to stop."""

    def __init__(self, running: Running, sock: socket.socket, folder: Path) -> None:
        self.running = running
        self.folder = folder
        self._sock = sock
        self.open: list[http.client.HTTPConnection] = []

    def connection(self, request: str | None = None) -> http.client.HTTPConnection:
        """A connection that has had an answer, and perhaps asks again."""
        connection = http.client.HTTPConnection(*self._sock.getsockname(), timeout=30)
        self.open.append(connection)
        connection.request("GET", "/first")
        assert connection.getresponse().read() == b"answer to first"
        if request is not None:
            connection.request("GET", request)
        return connection

    def here(self, name: str) -> None:
        """Waits until the application has come that far."""
        wait_until(lambda: (self.folder / f"{name}.here").exists())

    def go(self, name: str) -> None:
        (self.folder / f"{name}.go").touch()

    def stop(self) -> None:
        """Returns as soon as the drain has begun."""
        self.running.process.send_signal(signal.SIGTERM)
        ends = time.monotonic() + 30
        while not any("STOPPING" in one for one in self.running.manager.messages):
            self.running.manager.read(0.5)
            assert time.monotonic() < ends


@contextmanager
def answered_or_slow(began: float) -> Iterator[None]:
    """Asks something on a connection that is silent: who is slower than the linger, on a busy machine, is not waited for.

    Args:
        began: When the silence may have begun, at the earliest.
    """
    try:
        yield
    except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
        assert time.monotonic() - began >= LINGER, "asked within the linger, and not answered"


@pytest.fixture(params=DRIVERS)
def draining(request: pytest.FixtureRequest, start: Callable[..., Running], tmp_path: Path):
    (tmp_path / "hosted.py").write_text(APPLICATION)
    sock = listening()
    # A worker alone says STOPPING=1 itself, in the moment in which it begins to drain; a supervisor says it before.
    running = start(DRIVERS[request.param], ("web", sock), arguments=("--single",)).wait_ready()
    made = Draining(running, sock, tmp_path / "run0")
    yield made
    for one in made.open:
        one.close()


def test_all_at_once(draining: Draining) -> None:
    """In flight, streaming, idle, on its way, begun to arrive: each in its manner, and no traceback."""
    idle = draining.connection()
    late = draining.connection()
    partial = draining.connection()
    partial.sock.sendall(b"GET /part")
    flight = draining.connection("/wait")
    stream = draining.connection("/stream")
    upload = draining.connection()
    upload.putrequest("POST", "/upload")
    upload.putheader("Content-Length", "3")
    upload.endheaders(b"a")
    draining.here("wait")
    draining.here("stream")
    streaming = stream.getresponse()
    assert streaming.getheader("Connection") is None
    assert streaming.read(6) == b"begun "
    began = time.monotonic()
    draining.stop()

    # A request that was on its way when the drain began.
    with answered_or_slow(began):
        late.request("GET", "/late")
        answer = late.getresponse()
        assert (answer.read(), answer.getheader("Connection")) == (b"answer to late", "close")

    # The idle one ends, though others are busy, and not by a reset.
    assert idle.sock.recv(1) == b""

    # By now every linger is over.
    partial.sock.sendall(b"ial HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = http.client.HTTPResponse(partial.sock)
    answer.begin()
    assert (answer.read(), answer.getheader("Connection")) == (b"answer to partial", "close")
    answer.close()

    upload.send(b"bc")
    answer = upload.getresponse()
    assert (answer.read(), answer.getheader("Connection")) == (b"answer to uploadabc", "close")

    draining.go("wait")
    answer = flight.getresponse()
    assert (answer.read(), answer.getheader("Connection")) == (b"answer to wait", "close")

    assert draining.running.process.poll() is None
    draining.go("stream")
    assert streaming.read() == b"done"
    assert stream.sock.recv(1) == b""
    streaming.close()
    assert draining.running.wait_exit() == 0
    assert "Traceback" not in draining.running.errors
    assert "cut" not in draining.running.errors


def test_idle_connections_do_not_hold_the_stop(draining: Draining) -> None:
    """With nothing in flight the stop takes no longer than the linger and what closing takes."""
    connections = [draining.connection() for _ in range(20)]
    began = time.monotonic()
    draining.stop()
    for one in connections:
        assert one.sock.recv(1) == b""
        one.close()
    assert draining.running.wait_exit() == 0
    assert time.monotonic() - began < 20


def test_pipelined_requests_that_have_arrived_are_answered(draining: Draining) -> None:
    """The last of them says that it is the last."""
    connection = draining.connection("/wait")
    connection.sock.sendall(b"GET /two HTTP/1.1\r\nHost: x\r\n\r\nGET /three HTTP/1.1\r\nHost: x\r\n\r\n")
    draining.here("wait")
    draining.stop()
    draining.go("wait")
    answer = b"".join(iter(lambda: connection.sock.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(b"Connection: close") == 1
    assert answer.index(b"answer to wait") < answer.index(b"answer to two") < answer.index(b"answer to three")
    connection.close()
    assert draining.running.wait_exit() == 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_does_not_end_is_cut(start: Callable[..., Running], tmp_path: Path, driver: str) -> None:
    """At the end of drain-timeout, even though the thread goes on."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    sock = listening()
    running = start(DRIVERS[driver].replace("60s", "500ms"), ("web", sock)).wait_ready()
    with socket.create_connection(sock.getsockname(), 30) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: (tmp_path / "run0" / "wait.here").exists())
        assert running.stop(timeout=30) == 0
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert "connections that were still open" in running.errors


@pytest.mark.parametrize(
    ("driver", "name"), [("lane", "stream"), ("loop", "stream"), ("loop", "stream-and-block")], ids=str
)
def test_a_body_that_is_cut_does_not_look_whole(
    start: Callable[..., Running], tmp_path: Path, driver: str, name: str
) -> None:
    """Of HTTP/1.0, where an end of the connection is that of the body; an application that blocks the loop too."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    sock = listening()
    running = start(DRIVERS[driver].replace("60s", "500ms"), ("web", sock)).wait_ready()
    with socket.create_connection(sock.getsockname(), 30) as client:
        client.sendall(f"GET /{name} HTTP/1.0\r\n\r\n".encode())
        got = b""
        while not got.endswith(b"begun "):
            got += client.recv(1000)
        if name == "stream-and-block":
            (tmp_path / "run0" / f"{name}.go").touch()
            wait_until(lambda: (tmp_path / "run0" / "blocks.here").exists())
        assert running.stop(timeout=30) == 0
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert "connections that were still open" in running.errors


def test_an_answer_that_did_not_say_that_it_is_the_last(draining: Draining) -> None:
    """Its head had gone out before the drain began: who asks again at once is answered, and told then."""
    stream = draining.connection("/stream")
    draining.here("stream")
    streaming = stream.getresponse()
    assert streaming.getheader("Connection") is None
    draining.stop()
    began = time.monotonic()
    draining.go("stream")
    assert streaming.read() == b"begun done"
    with answered_or_slow(began):
        stream.request("GET", "/again")
        answer = stream.getresponse()
        assert (answer.read(), answer.getheader("Connection")) == (b"answer to again", "close")
    assert draining.running.wait_exit() == 0
