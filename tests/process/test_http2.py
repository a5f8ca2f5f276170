"""HTTP/2 by real clients (curl, nghttp, h2load), and by h2 where a client has to be odd."""

from __future__ import annotations

import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h2.events
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from hyperframe.frame import ContinuationFrame, HeadersFrame, PingFrame, SettingsFrame, WindowUpdateFrame
from support.authority import Authority
from support.running import Running, listening, read_to, wait_until

APPLICATION = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise ValueError(scope["type"])
    path = scope["path"].removeprefix(scope["root_path"])
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            print("left", path)
            return
        size += len(message["body"])
        more = message["more_body"]
    if path == "/wait":
        open("wait.here", "w").close()
        while not os.path.exists("wait.go"):
            await asyncio.sleep(0.01)
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
    if path == "/hang":
        print("hangs")
        print("ends", (await receive())["type"])
        return
    if path == "/large":
        await send(start)
        for _ in range(64):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body"})
    elif path == "/trailers":
        await send({**start, "trailers": True})
        await send({"type": "http.response.body", "body": b"data"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"4")]})
    elif path == "/fail":
        raise RuntimeError("it fails")
    else:
        await send(start)
        said = f"{scope['http_version']} {scope['method']} {path} {size} {scope['scheme']} {scope['extensions'].get('tls') is not None}"
        await send({"type": "http.response.body", "body": said.encode()})

def wsgi(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"wsgi {environ['PATH_INFO']} {len(body)} {environ['wsgi.url_scheme']}".encode()]
"""

CONFIGURATION = """
python-path ..
threads 2
<log>
  format json
  level debug
</log>
<http web>
  {address}
  http2 on
  <limits>
    header-timeout 5s
    {limits}
  </limits>
  {loop}
  <wsgi>
    path /wsgi
    application streams:wsgi
  </wsgi>
  <static>
    path /static
    root ..
  </static>
</http>
"""
# RFC 9113, 3.4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LOOP = "<asgi>\n path /asgi\n application streams:app\n</asgi>"


class Site:
    """A running server."""

    def __init__(self, running: Running, address: Any, folder: Path) -> None:
        self.running = running
        self.address = address
        self.folder = folder
        self.url = f"http://127.0.0.1:{address[1]}"

    def curl(self, *arguments: str) -> str:
        """What curl says."""
        command = ["curl", "-sS", "--max-time", "30", "--http2-prior-knowledge", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


class Client:
    """A client that does as it is told."""

    def __init__(self, address: Any, before: bytes = b"", apart: bool = False) -> None:
        self.sock = socket.create_connection(address, timeout=30)
        self.h2 = H2Connection(
            H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        )
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self.ended = False
        if apart:
            self.sock.sendall(before)
            before = b""
            time.sleep(0.1)
        self.sock.sendall(before + self.h2.data_to_send())

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def get(self, path: str, *, end: bool = True, fields: tuple[tuple[str, str], ...] = (), method: str = "GET") -> int:
        """Begins a stream."""
        number = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path)]
        self.h2.send_headers(number, [*pseudo, *fields], end_stream=end)
        self.flush()
        return number

    def read(self, *, acknowledge: bool = True) -> bool:
        """Takes what comes next; whether anything came."""
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return False
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if acknowledge and isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        try:
            self.flush()
        except OSError:
            self.ended = True
        return True

    def until(self, kind: type, number: int | None = None) -> Any:
        """Reads until there is such an event."""
        while True:
            for one in self.events:
                if isinstance(one, kind) and number in (None, getattr(one, "stream_id", None)):
                    return one
            assert self.read(), f"the end, and no {kind.__name__}; {self.events}"

    def answer(self, number: int) -> tuple[str, bytes]:
        """Status and body of a stream."""
        self.until(h2.events.StreamEnded, number)
        response = self.until(h2.events.ResponseReceived, number)
        data = [one.data for one in self.events if isinstance(one, h2.events.DataReceived) and one.stream_id == number]
        return dict(response.headers)[":status"], b"".join(data)

    def goodbye(self) -> ErrorCodes:
        """The code of the GOAWAY, after which the connection ends."""
        event = self.until(h2.events.ConnectionTerminated)
        while self.read():
            pass
        return ErrorCodes(event.error_code)


@pytest.fixture
def site(start: Callable[..., Running], tmp_path: Path) -> Any:
    """Makes a site with mounts of every kind, or of the lane alone."""
    opened: list[Client] = []

    def make(limits: str = "", loop: str = LOOP) -> Site:
        (tmp_path / "streams.py").write_text(APPLICATION)
        (tmp_path / "a.txt").write_text("a file")
        sock = listening()
        text = CONFIGURATION.format(address="address systemd:name=web", limits=limits, loop=loop)
        running = start(text, ("web", sock), arguments=("--single",)).wait_ready()
        made = Site(running, sock.getsockname(), tmp_path / "run0")
        made.client = lambda: opened.append(Client(made.address)) or opened[-1]  # type: ignore[attr-defined, func-returns-value]
        return made

    yield make
    for one in opened:
        one.sock.close()


@pytest.mark.parametrize("loop", [LOOP, ""], ids=["beside", "alone"])
def test_every_kind_of_mount(site: Any, loop: str) -> None:
    """By curl, many at once on one connection; HTTP/1.1 beside it."""
    served = site(loop=loop)
    (served.folder.parent / "large").write_bytes(b"z" * 3_000_000)
    paths = ["/wsgi/a", "/static/a.txt", "/nothing", *(["/asgi/b"] if loop else [])]
    # curl 7.88 asks only once on a connection that it has begun with HTTP/2; nghttp asks for all at once.
    said = "".join(served.curl(served.url + path, "-w", " %{http_version} %{http_code}\n") for path in paths)
    command = ["nghttp", *(served.url + path for path in paths)]
    assert "wsgi /a 0 http" in subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "wsgi /a 0 http 2 200" in said
    assert "a file 2 200" in said
    assert "404" in said
    if loop:
        assert "2 GET /b 0 http False 2 200" in said
        command = ["curl", "-s", served.url + "/asgi/c"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("1.1 GET /c 0")
    assert len(served.curl(served.url + "/static/large")) == 3_000_000
    assert served.curl("--data-binary", f"@{upload(served)}", served.url + "/wsgi/up").endswith(" 500000 http")
    assert served.curl("-I", served.url + "/static/a.txt").startswith("HTTP/2 200")
    assert served.running.stop() == 0
    assert "Traceback" not in served.running.errors


@pytest.mark.parametrize("loop", [LOOP, ""], ids=["beside", "alone"])
def test_http1_before_it(site: Any, loop: str) -> None:
    """On another connection it changes nothing; on the same one it is too late."""
    served = site(loop=loop)
    with socket.create_connection(served.address, timeout=30) as before:
        before.sendall(b"GET /wsgi/a HTTP/1.1\r\nHost: x\r\n\r\n")
        read_to(before, b"wsgi /a 0 http")
        client = served.client()
        assert client.answer(client.get("/wsgi/b")) == ("200", b"wsgi /b 0 http")
        before.sendall(b"GET /wsgi/c HTTP/1.1\r\nHost: x\r\n\r\n")
        read_to(before, b"wsgi /c 0 http")
        before.sendall(PREFACE)
        assert before.recv(12) == b"HTTP/1.1 505"


@pytest.mark.parametrize("mounts", ["all", "lane", "loop"])
def test_its_beginning_in_pieces(start: Callable[..., Running], tmp_path: Path, mounts: str) -> None:
    """A packet may end anywhere."""
    (tmp_path / "streams.py").write_text(APPLICATION)
    sock = listening()
    text = CONFIGURATION.format(address="address systemd:name=web", limits="", loop="" if mounts == "lane" else LOOP)
    if mounts == "loop":
        text = text[: text.index("  <wsgi>")] + "</http>"
    start(text, ("web", sock), arguments=("--single",)).wait_ready()
    settings = SettingsFrame().serialize()
    for size in (1, 10, 15, 16, 20):
        with socket.create_connection(sock.getsockname(), timeout=30) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in (PREFACE[:size], PREFACE[size:] + settings):
                client.sendall(part)
                time.sleep(0.1)
            # RFC 9113, 3.4: SETTINGS come first.
            assert client.recv(9)[3:4] == b"\4"


@pytest.mark.parametrize("loop", [LOOP, ""], ids=["beside", "alone"])
def test_behind_a_proxy_that_says_who_it_is(start: Callable[..., Running], tmp_path: Path, loop: str) -> None:
    """The header of the PROXY protocol in one packet with the preface, or before it."""
    (tmp_path / "streams.py").write_text(APPLICATION)
    sock = listening()
    address = "address systemd:name=web\n proxy-protocol on\n trusted 127.0.0.1"
    text = CONFIGURATION.format(address=address, limits="", loop=loop)
    start(text, ("web", sock), arguments=("--single",)).wait_ready()
    for apart in (False, True):
        client = Client(sock.getsockname(), b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 80\r\n", apart)
        with client.sock:
            assert client.answer(client.get("/wsgi/a")) == ("200", b"wsgi /a 0 http")


def test_an_application_of_the_loop(site: Any) -> None:
    """Uploads, streams of its own, trailers, a failure."""
    served = site()
    assert served.curl("--data-binary", f"@{upload(served)}", served.url + "/asgi/up") == "2 POST /up 500000 http False"
    assert len(served.curl(served.url + "/asgi/large")) == 64 * 65536
    client = served.client()
    number = client.get("/asgi/trailers", fields=(("te", "trailers"),))
    assert client.answer(number) == ("200", b"data")
    assert ("x-sum", "4") in client.until(h2.events.TrailersReceived, number).headers
    number = client.get("/asgi/fail")
    assert client.answer(number)[0] == "500"
    number = client.get("/asgi/fine")
    assert client.answer(number)[0] == "200"


def test_nghttp_and_h2load(site: Any) -> None:
    """What they count as good."""
    served = site()
    said = subprocess.run(
        ["nghttp", "-v", served.url + "/asgi/x"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert ":status: 200" in said
    for path in ("/asgi/x", "/wsgi/x", "/static/a.txt"):
        command = ["h2load", "-n", "400", "-c", "4", "-m", "20", served.url + path]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert "400 succeeded, 0 failed" in said, said


def test_over_tls(start: Callable[..., Running], tmp_path: Path) -> None:
    """ALPN chooses; who wants HTTP/1.1 gets it."""
    (tmp_path / "streams.py").write_text(APPLICATION)
    authority = Authority()
    pem, root = tmp_path / "pair.pem", authority.write(tmp_path / "root.pem")
    pem.touch(0o600)
    pem.write_bytes(authority.issue("localhost").pem)
    sock = listening()
    address = f"tls-address systemd:name=web\n<tls>\n certificate {pem}\n</tls>"
    text = CONFIGURATION.format(address=address, limits="", loop=LOOP)
    running = start(text, ("web", sock), arguments=("--single",)).wait_ready()
    url = f"https://localhost:{sock.getsockname()[1]}"
    for version, shown in (("--http2", "2"), ("--http1.1", "1.1")):
        command = [
            "curl",
            "-sS",
            "--max-time",
            "30",
            version,
            "--cacert",
            str(root),
            url + "/asgi/x",
            url + "/wsgi/y",
            "-w",
            " %{http_version}\n",
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert said == f"{shown} GET /x 0 https True {shown}\nwsgi /y 0 https {shown}\n"
    assert running.stop() == 0
    assert "Traceback" not in running.errors


def test_streams_do_not_hold_each_other_up(site: Any) -> None:
    """One waits, one is not read, one is served."""
    served = site()
    client = served.client()
    waiting = client.get("/asgi/wait")
    wait_until(lambda: (served.folder / "wait.here").exists())
    client.h2.increment_flow_control_window(10_000_000)
    large = client.get("/asgi/large")
    quick = client.get("/wsgi/quick")
    while not any(isinstance(one, h2.events.StreamEnded) and one.stream_id == quick for one in client.events):
        assert client.read(acknowledge=False)
    (served.folder / "wait.go").touch()
    client.h2.increment_flow_control_window(10_000_000, large)
    client.flush()
    assert client.answer(waiting)[1].startswith(b"2 GET /wait")
    assert len(client.answer(large)[1]) == 64 * 65536


def test_a_stream_that_is_reset(site: Any) -> None:
    """The application is told; the connection goes on."""
    served = site()
    client = served.client()
    number = client.get("/asgi/hang")
    served.running.wait_said("hangs")
    client.h2.reset_stream(number)
    client.flush()
    served.running.wait_said("ends http.disconnect")
    assert client.answer(client.get("/asgi/next"))[0] == "200"


def test_a_stop(site: Any) -> None:
    """GOAWAY; what is in flight is answered."""
    served = site()
    client = served.client()
    number = client.get("/asgi/wait")
    wait_until(lambda: (served.folder / "wait.here").exists())
    served.running.process.send_signal(signal.SIGTERM)
    # h2 as a client hears nothing after a GOAWAY; look at the frames.
    data = b""
    while b"\x07\x00\x00\x00\x00\x00" not in data:
        part = client.sock.recv(65536)
        assert part
        data += part
    (served.folder / "wait.go").touch()
    while part := client.sock.recv(65536):
        data += part
    assert b"2 GET /wait" in data
    assert number == 1
    assert served.running.wait_exit() == 0


def test_heads_that_are_none(site: Any) -> None:
    """400 on the stream, and others go on."""
    served = site()
    client = served.client()
    for fields in ((("x", "a\rb"),), (("host", "other"),), (("x y", "z"),)):
        number = client.get("/wsgi/x", fields=fields)
        while not any(getattr(one, "stream_id", None) == number for one in client.events) and not client.ended:
            client.read()
        if client.ended or any(isinstance(one, h2.events.ConnectionTerminated) for one in client.events):
            client = served.client()  # h2 refuses some of them itself, with the connection
            continue
        response = next(one for one in client.events if getattr(one, "stream_id", None) == number)
        if isinstance(response, h2.events.ResponseReceived):
            assert dict(response.headers)[":status"] == "400"
        else:
            assert isinstance(response, h2.events.StreamReset)
    assert served.client().h2 is not None
    assert client.answer(client.get("/wsgi/good"))[0] == "200"


def upload(served: Site) -> Path:
    """A file of 500,000 bytes."""
    path = served.folder / "upload"
    path.write_bytes(b"x" * 500_000)
    return path


# Attacks.


def good(served: Any) -> None:
    """Whoever else there is, is served."""
    assert served.curl("--max-time", "30", served.url + "/wsgi/good") == "wsgi /good 0 http"


def spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_rapid_reset(site: Any) -> None:
    """CVE-2023-44487."""
    served = site()
    client = served.client()
    for _ in range(2000):
        number = client.h2.get_next_available_stream_id()
        client.h2.send_headers(
            number, [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/asgi/hang")]
        )
        client.h2.reset_stream(number)
    try:
        client.flush()
        assert client.goodbye() == ErrorCodes.ENHANCE_YOUR_CALM
    except (OSError, AssertionError):
        assert client.ended or not client.read()
    good(served)


@pytest.mark.parametrize("frame", ["settings", "ping", "window"])
def test_a_flood(site: Any, frame: str) -> None:
    """CVE-2019-9512, -9515, and windows opened by a byte."""
    served = site()
    client = served.client()
    one = {
        "settings": SettingsFrame(0, settings={4: 65535}),
        "ping": PingFrame(0, opaque_data=b"12345678"),
        "window": WindowUpdateFrame(0, window_increment=1),
    }[frame].serialize()
    try:
        for _ in range(100):
            client.sock.sendall(one * 100)
    except OSError:
        pass
    data = b""
    try:
        while part := client.sock.recv(65536):
            data += part
    except OSError:
        pass
    assert struct.pack(">I", ErrorCodes.ENHANCE_YOUR_CALM) in data or not data
    served.running.wait_said("is refused: too many")
    good(served)


def test_a_continuation_flood(site: Any) -> None:
    """CVE-2024-27316: a head without an end."""
    served = site()
    client = served.client()
    first = HeadersFrame(1, data=b"\x82\x86\x84\x41\x01x", flags=[])
    more = ContinuationFrame(1, data=b"\x40\x01a\x7f\x80\x01" + b"x" * 100)
    try:
        client.sock.sendall(first.serialize())
        for _ in range(5000):
            client.sock.sendall(more.serialize())
    except OSError:
        pass
    memory = int(Path(f"/proc/{served.running.process.pid}/statm").read_text().split()[1]) * 4096
    assert memory < 300_000_000
    while client.read():
        pass
    assert client.ended
    good(served)


def test_a_bomb_in_a_head(site: Any) -> None:
    """CVE-2016-6581: one long field in the table, named a thousand times."""
    served = site()
    client = served.client()
    block = b"\x82\x86\x84\x41\x01x" + b"\x40\x01b\x7f\xd0\x1e" + b"x" * 4015 + b"\xbe" * 8000
    client.sock.sendall(HeadersFrame(1, data=block, flags=["END_HEADERS", "END_STREAM"]).serialize())
    assert client.goodbye() != ErrorCodes.NO_ERROR
    good(served)


def test_a_window_that_stays_shut(site: Any) -> None:
    """The stream is reset after the write time-out; the application does not wait for ever, the connection stays."""
    served = site("write-timeout 1s")
    client = served.client()
    client.h2.update_settings({4: 0})
    client.flush()
    number = client.get("/asgi/large")
    assert client.until(h2.events.StreamReset, number).error_code == ErrorCodes.CANCEL
    client.h2.update_settings({4: 65535})
    client.flush()
    assert client.answer(client.get("/wsgi/next"))[0] == "200"
    client.h2.increment_flow_control_window(2**31 - 1 - 65535)
    client.flush()
    # Beyond 2^31-1: RFC 9113, 6.9.1.
    client.sock.sendall(WindowUpdateFrame(0, window_increment=2**31 - 1).serialize())
    assert client.goodbye() == ErrorCodes.FLOW_CONTROL_ERROR
    good(served)


def test_limits(site: Any) -> None:
    """Bodies that are too large or too slow, heads that are too large, connections that are idle."""
    served = site("body-size 1000\nbody-rate 1000000\nidle-timeout 6s")
    client = served.client()
    number = client.get("/asgi/up", end=False, method="POST")
    client.h2.send_data(number, b"x" * 2000)
    client.flush()
    assert client.answer(number)[0] == "413"
    number = client.get("/asgi/slow", end=False, method="POST")
    client.h2.send_data(number, b"x")
    client.flush()
    began = time.monotonic()
    assert client.answer(number)[0] == "408"
    assert time.monotonic() - began > 3
    number = client.get("/wsgi/" + "x" * 9000)
    assert client.answer(number)[0] == "414"
    assert client.goodbye() == ErrorCodes.NO_ERROR


def test_there_are_the_clients() -> None:
    """`make test` installs them."""
    assert shutil.which("nghttp")
    assert shutil.which("h2load")
