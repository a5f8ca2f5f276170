"""`<proxy>`: requests, responses and WebSockets that other servers answer."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.authority import Authority
from support.running import APPD, listening, read_to, refusing_port, wait_until

aiohttp = pytest.importorskip("aiohttp", reason="the client of <proxy>: pip install aiohttp")
from aiohttp import web  # noqa: E402  # after the question whether it is there


class Upstream:
    """A server of aiohttp's in a thread of its own.

    Attributes:
        where: What the file of appd has as upstream.
        asked: Method and path of each request.
    """

    def __init__(self, sock: socket.socket, name: str = "one", tls: ssl.SSLContext | None = None) -> None:
        address = sock.getsockname()
        self.where = address if isinstance(address, str) else f"127.0.0.1:{address[1]}"
        self.asked: list[str] = []
        self.closed: list[int | None] = []
        self.left = threading.Event()
        self.release = threading.Event()
        self._name = name
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(sock, tls, ready),))
        self._thread.start()
        assert ready.wait(30)

    async def _run(self, sock: socket.socket, tls: ssl.SSLContext | None, ready: threading.Event) -> None:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{rest:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, sock, ssl_context=tls).start()
        ready.set()
        await self._ended.wait()
        await runner.cleanup()
        # Transports that were aborted close in a later turn.
        await asyncio.sleep(0.05)

    async def _answer(self, request: Any) -> Any:
        self.asked.append(f"{request.method} {request.raw_path}")
        kind = request.path.rpartition("/")[2]
        if kind == "wait":
            try:
                while not self.release.is_set():
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.left.set()
                raise
        if kind == "upload":
            size = 0
            async for part in request.content.iter_any():
                size += len(part)
            return web.Response(text=str(size))
        if kind == "large":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(400):
                await response.write(b"y" * 65536)
            return response
        if kind == "cut":
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"x" * 10)
            request.transport.abort()
            return response
        if kind == "late":
            response = web.StreamResponse()
            await response.prepare(request)
            while not self.release.is_set():
                await asyncio.sleep(0.01)
            await response.write(b"event")
            return response
        if kind == "drop":
            request.transport.abort()
            return web.Response()
        if kind == "chat":
            return await self._chat(request)
        headers = {"X-Answered": self._name, "Set-Cookie": "a=b", "Connection": "x-hop", "X-Hop": "1"}
        fields = [[name.decode().lower(), value.decode()] for name, value in request.raw_headers]
        return web.json_response({"path": request.raw_path, "fields": fields}, headers=headers)

    async def _chat(self, request: Any) -> Any:
        here = web.WebSocketResponse(protocols=("chat",))
        await here.prepare(request)
        async for message in here:
            if message.data == "bye":
                await here.close(code=4001, message=b"as you wish")
            elif message.type == aiohttp.WSMsgType.TEXT:
                await here.send_str(f"{self._name}: {message.data}")
            else:
                await here.send_bytes(message.data[::-1])
        self.closed.append(here.close_code)
        return here

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)
        self._loop.close()


@pytest.fixture
def upstream() -> Iterator[Any]:
    """Makes upstreams."""
    made: list[Upstream] = []

    def make(*arguments: Any, **options: Any) -> Upstream:
        made.append(Upstream(*(arguments or (listening(),)), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def proxy(start: Any) -> Any:
    """Starts an appd with a `<proxy>` of those upstreams at /, and returns it with its port."""

    def make(*where: Any, keys: str = "", server: str = "") -> Any:
        lines = "\n".join(f"    upstream {getattr(one, 'where', one)}" for one in where)
        sock = listening()
        text = (
            f"<http web>\n  address systemd:name=web\n  {server}\n  <proxy>\n{lines}\n    {keys}\n  </proxy>\n</http>\n"
        )
        running = start(text, ("web", sock), arguments=("--single",)).wait_ready()
        running.port = sock.getsockname()[1]
        return running

    return make


def ask(port: int, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[Any, bytes]:
    """One request on a connection of its own."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        client.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = client.getresponse()
        return response, response.read()
    finally:
        client.close()


def closed_port() -> str:
    """Where nobody listens."""
    return f"127.0.0.1:{refusing_port()}"


def test_a_request_and_its_response(proxy, upstream):
    """What the client wrote arrives as it is, with what a proxy adds; what is of one connection does not pass."""
    behind = upstream()
    here = proxy(behind)
    response, body = ask(
        here.port,
        "/a%2Fb/%C3%A9?x=%20y",
        Host="shop.example",
        X_Forwarded_For="192.0.2.9",
        Connection="x-mine",
        X_Mine="1",
        Cookie="c=d",
    )
    seen = json.loads(body)
    named = dict(seen["fields"])
    assert seen["path"] == "/a%2Fb/%C3%A9?x=%20y"
    assert (named["host"], named["cookie"], named["via"]) == ("shop.example", "c=d", "1.1 appd")
    assert (named["x-forwarded-for"], named["x-forwarded-host"]) == ("127.0.0.1", "shop.example")
    assert named["forwarded"] == 'for=127.0.0.1;host="shop.example";proto=http'
    assert "x-mine" not in named
    assert (response.getheader("X-Answered"), response.getheader("Set-Cookie")) == ("one", "a=b")
    assert response.getheader("X-Hop") is None
    assert len(response.headers.get_all("Date")) == len(response.headers.get_all("Server")) == 1


def test_bodies_both_ways(proxy, upstream):
    """Of known and of unknown length, larger than any buffer."""
    here = proxy(upstream())
    data = b"z" * 20_000_000
    assert ask(here.port, "/upload", "POST", data)[1] == b"20000000"
    assert ask(here.port, "/upload", "PUT", iter([data, data]))[1] == b"40000000"
    assert len(ask(here.port, "/large")[1]) == 400 * 65536
    response, body = ask(here.port, "/", "HEAD")
    assert (response.status, body) == (200, b"")


def test_a_unix_socket_and_the_host_of_its_own(proxy, upstream, tmp_path):
    """preserve-host off."""
    here = proxy(upstream(listening(socket.AF_UNIX, str(tmp_path / "up"))), keys="preserve-host off")
    named = dict(json.loads(ask(here.port, "/", Host="shop.example")[1])["fields"])
    assert (named["host"], named["x-forwarded-host"]) == ("localhost", "shop.example")


def test_the_least_busy_is_next(proxy, upstream):
    """And they take turns when nothing is open."""
    those = [upstream(name=name) for name in ("one", "two")]
    here = proxy(*those)
    assert {ask(here.port, "/")[0].getheader("X-Answered") for _ in range(4)} == {"one", "two"}
    waiting = threading.Thread(target=ask, args=(here.port, "/wait"))
    waiting.start()
    wait_until(lambda: any("GET /wait" in one.asked for one in those))
    busy = next(one for one in those if "GET /wait" in one.asked)
    before = len(busy.asked)
    for _ in range(4):
        ask(here.port, "/")
    assert len(busy.asked) == before
    busy.release.set()
    waiting.join(30)


def test_one_that_is_down_is_passed_over(proxy, upstream):
    """The client does not notice; the journal says it once."""
    here = proxy(closed_port(), upstream())
    for _ in range(6):
        assert ask(here.port, "/", "POST", b"x")[0].status == 200
    here.wait_said("Connection refused")
    told = [one for one in here.err if "Connection refused" in one]
    assert len(told) == 1
    assert "it is passed over for 10 s; another is tried: POST /" in told[0]


def test_nobody_is_there(proxy):
    """502, and why."""
    here = proxy(closed_port())
    response, body = ask(here.port, "/x")
    assert (response.status, body) == (502, b"502 Bad Gateway\n")
    here.wait_said("Connection refused; answered with 502: GET /x")


def test_no_answer_in_time(proxy, upstream):
    """504, and why."""
    here = proxy(upstream(), keys="response-timeout 200ms")
    assert ask(here.port, "/wait", "POST", b"x")[0].status == 504
    here.wait_said("no answer within response-timeout (0.2 s); answered with 504: POST /wait")


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("POST", 1), ("PUT", 1)])
def test_what_may_be_sent_again(proxy, upstream, method, times):
    """An upstream that drops the connection may have acted: only idempotent requests without a body go to another."""
    those = [upstream(), upstream()]
    here = proxy(*those)
    body = None if method == "GET" else b"x"
    assert ask(here.port, "/drop", method, body)[0].status == 502
    asked = {one.where for one in those if any("drop" in request for request in one.asked)}
    assert len(asked) == times


def test_a_response_that_is_cut(proxy, upstream):
    """The client sees that something is missing; one line says what."""
    here = proxy(upstream())
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        ask(here.port, "/cut")
    said = here.wait_said("it ended in the middle of a response; its response is cut: GET /cut")
    assert "Traceback" not in here.errors, said


def test_an_upstream_that_stops_reading(proxy):
    """504 in the middle of a request, too."""
    deaf = listening()
    here = proxy(f"127.0.0.1:{deaf.getsockname()[1]}", keys="response-timeout 300ms\n    connect-timeout 300ms")
    with socket.create_connection(("127.0.0.1", here.port), timeout=30) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1000):
                client.sendall(b"x" * 100000)
        assert read_to(client, b"\r\n").startswith(b"HTTP/1.1 504")


def test_the_head_does_not_wait_for_the_body(proxy, upstream):
    """A stream of events may have none for long."""
    behind = upstream()
    here = proxy(behind)
    with socket.create_connection(("127.0.0.1", here.port), timeout=30) as client:
        client.sendall(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
        head = read_to(client, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and b"event" not in head.partition(b"\r\n\r\n")[2]
        behind.release.set()
        read_to(client, b"event")


def test_bytes_beyond_ascii_and_odd_names(proxy, upstream):
    """The same bytes arrive; names that would pass for ours do not, nor methods in another case."""
    here = proxy(upstream())
    request = (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: n=\xc3\xbc\r\nX_Forwarded_For: 192.0.2.1\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", here.port), timeout=30) as client:
        client.sendall(request)
        body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")[2]
    fields = dict(json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["fields"])
    assert fields["cookie"] == "n=\u00fc"
    assert not [name for name in fields if "_" in name]
    assert ask(here.port, "/", "get")[0].status == 501


def test_http2_bodies_without_a_length(start, upstream, tmp_path):
    """No field of HTTP/2 says that there is a body."""
    sock, behind = listening(), upstream()
    start(
        f"<http web>\n  address systemd:name=web\n  http2 on\n  <proxy>\n    upstream {behind.where}\n  </proxy>\n</http>\n",
        ("web", sock),
        arguments=("--single",),
    ).wait_ready()
    command = ["curl", "-s", "--http2-prior-knowledge", "-T", "-", f"http://127.0.0.1:{sock.getsockname()[1]}/upload"]
    assert subprocess.run(command, input=b"x" * 300000, capture_output=True, timeout=60).stdout == b"300000"


def test_a_client_that_leaves(proxy, upstream):
    """Its request ends at the upstream, too."""
    behind = upstream()
    here = proxy(behind)
    client = socket.create_connection(("127.0.0.1", here.port))
    client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: behind.asked)
    client.close()
    assert behind.left.wait(30)


def test_a_circle(proxy, upstream):
    """A request that has come through ten of us is not sent on."""
    behind = upstream()
    here = proxy(behind)
    assert ask(here.port, "/", Via=", ".join(["1.1 appd"] * 10))[0].status == 508
    assert not behind.asked


def test_websockets(proxy, upstream):
    """Messages, the protocol, and closes from either side; and one that is refused."""
    behind = upstream()
    here = proxy(behind)

    async def talk() -> None:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{here.port}"
            async with session.ws_connect(f"{url}/chat", protocols=("other", "chat")) as chat:
                assert chat.protocol == "chat"
                await chat.send_str("hello")
                assert (await chat.receive()).data == "one: hello"
                await chat.send_bytes(b"abc" * 100000)
                assert (await chat.receive()).data == b"cba" * 100000
                await chat.send_str("bye")
                end = await chat.receive()
                assert (end.data, end.extra) == (4001, "as you wish")
            async with session.ws_connect(f"{url}/chat") as chat:
                await chat.send_str("again")
                await chat.receive()
                await chat.close(code=4002)
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{url}/none")
            assert refused.value.status == 502
        # The transports of a session close in a later turn.
        await asyncio.sleep(0.05)

    asyncio.run(talk())
    wait_until(lambda: behind.closed == [4001, 4002])


def test_websockets_of_a_silent_upstream(proxy):
    """504; and a client that leaves meanwhile takes its connection to the upstream along."""
    silent = listening()
    handshake = (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n"
    )
    where = f"127.0.0.1:{silent.getsockname()[1]}"
    here = proxy(where, keys="response-timeout 300ms\n    connect-timeout 300ms")
    with socket.create_connection(("127.0.0.1", here.port), timeout=30) as client:
        client.sendall(handshake)
        assert read_to(client, b"\r\n").startswith(b"HTTP/1.1 504")
    patient = proxy(where)
    silent.settimeout(30)
    silent.accept()[0].close()
    client = socket.create_connection(("127.0.0.1", patient.port), timeout=30)
    client.sendall(handshake)
    behind, _ = silent.accept()
    with behind:
        behind.settimeout(30)
        assert read_to(behind, b"\r\n\r\n").startswith(b"GET / ")
        client.close()
        assert behind.recv(65536) == b""


@pytest.mark.parametrize(("name", "status"), [("upstream.example", 200), ("other.example", 502)])
def test_https(proxy, upstream, tmp_path, name, status):
    """The upstream's certificate must be signed by the right authority, and for the right name."""
    authority = Authority()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue("upstream.example").write(tmp_path / "upstream.pem"))
    ca = authority.write(tmp_path / "ca.pem")
    behind = upstream(listening(), tls=context)
    where = behind.where.replace("127.0.0.1", "https://localhost")
    keys = f"<client-tls>\n      ca {ca}\n      server-name {name}\n    </client-tls>"
    here = proxy(where, keys=keys)
    assert ask(here.port, "/")[0].status == status
    if status == 502:
        here.wait_said("its certificate is not good")


def test_a_stop_finishes_what_is_in_flight(proxy, upstream):
    """The drain waits for the upstream."""
    behind = upstream()
    here = proxy(behind)
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(here.port, "/wait")))
    waiting.start()
    wait_until(lambda: behind.asked)
    here.process.terminate()
    behind.release.set()
    waiting.join(30)
    assert answers[0][0].status == 200
    assert here.wait_exit() == 0


def test_without_its_library(tmp_path):
    """`check` names what is to be installed."""
    (tmp_path / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\nfind = PathFinder.find_spec\n"
        "PathFinder.find_spec = lambda name, path=None, target=None: None if name == 'aiohttp' else find(name, path, target)\n"
    )
    (tmp_path / "appd.conf").write_text(
        "<http web>\n address 127.0.0.1:1\n <proxy>\n upstream 127.0.0.1:2\n </proxy>\n</http>\n"
    )
    done = subprocess.run(
        [APPD, "check", str(tmp_path / "appd.conf")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 78
    assert "<proxy> needs aiohttp: apt-get install python3-aiohttp" in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_keys(start):
    """All at once."""
    running = start(
        "<http web>\n  address systemd:name=web\n  <proxy>\n    upstream http://x/path\n    connect-timeout 0s\n  </proxy>\n"
        "  <proxy>\n    path /b\n  </proxy>\n</http>\n",
        ("web", listening()),
        arguments=("--single",),
    )
    assert running.wait_exit() == 78
    for said in ("no path, query or user belongs there", "connect-timeout", "upstream"):
        assert said in running.errors
