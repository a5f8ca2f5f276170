"""What twisted.web promises a resource, on the way that requests take: the loop asks it itself, in the reactor's thread.

Over HTTP/1.1 and HTTP/2, plain and by TLS, where the protocol could make a difference.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import re
import signal
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.authority import Authority
from support.running import APPD, TWISTD, Running, listening, wait_until

import twisted

ROOT = Authority("Root")
HOSTED = '''
import asyncio, hashlib, json, threading, time

from klein import Klein
from twisted.internet import defer, reactor, task
from twisted.web import resource, server


def note(name, text=""):
    with open(name, "a") as file:
        file.write(text + "\\n")


class Page(resource.Resource):
    isLeaf = True

    def render(self, request):
        name = request.postpath[0].decode()
        return getattr(self, "page_" + name)(request)

    def page_who(self, request):
        certificate = request.transport.getPeerCertificate()
        return json.dumps({
            "peer": [request.getClientAddress().host, request.getClientAddress().port],
            "same": request.transport.getPeer() == request.client,
            "host": request.getHost().port,
            "secure": request.isSecure(),
            "certificate": certificate and certificate.get_subject().CN,
            "protocol": request.clientproto.decode(),
            "user": request.getUser().decode(),
            "thread": threading.current_thread() is threading.main_thread(),
            "loop": asyncio._get_running_loop() is not None,
        }).encode()

    def page_sum(self, request):
        digest = hashlib.sha256()
        while block := request.content.read(1 << 20):
            digest.update(block)
        return digest.hexdigest().encode()

    def page_count(self, request):
        session = request.getSession()
        session.times = getattr(session, "times", 0) + 1
        if b"for" in request.args:
            session.sessionTimeout = float(request.args[b"for"][0])
            session.notifyOnExpire(lambda: note("expired"))
            session.touch()
        return b"%d" % session.times

    def page_many(self, request):
        """Writes from many callbacks, in their order."""
        calls = [task.deferLater(reactor, 0.002 * (number // 3), request.write, b"%d," % number) for number in range(60)]
        defer.gatherResults(calls).addCallback(lambda _all: request.finish())
        return server.NOT_DONE_YET

    def page_stream(self, request):
        Writer(request, b"push" in request.args).begin()
        return server.NOT_DONE_YET

    def page_wait(self, request):
        request.notifyFinish().addErrback(lambda failure: note("left", failure.type.__name__))
        if b"begun" in request.args:
            request.write(b"begun")
        note("waits")
        return server.NOT_DONE_YET

    def page_soon(self, request):
        reactor.callLater(0, lambda: (request.write(b"so"), request.write(b"on"), request.finish()))
        return server.NOT_DONE_YET

    def page_tag(self, request):
        if request.setETag(b'"one"') is not None:
            return b""
        return b"tagged"

    def page_dated(self, request):
        if request.setLastModified(1000000000) is not None:
            return b""
        return b"dated"

    def page_empty(self, request):
        request.setResponseCode(204)
        return b""

    def page_own(self, request):
        request.setHeader("Server", "mine")
        request.setHeader("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
        request.setHeader("Connection", "close")
        return b"own"

    def page_bad(self, request):
        request.setHeader("X-Bad", b"a\\0b")
        return b"bad"

    def page_short(self, request):
        request.setHeader("Content-Length", "10")
        request.write(b"short")
        request.finish()
        return server.NOT_DONE_YET

    def page_early(self, request):
        """Gives up before it has said anything."""
        request.loseConnection()
        return server.NOT_DONE_YET

    def page_block(self, request):
        time.sleep(2.5)
        return b"at last"

    def page_hang(self, request):
        time.sleep(3600)

    def page_failing(self, request):
        request.registerProducer(Failing(), False)
        return server.NOT_DONE_YET


class Failing:
    def resumeProducing(self):
        raise ValueError("what a producer says")

    def stopProducing(self):
        note("stopped")


class Get(resource.Resource):
    """Knows no HEAD."""

    isLeaf = True

    def render_GET(self, request):
        return b"got"


class Writer:
    """Writes 256 blocks of 64 KB."""

    def __init__(self, request, push):
        self.request, self.push, self.left, self.paused = request, push, 256, False

    def begin(self):
        self.request.registerProducer(self, self.push)
        if self.push:
            self.write()

    def write(self):
        while self.left and not self.paused:
            self.write_one()

    def write_one(self):
        self.left -= 1
        self.request.write(b"y" * 65536)
        if not self.left:
            self.request.unregisterProducer()
            self.request.finish()

    def resumeProducing(self):
        if self.push:
            self.paused = False
            self.write()
        elif self.left:
            self.write_one()

    def pauseProducing(self):
        self.paused = True
        note("paused", str(self.left))

    def stopProducing(self):
        self.left = 0
        note("stopped")


root = resource.Resource()
root.putChild(b"page", Page())
root.putChild(b"get", Get())

app = Klein()


@app.route("/parts")
async def parts(request):
    for number in range(20):
        request.write(b"%d," % number)
        await task.deferLater(reactor, 0.002)
    return b"end"


@app.route("/never")
def never(request):
    note("waits")
    return defer.Deferred(lambda made: note("cancelled"))


async def asgi(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    said = b"%d" % (threading.current_thread() is threading.main_thread())
    await send({"type": "http.response.body", "body": said})
'''

MOUNTS = """
  <resource>
    resource hosted:root
  </resource>
  <resource>
    path /klein
    resource hosted:app
  </resource>
"""


class Served:
    """A running server; `folder` is the one that it works in."""

    def __init__(self, running: Running, folder: Path, plain: socket.socket, secure: socket.socket) -> None:
        self.running = running
        self.folder = folder
        self.plain, self.secure = plain.getsockname()[1], secure.getsockname()[1]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.plain), timeout=20)

    def talk(self, data: bytes) -> bytes:
        """What comes back on a connection of its own until it ends."""
        with self.connect() as client:
            client.sendall(data)
            return b"".join(iter(lambda: client.recv(1 << 20), b""))

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[Any, bytes]:
        client = http.client.HTTPConnection("127.0.0.1", self.plain, timeout=20)
        with contextlib.closing(client):
            client.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = client.getresponse()
            return response, response.read()

    def noted(self, name: str) -> list[str]:
        """The lines of a file that hosted code has written."""
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def wait_noted(self, name: str, *lines: str) -> None:
        wait_until(lambda: self.noted(name) == list(lines), 20, lambda: (self.noted(name), self.running.errors))


@pytest.fixture
def serve(start: Callable[..., Running], tmp_path: Path) -> Callable[..., Served]:
    (tmp_path / "hosted.py").write_text(HOSTED)
    ROOT.issue("localhost").write(tmp_path / "site.pem")
    ROOT.write(tmp_path / "root.pem")
    ROOT.issue("alice").write(tmp_path / "alice.pem")

    def make(more: str = "", mounts: str = MOUNTS, before: str = "", **settings: Any) -> Served:
        plain, secure = listening(), listening()
        text = (
            f"python-path {tmp_path}\n<log>\n  format text\n</log>\n{before}<http web>\n  address systemd:name=plain\n"
            f"  tls-address systemd:name=secure\n  http2 on\n{more}\n  <tls>\n    certificate {tmp_path}/site.pem\n"
            f"    client-ca {tmp_path}/root.pem\n    client-verify optional\n  </tls>\n{mounts}</http>\n"
        )
        arguments = settings.pop("arguments", ("--single",))
        running = start(text, ("plain", plain), ("secure", secure), arguments=arguments, **settings).wait_ready()
        return Served(running, tmp_path / "run0", plain, secure)

    return make


class Way:
    """How curl asks."""

    def __init__(self, served: Served, folder: Path, name: str) -> None:
        self.secure = name.startswith("tls")
        port = served.secure if self.secure else served.plain
        self._base = f"http{'s' * self.secure}://localhost:{port}"
        version = {"http1": "--http1.1", "h2": "--http2-prior-knowledge", "tls": "--http1.1", "tls-h2": "--http2"}[name]
        self.options = ["curl", "-sS", "-4", version, "--cacert", f"{folder}/root.pem"]

    def url(self, path: str) -> str:
        return self._base + path

    def command(self, path: str, *options: str) -> list[str]:
        return [*self.options, *options, self.url(path)]

    def ask(self, path: str, *options: str, data: bytes = b"") -> bytes:
        done = subprocess.run(self.command(path, *options), input=data, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


@pytest.fixture(params=["http1", "h2", "tls", "tls-h2"])
def way(served: Served, tmp_path: Path, request: pytest.FixtureRequest) -> Way:
    return Way(served, tmp_path, request.param)


def test_who_asks(way, tmp_path):
    """Address, scheme and certificate are the connection's; the thread is the reactor's, and there no loop is to be seen."""
    said = json.loads(way.ask("/page/who", "--cert", str(tmp_path / "alice.pem"), "-u", "bob:secret"))
    assert said.pop("peer")[0] == "127.0.0.1" and said.pop("host") > 0
    assert said == {
        "same": True,
        "secure": way.secure,
        "certificate": "alice" if way.secure else None,
        "protocol": "HTTP/1.1",
        "user": "bob",
        "thread": True,
        "loop": False,
    }


def test_who_asks_without_a_certificate(way):
    """None, as from Twisted's own transport."""
    assert json.loads(way.ask("/page/who"))["certificate"] is None


def test_uploads(way):
    """Of a length that is told and of one that is not, small and beyond what is kept in memory."""
    for size in (0, 10, 70_000, 3_000_000):
        data = bytes(range(256)) * (size // 256 + 1)
        expected = hashlib.sha256(data).hexdigest().encode()
        assert way.ask("/page/sum", "--data-binary", "@-", data=data) == expected
        # From a pipe of which curl does not know the length: chunked, or a stream of HTTP/2 without one.
        assert way.ask("/page/sum", "-T", "-", data=data) == expected


@pytest.mark.parametrize("kind", ["push", "pull"])
def test_producers(way, served, kind):
    """All of 16 MB arrives, at whatever pace the client takes it."""
    said = way.ask(f"/page/stream?{kind}=1", "--limit-rate", "40M")
    assert len(said) == said.count(b"y") == 256 * 65536
    if kind == "pull":
        assert not served.noted("paused")


def test_writes_from_many_callbacks(way):
    """In their order, each a turn of the reactor of its own or three in one."""
    assert way.ask("/page/many") == b"".join(b"%d," % number for number in range(60))


def test_an_answer_in_the_next_turn(way):
    """Two parts that are said at once."""
    assert way.ask("/page/soon") == b"soon"


def test_klein_that_streams(way):
    """Parts that are written, and what is returned behind them."""
    assert way.ask("/klein/parts") == b"".join(b"%d," % number for number in range(20)) + b"end"


def test_a_client_that_leaves(way, served):
    """Before and within the response: notifyFinish fails once for each, and the next one is served."""
    for count, path in enumerate(("/page/wait", "/page/wait?begun=1"), 1):
        client = subprocess.Popen(way.command(path, "-N"), stdout=subprocess.DEVNULL)
        served.wait_noted("waits", *[""] * count)
        client.kill()
        client.wait()
        served.wait_noted("left", *["ConnectionLost"] * count)
    assert way.ask("/page/soon") == b"soon"


def test_a_client_that_leaves_a_producer(way, served):
    """It is told to stop."""
    client = subprocess.Popen(way.command("/page/stream?push=1"), stdout=subprocess.PIPE)
    wait_until(lambda: served.noted("paused"), 20, lambda: served.running.errors)
    client.kill()
    client.communicate()
    served.wait_noted("stopped", "")


def test_a_deferred_is_cancelled(way, served):
    """Klein does so when the client has left."""
    client = subprocess.Popen(way.command("/klein/never"), stdout=subprocess.DEVNULL)
    served.wait_noted("waits", "")
    client.kill()
    client.wait()
    served.wait_noted("cancelled", "")


@pytest.mark.parametrize(("path", "length"), [("/get", b"3"), ("/page/tag", b"6"), ("/page/many", None)])
def test_head(way, path, length):
    """Of a resource that knows HEAD, of one that does not, of one that answers later; no body, and the next is served."""
    said = way.ask(path, "-I")
    head, _, body = said.replace(b"\r\n", b"\n").partition(b"\n\n")
    assert b" 200" in head.splitlines()[0] and not body
    found = re.search(rb"(?i)\ncontent-length: (\d+)", head)
    assert (found[1] if found else None) == length


def test_conditions(way):
    """304 by tag and by date, which have no length of a body that is not there (RFC 9110, 8.6); and 204."""
    fields = ["-H", 'If-None-Match: "one"', "-H", "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT"]
    for path, status in (("tag", b"304"), ("dated", b"304"), ("empty", b"204")):
        said = way.ask(f"/page/{path}", "-D", "-", *fields)
        assert said.split()[1] == status
        assert b"content-length" not in said.lower() and said.endswith(b"\r\n\r\n")


def test_one_behind_the_other(served):
    """In one segment, with and without bodies: none is taken for a part of another."""
    asked = [
        ("GET", "/page/tag"),
        ("HEAD", "/get"),
        ("GET", "/page/empty"),
        ("HEAD", "/page/many"),
        ("GET", "/page/soon"),
    ]
    requests = [f'{method} {path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: "one"\r\n' for method, path in asked]
    said = served.talk("\r\n".join([*requests[:-1], requests[-1] + "Connection: close\r\n\r\n"]).encode())
    statuses = [int(one) for one in re.findall(rb"HTTP/1.1 (\d+) [^\r]*\r\n", said)]
    assert statuses == [304, 200, 204, 200, 200]
    assert said.count(b"\r\n\r\nHTTP/1.1 ") == 4 and b"soon" in said.replace(b"\r\n2\r\n", b"")


def test_what_it_says_of_the_server(way):
    """Its own Server and Date go out, once, and its Connection does not."""
    head = way.ask("/page/own", "-D", "-").replace(b"\r", b"").lower()
    assert head.count(b"\nserver: mine\n") == head.count(b"\nserver:") == 1
    assert head.count(b"\ndate: thu, 01 jan 1970 00:00:00 gmt\n") == head.count(b"\ndate:") == 1
    assert b"\nconnection:" not in head


@pytest.mark.parametrize(
    ("path", "reason"),
    [("bad", "the value of X-Bad has characters"), ("early", ""), ("failing", "what a producer says")],
)
def test_what_cannot_be_sent(way, served, path, reason):
    """500, the reason in the journal and not with the client; the next one is served."""
    said = way.ask(f"/page/{path}", "-w", "%{http_code}")
    assert said.endswith(b"500") and b"says" not in said
    if reason:
        served.running.wait_said(reason)
    assert way.ask("/page/soon") == b"soon"


def test_one_that_says_too_little(way, served):
    """The client sees that something is missing."""
    done = subprocess.run(way.command("/page/short"), capture_output=True, timeout=30)
    assert done.returncode != 0
    served.running.wait_said("shorter than its Content-Length")


def test_sessions(way, tmp_path):
    """They go on from request to request; by TLS with a cookie that is told to nobody in the clear."""
    jar = ["-c", str(tmp_path / "jar"), "-b", str(tmp_path / "jar")]
    assert [way.ask("/page/count", *jar) for _ in range(3)] == [b"1", b"2", b"3"]
    assert ("TWISTED_SECURE_SESSION" in (tmp_path / "jar").read_text()) == way.secure
    assert way.ask("/page/count") == b"1"


def test_one_that_expires(way, tmp_path, served):
    """Its timer is the reactor's."""
    jar = ["-c", str(tmp_path / "jar"), "-b", str(tmp_path / "jar")]
    assert way.ask("/page/count?for=0.1", *jar) == b"1"
    served.wait_noted("expired", "")
    assert way.ask("/page/count", *jar) == b"1"


# What is the same whatever the protocol.


def test_who_comes_by_a_proxy(serve):
    """The address that the PROXY protocol tells, or a field of a trusted proxy, with its scheme and host."""
    served = serve("  trusted 127.0.0.1\n  proxy-protocol on")
    said = served.talk(
        b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 443\r\nGET /page/who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    found = json.loads(said.partition(b"\r\n\r\n")[2])
    assert (found["peer"], found["secure"]) == (["192.0.2.9", 4711], False)


def test_who_comes_by_fields_of_a_proxy(serve):
    """As with the PROXY protocol, and what they say of the scheme."""
    served = serve("  trusted 127.0.0.1")
    found = json.loads(served.ask("/page/who", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https")[1])
    assert (found["peer"][0], found["secure"]) == ("192.0.2.7", True)


def test_a_client_that_ends_its_side(served):
    """Who has said all that it has to say is answered; who waits for long has mostly left, and the resource is told."""
    for path in (b"soon", b"sum"):
        with served.connect() as client:
            client.sendall(b"GET /page/%b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            client.shutdown(socket.SHUT_WR)
            assert b" 200 OK" in b"".join(iter(lambda: client.recv(65536), b""))
    with served.connect() as client:
        client.sendall(b"GET /page/wait HTTP/1.1\r\nHost: x\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(65536) == b""
    served.wait_noted("left", "ConnectionLost")


def test_a_reset(served):
    """Of the connection, while the resource waits."""
    with served.connect() as client:
        client.sendall(b"GET /page/wait?begun=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65536)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    served.wait_noted("left", "ConnectionLost")


def test_an_upload_that_breaks_off(served):
    """The resource is never asked, and the next client is served."""
    with served.connect() as client:
        client.sendall(b"POST /page/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    assert served.ask("/page/soon")[1] == b"soon"
    assert not served.noted("waits")


def test_100_continue(served):
    """Said when the resource may be asked, before the body comes."""
    with served.connect() as client:
        client.sendall(
            b"POST /page/sum HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        said = b"".join(iter(lambda: client.recv(65536), b""))
    assert said.endswith(hashlib.sha256(b"abc").hexdigest().encode())


def test_a_form_that_cannot_be_read(served):
    """400, and the connection ends; old releases of Twisted read what there is as a form without fields."""
    response, _ = served.ask("/page/sum", "POST", b"--x\r\nno form", Content_Type="multipart/form-data; boundary=y")
    assert response.status == (400 if twisted.version.major > 22 else 200)


def test_memory_of_a_large_upload(served):
    """64 MB go to a file as they come: the process grows by no more than a part of that."""
    served.ask("/page/sum", "POST", b"x" * 300_000)
    status = Path(f"/proc/{served.running.process.pid}/status")

    def peak() -> int:
        return int(status.read_text().partition("VmHWM:")[2].split()[0])

    before, block, digest = peak(), bytes(range(256)) * 4096, hashlib.sha256()

    def blocks() -> Any:
        for _ in range(64):
            digest.update(block)
            yield block

    said = served.ask("/page/sum", "POST", blocks())[1]
    assert said == digest.hexdigest().encode()
    assert peak() - before < 16_000


def test_request_timeout(serve, tmp_path):
    """504, or a cut when something has been sent; the resource is told, and the journal which it was."""
    served = serve("  <limits>\n    request-timeout 500ms\n  </limits>")
    assert served.ask("/page/wait")[0].status == 504
    served.wait_noted("left", "ConnectionLost")
    said = served.talk(b"GET /page/wait?begun=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"begun" in said and not said.endswith(b"0\r\n\r\n")
    served.running.wait_said("GET /page/wait has taken longer than request-timeout (0.5 s) and is cancelled")
    way = Way(served, tmp_path, "h2")
    assert way.ask("/page/wait", "-w", "%{http_code}").endswith(b"504")
    served.wait_noted("left", *["ConnectionLost"] * 3)


def test_who_blocks_everybody(served):
    """It is named, with its place."""
    assert served.ask("/page/block")[1] == b"at last"
    served.running.wait_said("hosted:root has blocked the loop")
    assert "time.sleep(2.5)" in served.running.errors


def test_one_that_hangs(serve):
    """The reactor hangs with it: the worker is dumped, with the line that it is at, and replaced."""
    served = serve(before="watchdog 2s\n", arguments=())
    with served.connect() as client:
        client.sendall(b"GET /page/hang HTTP/1.1\r\nHost: x\r\n\r\n")
        served.running.wait_said("has not answered for 2 s: it is killed", 30)
        served.running.wait_said("its stacks:", 30)
    wait_until(lambda: 'hosted.py", line' in served.running.errors, 30, lambda: served.running.errors)
    # Who asks meanwhile waits for the one that takes its place.
    assert served.ask("/page/soon")[1] == b"soon"


def test_a_stop_with_a_slow_answer(served):
    """It is finished within the drain; the process ends with 0."""
    with served.connect() as client:
        client.sendall(b"GET /klein/parts HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65536)
        served.running.process.send_signal(signal.SIGTERM)
        said = b"".join(iter(lambda: client.recv(65536), b""))
    assert said.endswith(b"3\r\nend\r\n0\r\n\r\n")
    assert served.running.wait_exit() == 0


def test_beside_asgi(serve):
    """On one loop, in the thread of the reactor."""
    served = serve(mounts=MOUNTS + "  <asgi>\n    path /asgi\n    application hosted:asgi\n  </asgi>\n")
    assert served.ask("/asgi")[1] == b"1"
    assert json.loads(served.ask("/page/who")[1])["thread"]


def twistd(tmp_path: Path, *options: str) -> list[str]:
    (tmp_path / "hosted.py").write_text(HOSTED)
    file = tmp_path / "site.conf"
    file.write_text(f"python-path {tmp_path}\n<http web>\n  address systemd:name=plain\n{MOUNTS}</http>\n")
    return [TWISTD, "-n", "--pidfile=", *options, "appd", "--config", str(file)]


def test_under_twistd(start, tmp_path):
    """Its reactor was made by twistd; it is stopped as by itself."""
    plain = listening()
    running = start("", ("plain", plain), command=twistd(tmp_path)).wait_ready()
    served = Served(running, tmp_path / "run0", plain, plain)
    assert served.ask("/page/many")[1].endswith(b"59,")
    assert json.loads(served.ask("/page/who")[1])["thread"]
    assert running.stop() == 0


def test_another_reactor(start, tmp_path):
    """It is refused, with the section, and nobody is told that it is ready."""
    running = start("", ("plain", listening()), command=twistd(tmp_path, "-r", "select"))
    assert running.wait_exit() == 78
    assert "<resource> needs Twisted's epoll reactor, and this is SelectReactor" in running.errors


def test_a_password_is_looked_at_first(serve, tmp_path):
    """The body waits meanwhile, in memory as far as it may; who is not let in is told so, and no resource is asked."""
    command = [APPD, "passwd", str(tmp_path / "passwd"), "alice", "--bcrypt"]
    subprocess.run(command, input="secret\n", text=True, check=True)
    served = serve(
        mounts="  <resource>\n    resource hosted:root\n    auth staff\n  </resource>\n",
        before=f"<auth staff>\n  passwords {tmp_path}/passwd\n</auth>\n",
    )
    data = bytes(range(256)) * 8000
    expected = hashlib.sha256(data).hexdigest().encode()
    for name in ("http1", "h2", "tls", "tls-h2"):
        way = Way(served, tmp_path, name)
        # The first time it is looked at in a thread, then it is remembered.
        assert way.ask("/page/sum", "-u", "alice:secret", "--data-binary", "@-", data=data) == expected, name
        assert way.ask("/page/sum", "-u", "alice:secret", "-T", "-", data=data) == expected, name
        assert json.loads(way.ask("/page/who", "-u", "alice:secret"))["user"] == ""
        assert way.ask("/page/wait", "-w", "%{http_code}", "-o", "/dev/null") == b"401"
    wrong = base64.b64encode(b"alice:wrong").decode()
    # One that does not wait for the answer is no failure of anything.
    with served.connect() as client:
        client.sendall(f"GET /page/wait HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {wrong}\r\n\r\n".encode())
    served.running.wait_said("login failed: password of 'alice'")
    assert "Traceback" not in served.running.errors
    assert served.ask("/page/wait", Authorization=f"Basic {wrong}")[0].status in (401, 429)
    assert not served.noted("waits")
