"""HTTP on addresses that only Twisted can bind: every kind of mount and protocol, the limits, and an end that loses nothing."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.authority import Authority
from support.http2 import frame, literal
from support.running import APPD, MADE, TWISTD, Running, listening, read_to, spare_port, wait_until
from support.talking import Talker
from websockets.sync.client import connect

from appd.http.h2.codes import Frame

HOSTED = """
import json, os, threading, time

from twisted.internet import reactor
from twisted.web import resource


def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    headers = [("Content-Length", "10")] if path == "/short" else []
    start_response("200 OK", headers)
    if path == "/short":
        return [b"short"]
    if path == "/large":
        return (b"%07d\\n" % number * 8192 for number in range(256))
    if path == "/wait":
        open("wait.here", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)
        return [b"waited"]
    if path == "/begin":
        def begin():
            yield b"begun"
            open("begun.here", "w").close()
            while True:
                time.sleep(0.01)
                yield b""
        return begin()
    body = environ["wsgi.input"].read()
    shown = {key: value for key, value in environ.items() if key.isupper()}
    return [json.dumps([environ["wsgi.url_scheme"], len(body), shown]).encode()]


async def asgi(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"][::-1]})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/asgi/large":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 16777216})
        return
    said = json.dumps([scope["http_version"], scope["scheme"], scope["client"], scope["server"], len(body),
                       scope["extensions"].get("tls")]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said})


class Page(resource.Resource):
    isLeaf = True

    def render_GET(self, request):
        return json.dumps([str(request.getClientAddress()), request.isSecure(),
                           threading.current_thread() is threading.main_thread()]).encode()
"""
SITE = """python-path {folder}
drain-timeout {drain}
<http web>
  {address}
{more}
  <wsgi>
    path /wsgi
    application hosted:wsgi
  </wsgi>
  <asgi>
    path /asgi
    application hosted:asgi
    lifespan off
  </asgi>
  <resource>
    path /resource
    resource hosted:Page
    factory on
  </resource>
  <redirect>
    path /away
    to /asgi/
  </redirect>
  <static>
    root {folder}/files
  </static>
</http>
"""
# Whom the proxy speaks for, and where that one had connected to.
PROXY = b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 80\r\n"
LARGE = b"".join(b"%07d\n" % number * 8192 for number in range(256))


class Served:
    """A service on an address of Twisted's."""

    def __init__(
        self, start: Callable[..., Running], folder: Path, more: str = "", drain: str = "20s", tls: str = ""
    ) -> None:
        (folder / "hosted.py").write_text(HOSTED)
        (folder / "files").mkdir(exist_ok=True)
        (folder / "files" / "large.bin").write_bytes(LARGE)
        self.port = spare_port()
        address = f"{'tls-' if tls else ''}address haproxy:tcp:{self.port}:interface=127.0.0.1"
        text = SITE.format(folder=folder, address=address, more=tls + more, drain=drain)
        self.running = start(text, arguments=("--single",)).wait_ready()
        self.folder = folder / "run0"

    def open(self, header: bytes = PROXY) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), 30)
        MADE.append(made)
        made.sendall(header)
        return made

    def ask(self, request: bytes, header: bytes = PROXY) -> bytes:
        """What comes until the end."""
        with self.open(header) as client:
            client.sendall(request)
            return read_all(client)

    def get(self, path: str, *fields: tuple[str, str], header: bytes = PROXY) -> bytes:
        """The body of a page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.sock = self.open(header)
        connection.request("GET", path, headers={"Connection": "close", **dict(fields)})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200
        return body

    def stop(self) -> None:
        assert self.running.stop() == 0
        assert "Traceback" not in self.running.errors, self.running.errors


def read_all(client: Any) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.fixture
def site(start: Callable[..., Running], tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts a service; it must stop without a traceback."""
    made: list[Served] = []

    def serve(*arguments: str, **more: str) -> Served:
        made.append(Served(start, tmp_path, *arguments, **more))
        return made[-1]

    yield serve
    for one in made:
        if one.running.process.poll() is None:
            one.stop()


def test_every_kind_of_mount(site: Any) -> None:
    """On one connection, and each knows of the client what the proxy has said."""
    served = site()
    scheme, length, environ = json.loads(served.get("/wsgi/x"))
    assert (scheme, length) == ("http", 0)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("192.0.2.9", "4711")
    assert (environ["SERVER_PORT"], environ["PATH_INFO"]) == ("80", "/x")
    told = ["1.1", "http", ["192.0.2.9", 4711], ["198.51.100.1", 80], 0, None]
    assert json.loads(served.get("/asgi/")) == told
    peer, secure, in_the_main_thread = json.loads(served.get("/resource"))
    assert "host='192.0.2.9', port=4711" in peer and not secure and in_the_main_thread
    assert served.get("/large.bin") == LARGE
    with served.open() as client:
        for path, said in (
            ("/wsgi", b"192.0.2.9"),
            ("/asgi", b"192.0.2.9"),
            ("/away", b"Location: "),
            ("/none", b"404 "),
        ):
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            read_to(client, said)


def test_who_speaks_for_nobody(site: Any) -> None:
    """The header of a health check, and one that is none."""
    served = site()
    environ = json.loads(served.get("/wsgi", header=b"PROXY UNKNOWN :: :: 1 2\r\n"))[2]
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert served.ask(b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""


def test_claims_of_trusted_proxies(site: Any) -> None:
    """`trusted` is about whom the header has named."""
    served = site("  trusted 192.0.2.0/24\n")
    claims = ("X-Forwarded-For", "203.0.113.5"), ("X-Forwarded-Proto", "https")
    scheme, _, environ = json.loads(served.get("/wsgi", *claims))
    assert (scheme, environ["REMOTE_ADDR"]) == ("https", "203.0.113.5")
    scheme, _, environ = json.loads(served.get("/wsgi", *claims, header=PROXY.replace(b"192.0.2.9", b"192.168.0.9")))
    assert (scheme, environ["REMOTE_ADDR"]) == ("http", "192.168.0.9")


def test_bodies(site: Any) -> None:
    """Large ones both ways, whole and in chunks, and pipelined requests."""
    served = site()
    assert served.get("/wsgi/large") == LARGE
    for path, place in (("/wsgi", 1), ("/asgi", 4)):
        for body in (LARGE, iter((LARGE, b"more"))):
            connection = http.client.HTTPConnection("127.0.0.1", served.port)
            connection.sock = served.open()
            connection.request("POST", path, body, {"Connection": "close"})
            length = len(LARGE) if body is LARGE else len(LARGE) + 4
            assert json.loads(connection.getresponse().read())[place] == length
    one = b"GET /asgi HTTP/1.1\r\nHost: x\r\n\r\nGET /wsgi HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    said = served.ask(one * 200 + last)
    assert (said.count(b"HTTP/1.1 200 "), said.count(b"HTTP/1.1 404 ")) == (400, 1)


def test_a_body_shorter_than_announced(site: Any) -> None:
    """What there is of it arrives; the connection ends, so that no later response is taken for the rest."""
    said = site().ask(b"GET /wsgi/short HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    assert said.count(b"HTTP/1.1 ") == 1 and said.endswith(b"\r\n\r\nshort")


def test_http2_and_websockets(site: Any) -> None:
    """By prior knowledge, and by an upgrade."""
    served = site("  http2 on\n")
    url = f"http://127.0.0.1:{served.port}"
    command = ["curl", "-sS", "--max-time", "30", "--http2-prior-knowledge", "--haproxy-protocol"]
    said = subprocess.run([*command, f"{url}/asgi"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert json.loads(said)[:2] == ["2", "http"]
    got = subprocess.run([*command, f"{url}/large.bin"], capture_output=True, check=True, timeout=60).stdout
    assert got == LARGE
    with connect(f"ws://127.0.0.1:{served.port}/asgi", sock=served.open()) as client:
        for text in ("one", "two" * 100_000):
            client.send(text)
            assert client.recv(timeout=30) == text[::-1]


@pytest.fixture
def secured(tmp_path: Path) -> tuple[str, Path, Path]:
    """A `<tls>` that asks for certificates, the authority, and a client's certificate."""
    authority = Authority()
    root = authority.write(tmp_path / "root.pem")
    pair = authority.issue("localhost").write(tmp_path / "site.pem")
    client = authority.issue("client.example").write(tmp_path / "client.pem")
    tls = f"\n  <tls>\n    certificate {pair}\n    client-ca {root}\n    client-verify optional\n  </tls>\n"
    return tls, root, client


def _shake(served: Served, root: Path, client: Path | None, *protocols: str) -> Talker:
    context = ssl.create_default_context(cafile=str(root))
    if client is not None:
        context.load_cert_chain(client)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return Talker(served.open(), context)


def test_tls(site: Any, secured: tuple[str, Path, Path]) -> None:
    """Inside of what the proxy says: what applications know of it, HTTP/2 by ALPN, and an end of the client's alone."""
    tls, root, certificate = secured
    served = site("  http2 on\n", tls=tls)
    for shown in (certificate, None):
        client = _shake(served, root, shown, "http/1.1")
        client.sendall(b"GET /wsgi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        scheme, _, environ = json.loads(read_all(client).partition(b"\r\n\r\n")[2])
        assert (scheme, environ["HTTPS"], environ["REMOTE_ADDR"]) == ("https", "on", "192.0.2.9")
        assert environ["SSL_CLIENT_VERIFY"] == ("NONE" if shown is None else "SUCCESS")
        client = _shake(served, root, shown)
        client.sendall(b"GET /asgi HTTP/1.0\r\n\r\n")
        told = json.loads(read_all(client).partition(b"\r\n\r\n")[2])
        assert told[:3] == ["1.0", "https", ["192.0.2.9", 4711]]
        assert told[5]["tls_version"] == 0x0304
        if shown is None:
            assert (told[5]["client_cert_chain"], told[5]["client_cert_name"]) == ([], None)
        else:
            assert told[5]["client_cert_chain"][0] in certificate.read_text()
            assert "CN=" in told[5]["client_cert_name"]
    client = _shake(served, root, None, "h2", "http/1.1")
    assert client.tls.selected_alpn_protocol() == "h2"
    client.close()
    command = ["curl", "-sS", "--max-time", "30", "--http2", "--haproxy-protocol", "--cacert", str(root)]
    url = f"https://localhost:{served.port}/"
    said = subprocess.run([*command, url + "asgi"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert json.loads(said)[:2] == ["2", "https"]
    got = subprocess.run([*command, url + "large.bin"], capture_output=True, check=True, timeout=60).stdout
    assert got == LARGE


def test_limits(site: Any) -> None:
    """Of a peer as the proxy names it; of all; of a head, a body and an answer that nobody takes; of a call."""
    served = site(
        "  <limits>\n    connections 4\n    connections-per-peer 2\n    header-timeout 500ms\n    write-timeout 1s\n"
        "    body-size 1KB\n  </limits>\n"
    )
    mine = [served.open() for _ in range(2)]
    for one in mine:
        one.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        read_to(one, b"404 ")
    assert b"503 " in served.ask(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
    other = PROXY.replace(b"192.0.2.9", b"192.0.2.10")
    # What comes too slowly.
    assert b"408 " in served.ask(b"GET /none HTTP/1.1\r\nHo", other)
    assert b"413 " in served.ask(b"POST /wsgi HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n", other)
    with served.open(other) as client:
        client.sendall(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
        with pytest.raises(ConnectionResetError):
            time.sleep(4)
            read_all(client)
    # Two more are all; the next waits.
    more = [served.open(other) for _ in range(2)]
    for one in more:
        one.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        read_to(one, b"404 ")
    with served.open(PROXY.replace(b"192.0.2.9", b"192.0.2.11")) as late:
        late.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        late.settimeout(0.5)
        with pytest.raises(TimeoutError):
            late.recv(1)
        late.settimeout(30)
        more.pop().close()
        read_to(late, b"404 ")
    for one in (*mine, *more):
        one.close()


def test_a_slow_reader_gets_all(site: Any) -> None:
    """As long as something is taken within write-timeout, though what waits does not run out."""
    served = site("  <limits>\n    write-timeout 1500ms\n  </limits>\n")
    with served.open() as client:
        client.sendall(b"GET /asgi/large HTTP/1.0\r\n\r\n")
        got, ends = 0, time.monotonic() + 4
        while time.monotonic() < ends:
            got += len(client.recv(250_000))
            time.sleep(0.1)
        assert got < 16_000_000
        assert got + len(read_all(client)) > 16_777_216


def test_what_is_said_does_not_put_off_the_write_timeout(site: Any) -> None:
    """Of a client of HTTP/2 that takes nothing and has something to be answered all the time."""
    served = site("  http2 on\n  <limits>\n    write-timeout 2s\n  </limits>\n")
    windows = frame(Frame.SETTINGS, 0, 0, b"\x00\x04\x7f\xff\xff\xff")
    windows += frame(Frame.WINDOW_UPDATE, 0, 0, (2**31 - 1 - 65535).to_bytes(4, "big"))
    asks = b"\x82\x86\x01\x01a" + literal(":path", "/asgi/large")
    ends, ping = time.monotonic() + 60, frame(Frame.PING, 0, 0, b"12345678")
    with served.open() as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + windows + frame(Frame.HEADERS, 5, 1, asks))
        with pytest.raises(ConnectionError):
            while time.monotonic() < ends:
                client.sendall(ping)
                time.sleep(0.5)


@pytest.mark.parametrize("over", ["plain", "tls"])
def test_a_drain(site: Any, secured: tuple[str, Path, Path], over: str) -> None:
    """What is in flight is answered, what is idle or says nothing ends in a moment, and who comes late waits."""
    tls, root, _certificate = secured
    served = site(tls=tls if over == "tls" else "")

    def open_one() -> Any:
        return _shake(served, root, None) if over == "tls" else served.open()

    busy, idle, silent = open_one(), open_one(), open_one()
    idle.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
    read_to(idle, b"404 ")
    busy.sendall(b"GET /wsgi/wait HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: (served.folder / "wait.here").exists())
    served.running.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    read_all(idle)
    read_all(silent)
    assert time.monotonic() - began < 10
    (served.folder / "go").touch()
    said = read_all(busy)
    assert said.startswith(b"HTTP/1.1 200 ") and b"\r\nConnection: close\r\n" in said and said.endswith(b"waited")
    assert served.running.wait_exit() == 0
    assert "Traceback" not in served.running.errors


@pytest.mark.parametrize("over", ["plain", "tls"])
def test_what_is_cut_does_not_look_whole(site: Any, secured: tuple[str, Path, Path], over: str) -> None:
    """A body that the end of the connection ends: the end of the drain is a reset, and over TLS no close_notify."""
    tls, root, _certificate = secured
    served = site(drain="1s", tls=tls if over == "tls" else "")
    client = _shake(served, root, None) if over == "tls" else served.open()
    client.sendall(b"GET /wsgi/begin HTTP/1.0\r\n\r\n")
    read_to(client, b"begun")
    assert served.running.stop() == 0
    with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
        read_all(client)


def test_a_websocket_is_told_at_a_stop(site: Any) -> None:
    """1001, and the answer to that is waited for."""
    served = site()
    with connect(f"ws://127.0.0.1:{served.port}/asgi", sock=served.open()) as client:
        client.send("x")
        assert client.recv(timeout=30) == "x"
        stopping = threading.Thread(target=served.stop)
        stopping.start()
        with pytest.raises(Exception, match="1001"):
            client.recv(timeout=30)
        stopping.join()


def test_tls_ends_by_one_side(site: Any, secured: tuple[str, Path, Path]) -> None:
    """A client that has said close_notify is still answered."""
    tls, root, _certificate = secured
    served = site(tls=tls)
    client = _shake(served, root, None)
    client.sendall(b"GET /wsgi/wait HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: (served.folder / "wait.here").exists())
    client.shutdown(socket.SHUT_WR)
    time.sleep(0.2)  # nothing tells that it was heard, as nothing is to happen
    (served.folder / "go").touch()
    assert read_all(client).endswith(b"waited")


def test_beside_a_socket(start: Callable[..., Running], tmp_path: Path) -> None:
    """One server on both: requests are counted together, and a reload refuses nobody."""
    (tmp_path / "hosted.py").write_text(HOSTED)
    (tmp_path / "files").mkdir()
    port, sock = spare_port(), listening()
    address = f"address haproxy:tcp:{port}:interface=127.0.0.1\n  address systemd:name=web"
    text = SITE.format(folder=tmp_path, address=address, more="", drain="20s")
    control = str(tmp_path / "control")
    running = start(text, ("web", sock), arguments=("--control", control)).wait_ready()

    def ask(where: Any, header: bytes) -> bytes:
        with socket.create_connection(where, 30) as client:
            client.sendall(header + b"GET /wsgi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return read_all(client)

    for _ in range(2):
        for _ in range(5):
            assert ask(("127.0.0.1", port), PROXY).startswith(b"HTTP/1.1 200 ")
            assert ask(sock.getsockname(), b"").startswith(b"HTTP/1.1 200 ")
        command = [APPD, "status", "--json", "--socket", control]

        def counted(command: list[str] = command) -> bool:
            said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            return any(one.get("requests") == 10 for one in said["workers"])

        wait_until(counted)
        done = subprocess.run([APPD, "reload", "--socket", control], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert running.stop() == 0
    assert "Traceback" not in running.errors


def test_another_reactor(start: Callable[..., Running], tmp_path: Path) -> None:
    """It is refused, with the address."""
    (tmp_path / "site.conf").write_text(
        "<http web>\n address haproxy:tcp:0\n <static>\n  root .\n </static>\n</http>\n"
    )
    command = [TWISTD, "-n", "--pidfile=", "-r", "select", "appd", "--config", str(tmp_path / "site.conf")]
    running = start("", command=command)
    assert running.wait_exit() == 78
    assert "address haproxy:tcp:0 needs Twisted's epoll reactor, and this is SelectReactor" in running.errors


PROGRAM = """
import sys
from twisted.internet import reactor
from appd.servers import find_type

def application(environ, start_response):
    start_response("200 OK", [])
    return [environ["wsgi.url_scheme"].encode()]

plain = find_type("HTTP").create("web", application, ip="127.0.0.1", port=int(sys.argv[1]))
secure = find_type("HTTPS").create("webs", application, sys.argv[3], sys.argv[3], ip="127.0.0.1", port=int(sys.argv[2]))
for one in plain, secure:
    one.startService()
print("ready", flush=True)
reactor.run()
"""


def test_a_program_without_a_file(tmp_path: Path) -> None:
    """zope.app.twisted's way: the application object on an address, plain and over TLS, on whichever reactor there is."""
    authority = Authority()
    root, pair = authority.write(tmp_path / "root.pem"), authority.issue("localhost").write(tmp_path / "site.pem")
    ports = [str(spare_port()), str(spare_port())]
    command = [sys.executable, "-c", PROGRAM, *ports, str(pair)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None and running.stdout.readline() == "ready\n"
            curl = ["curl", "-sS", "--max-time", "30", "--cacert", str(root)]
            for scheme, port in zip(("http", "https"), ports, strict=True):
                url = f"{scheme}://localhost:{port}/"
                said = subprocess.run([*curl, url], capture_output=True, text=True, check=True, timeout=60)
                assert said.stdout == scheme
        finally:
            running.terminate()
