"""WebSocket within HTTP/2 (RFC 8441): clients by the h2 library and wsproto, and a browser."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from support.authority import Authority
from support.browser import browsing, needs_browser
from support.http2 import frame, frames_in
from support.running import Running, listening, wait_until
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from appd.http.h2.codes import Frame

APPLICATION = '''
PAGE = b"""<!DOCTYPE html><title>sockets</title><script>
async function run() {
  const said = {protocols: [], texts: []};
  const next = (socket, name) => new Promise((done, failed) => {
    socket.addEventListener(name, done, {once: true});
    socket.addEventListener("error", () => failed(new Error("an error in place of " + name)), {once: true});
  });
  try {
    const where = location.origin.replace("http", "ws") + "/echo";
    const sockets = [0, 1, 2].map(() => new WebSocket(where, ["one"]));
    for (const one of sockets) await next(one, "open");
    for (const one of sockets) {
      said.protocols.push(one.protocol);
      one.send("x".repeat(200000));
      said.texts.push((await next(one, "message")).data.length);
      one.send("version");
      said.version = (await next(one, "message")).data;
    }
    sockets[0].send("close");
    const closed = await next(sockets[0], "close");
    said.closed = [closed.code, closed.reason, closed.wasClean];
    said.navigation = performance.getEntriesByType("navigation")[0].nextHopProtocol;
  } catch (error) { said.error = String(error); }
  await fetch("/told", {method: "POST", body: JSON.stringify(said)});
}
run();
</script>"""

async def app(scope, receive, send):
    if scope["type"] == "http":
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"] == "/told":
            open("told.new", "wb").write(body)
            import os
            os.rename("told.new", "told")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": PAGE if scope["path"] == "/" else b"%d" % len(body)})
        return
    assert (await receive())["type"] == "websocket.connect"
    if scope["path"] == "/no":
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/denied":
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-why", b"denied")]})
        await send({"type": "websocket.http.response.body", "body": b"why"})
        return
    if scope["path"] == "/waits":
        print("waits", (await receive())["code"], flush=True)
        return
    chosen = scope["subprotocols"][0] if scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": chosen, "headers": [(b"x-mine", b"yes")]})
    if scope["path"] == "/deaf":
        print("deaf", flush=True)
        import asyncio
        await asyncio.sleep(3600)
    if scope["path"] == "/floods":
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"f" * 100000})
        except OSError:
            print("flooded", flush=True)
            raise
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("left", message["code"], flush=True)
            return
        text = message.get("text")
        if text == "close":
            await send({"type": "websocket.close", "code": 4001, "reason": "asked"})
        elif text == "version":
            await send({"type": "websocket.send", "text": scope["http_version"] + " " + scope["scheme"]})
        elif text == "raise":
            raise ValueError("asked")
        else:
            await send({**message, "type": "websocket.send"})

def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"wsgi"]
'''
CONFIGURATION = """
python-path ..
threads 2
<log>
  format text
  level debug
</log>
<http web>
  {address} systemd:name=web
  http2 on
  access-log combined
  {tls}
  <limits>
    {limits}
  </limits>
  <asgi>
    application talks:app
    lifespan off
    {asgi}
  </asgi>
  <wsgi>
    path /wsgi
    application talks:wsgi
  </wsgi>
  <proxy>
    path /behind
    upstream 127.0.0.1:{port}
  </proxy>
</http>
<http behind>
  address systemd:name=behind
  <asgi>
    path /behind
    application talks:app
    lifespan off
  </asgi>
</http>
"""


class Client:
    """A connection of HTTP/2; its WebSockets by stream."""

    def __init__(self, port: int, window: int = 0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 20)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="latin-1"))
        self.h2.initiate_connection()
        self.heads: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.messages: dict[int, list[Any]] = {}
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self.sockets: dict[int, Connection] = {}
        self.opens = True
        self.left = self.over = False
        self.push()

    def push(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def ask(
        self, path: str, *, protocol: str = "websocket", end: bool = False, fields: Any = (), deflate: bool = False
    ) -> int:
        """Waits for the server's settings, and asks."""
        self.until(lambda: h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL in self.h2.remote_settings)
        number = self.h2.get_next_available_stream_id()
        head = [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":path", path),
            (":authority", "x"),
        ]
        self.h2.send_headers(number, [*head, ("sec-websocket-version", "13"), *fields], end_stream=end)
        self.sockets[number] = Connection(ConnectionType.CLIENT, [PerMessageDeflate()] if deflate else [])
        self.push()
        return number

    def open(self, path: str, **options: Any) -> int:
        number = self.ask(path, **options)
        self.until(lambda: number in self.heads)
        assert self.heads[number][":status"] == "200", self.heads[number]
        return number

    def say(self, number: int, event: Any) -> None:
        self.send(number, self.sockets[number].send(event))

    def send(self, number: int, data: bytes) -> None:
        """As the windows allow."""
        while data:
            self.until(lambda: self.h2.local_flow_control_window(number) > 0)
            size = min(len(data), self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            self.h2.send_data(number, data[:size])
            self.push()
            data = data[size:]

    def read(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            self.over = True
            return
        for event in self.h2.receive_data(data):
            number = getattr(event, "stream_id", 0)
            if isinstance(event, h2.events.ResponseReceived):
                self.heads[number] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[number] = self.bodies.get(number, b"") + event.data
                if self.opens:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, number)
                if event.data and self.heads[number][":status"] == "200" and number in self.sockets:
                    self.sockets[number].receive_data(event.data)
                    self.messages.setdefault(number, []).extend(self.sockets[number].events())
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(number)
            elif isinstance(event, h2.events.StreamReset):
                self.reset[number] = event.error_code
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.left = True
        self.push()

    def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            assert not self.over, "the end"
            self.read()

    def text(self, number: int) -> str:
        """The next message, whole."""
        self.until(
            lambda: any(
                one.message_finished for one in self.messages.get(number, ()) if hasattr(one, "message_finished")
            )
        )
        found = ""
        while True:
            one = self.messages[number].pop(0)
            found += one.data
            if one.message_finished:
                return found


@pytest.fixture
def site(start: Callable[..., Running], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    made: list[Client] = []

    def make(limits: str = "", asgi: str = "") -> tuple[Running, Callable[[], Client]]:
        (tmp_path / "talks.py").write_text(APPLICATION)
        sock, behind = listening(), listening()
        text = CONFIGURATION.format(address="address", tls="", limits=limits, asgi=asgi, port=behind.getsockname()[1])
        running = start(text, ("web", sock), ("behind", behind), arguments=("--single",)).wait_ready()

        def connect() -> Client:
            made.append(Client(sock.getsockname()[1]))
            return made[-1]

        return running, connect

    yield make
    for one in made:
        one.sock.close()


@pytest.mark.parametrize("path", ["/echo", "/behind/echo"])
def test_messages(site: Any, path: str) -> None:
    """Of any size, both ways, beside another WebSocket and requests of the same connection; by a proxy, too."""
    running, connect = site()
    client = connect()
    first, second = client.open(path, fields=[("sec-websocket-protocol", "one, two")]), client.open(path)
    assert client.heads[first]["sec-websocket-protocol"] == "one"
    assert client.heads[first]["x-mine"] == "yes"
    assert "sec-websocket-accept" not in client.heads[first]
    for number in (first, second):
        client.say(number, TextMessage(data="version"))
        assert client.text(number) == ("2 ws" if path == "/echo" else "1.1 ws")
    long = "".join(map(str, range(60_000)))
    client.say(first, TextMessage(data=long))
    client.say(second, TextMessage(data="short"))
    assert client.text(second) == "short"
    assert client.text(first) == long
    other = client.h2.get_next_available_stream_id()
    client.h2.send_headers(
        other, [(":method", "GET"), (":scheme", "http"), (":path", "/wsgi"), (":authority", "x")], end_stream=True
    )
    client.push()
    client.until(lambda: other in client.ended)
    assert client.bodies[other] == b"wsgi"
    client.say(first, TextMessage(data="close"))
    client.until(lambda: any(isinstance(one, CloseConnection) for one in client.messages[first]))
    (closed,) = [one for one in client.messages[first] if isinstance(one, CloseConnection)]
    assert (closed.code, closed.reason) == (4001, "asked")
    client.say(first, closed.response())
    client.until(lambda: first in client.ended)
    client.say(second, CloseConnection(code=4002))
    client.until(lambda: second in client.ended)
    assert running.stop() == 0
    assert running.errors.count(f'"GET {path} HTTP/2" 200 ') == 2
    assert "Traceback" not in running.errors


def test_compression(site: Any) -> None:
    """permessage-deflate, as within HTTP/1.1."""
    _running, connect = site()
    client = connect()
    number = client.ask("/echo", deflate=True, fields=[("sec-websocket-extensions", "permessage-deflate")])
    client.until(lambda: number in client.heads)
    accepted = client.heads[number]["sec-websocket-extensions"]
    client.sockets[number] = Connection(ConnectionType.CLIENT, [_finalized(accepted)])
    client.say(number, TextMessage(data="x" * 100_000))
    assert client.text(number) == "x" * 100_000
    assert len(client.bodies[number]) < 5000


def _finalized(accepted: str) -> PerMessageDeflate:
    extension = PerMessageDeflate()
    extension.finalize(accepted)
    return extension


def test_what_is_refused(site: Any) -> None:
    """By the application, by the kind of mount, and what is no handshake."""
    _running, connect = site()
    client = connect()
    cases = {
        client.ask("/no"): "403",
        client.ask("/denied"): "401",
        client.ask("/wsgi"): "501",
        client.ask("/echo", protocol="connect-udp"): "501",
        client.ask("/echo", end=True): "400",
    }
    for number, status in cases.items():
        client.until(lambda number=number: number in client.heads)
        assert client.heads[number][":status"] == status
    (denied,) = [number for number, status in cases.items() if status == "401"]
    client.until(lambda: denied in client.ended)
    assert (client.heads[denied]["x-why"], client.bodies[denied]) == ("denied", b"why")
    # The connection goes on.
    number = client.open("/echo")
    client.say(number, TextMessage(data="still"))
    assert client.text(number) == "still"


def test_a_mount_that_takes_none(site: Any) -> None:
    """Beside one that does."""
    _running, connect = site(asgi="websocket off")
    client = connect()
    number = client.ask("/echo")
    client.until(lambda: number in client.heads)
    assert client.heads[number][":status"] == "501"


@pytest.mark.parametrize("way", ["end", "reset", "connection", "half"])
def test_a_client_that_leaves(site: Any, way: str) -> None:
    """Without a close frame: the application is told 1006, also before it has accepted."""
    running, connect = site()
    client = connect()
    number, waits = client.open("/echo"), client.ask("/waits")
    for one in (number, waits):
        if way == "end":
            client.h2.end_stream(one)
        elif way == "reset":
            client.h2.reset_stream(one, 8)
    client.push()
    if way == "connection":
        client.sock.close()
    elif way == "half":
        client.sock.shutdown(socket.SHUT_WR)
    running.wait_said("left 1006")
    running.wait_said("waits 1006")
    assert running.stop() == 0
    assert "Traceback" not in running.errors


def test_a_client_that_opens_no_window(site: Any) -> None:
    """The application waits for it, at most write-timeout; other streams go on."""
    running, connect = site("write-timeout 2s")
    client = connect()
    client.opens = False
    number = client.open("/floods")
    client.until(lambda: len(client.bodies.get(number, b"")) >= 65535)
    client.until(lambda: number in client.reset)
    assert client.reset[number] == 8
    running.wait_said("flooded")


def test_an_application_that_reads_nothing(site: Any) -> None:
    """Its client is held up by its window; a second WebSocket of the connection is not."""
    running, connect = site(asgi="ping-interval 0")
    client = connect()
    deaf, other = client.open("/deaf"), client.open("/echo")
    running.wait_said("deaf")
    data = client.sockets[deaf].send(BytesMessage(data=bytes(100_000)))
    sent = 0
    ends = time.monotonic() + 20
    while time.monotonic() < ends and sent < 1_000_000:
        if client.h2.local_flow_control_window(deaf) >= len(data):
            client.send(deaf, data)
            sent += len(data)
        elif client.h2.local_flow_control_window(deaf) > 0 and sent < 300_000:
            size = client.h2.local_flow_control_window(deaf)
            client.send(deaf, data[:size])
            sent, data = sent + size, data[size:] or client.sockets[deaf].send(BytesMessage(data=bytes(100_000)))
        else:
            client.say(other, TextMessage(data="meanwhile"))
            assert client.text(other) == "meanwhile"
            if client.h2.local_flow_control_window(deaf) == 0:
                break
    assert client.h2.local_flow_control_window(deaf) == 0
    assert sent < 400_000


def test_limits(site: Any) -> None:
    """A message that is too long, and a client that does not answer a ping."""
    _running, connect = site(asgi="message-size 1000\n    ping-interval 1s\n    ping-timeout 1s")
    client = connect()
    number, silent = client.open("/echo"), client.open("/echo")
    client.say(number, TextMessage(data="x" * 2000))
    client.until(lambda: any(isinstance(one, CloseConnection) for one in client.messages.get(number, ())))
    (closed,) = [one for one in client.messages[number] if isinstance(one, CloseConnection)]
    assert closed.code == 1009
    client.until(lambda: any(isinstance(one, Ping) for one in client.messages.get(silent, ())))
    client.until(lambda: silent in client.reset)


def test_pings_are_answered(site: Any) -> None:
    """Those of the client."""
    _running, connect = site()
    client = connect()
    number = client.open("/echo")
    client.say(number, Ping(payload=b"there?"))
    client.until(lambda: any(isinstance(one, Pong) for one in client.messages.get(number, ())))


def test_a_message_each_opens_the_window_by_its_size(site: Any) -> None:
    """As simple clients do; it is no abuse."""
    _running, connect = site()
    client = connect()
    number = client.open("/echo")
    for at in range(3000):
        client.say(number, TextMessage(data=str(at)))
        assert client.text(number) == str(at)


def test_a_stop(site: Any) -> None:
    """1001, and GOAWAY; the client's answer is the end."""
    running, connect = site()
    client = connect()
    number = client.open("/echo")
    running.process.send_signal(signal.SIGTERM)
    # The h2 library takes nothing more behind GOAWAY.
    data, end = b"", (Frame.DATA, 1, number)
    while not [one for one in frames_in(data) if one[0] == Frame.DATA]:
        part = client.sock.recv(65536)
        assert part, data
        data += part
    assert [one for one in frames_in(data) if one[0] == Frame.GOAWAY]
    socket = client.sockets[number]
    socket.receive_data(b"".join(one[3] for one in frames_in(data) if one[0] == Frame.DATA))
    (closed,) = socket.events()
    assert (type(closed), closed.code) == (CloseConnection, 1001)
    client.sock.sendall(frame(Frame.DATA, 0, number, socket.send(closed.response())))
    data = b""
    while not [one for one in frames_in(data) if one[:3] == end]:
        part = client.sock.recv(65536)
        assert part, data
        data += part
    assert running.wait_exit() == 0
    assert "Traceback" not in running.errors


def test_an_application_that_fails(site: Any) -> None:
    """1011, and one entry."""
    running, connect = site()
    client = connect()
    number = client.open("/echo")
    client.say(number, TextMessage(data="raise"))
    client.until(lambda: any(isinstance(one, CloseConnection) for one in client.messages.get(number, ())))
    (closed,) = [one for one in client.messages[number] if isinstance(one, CloseConnection)]
    assert closed.code == 1011
    running.wait_said("the application failed")


@needs_browser
def test_a_browser(start: Callable[..., Running], tmp_path: Path) -> None:
    """Chromium takes the connection of the page for its WebSockets."""
    root = Authority("Root")
    (tmp_path / "talks.py").write_text(APPLICATION)
    root.issue("localhost").write(tmp_path / "site.pem")
    sock, behind = listening(), listening()
    section = "<tls>\n    certificate ../site.pem\n  </tls>"
    text = CONFIGURATION.format(address="tls-address", tls=section, limits="", asgi="", port=behind.getsockname()[1])
    running = start(text, ("web", sock), ("behind", behind), arguments=("--single",)).wait_ready()
    told = tmp_path / "run0" / "told"
    with browsing(f"https://localhost:{sock.getsockname()[1]}/", tmp_path / "site.pem", tmp_path):
        wait_until(told.exists, 90, lambda: running.errors)
    said = json.loads(told.read_text())
    assert said == {
        "protocols": ["one"] * 3,
        "texts": [200_000] * 3,
        "version": "2 wss",
        "closed": [4001, "asked", True],
        "navigation": "h2",
    }
    assert running.stop() == 0
    assert "Traceback" not in running.errors
