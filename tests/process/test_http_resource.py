"""Resources of twisted.web and applications of klein's, as mounts beside others."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from support.running import Running, listening, wait_until

HOSTED = '''
import json, threading

from twisted.internet import reactor, task
from twisted.web import resource, server


class Page(resource.Resource):
    isLeaf = True

    def render(self, request):
        return getattr(self, "page_" + (request.postpath or [b""])[0].decode(), self.page_)(request)

    def page_(self, request):
        request.setHeader("X-Kind", "resource")
        return json.dumps({
            "prepath": [one.decode() for one in request.prepath],
            "postpath": [one.decode() for one in request.postpath],
            "args": {key.decode(): [one.decode() for one in value] for key, value in request.args.items()},
            "method": request.method.decode(),
            "host": request.getRequestHostname().decode(),
            "peer": str(request.getClientAddress()),
            "secure": request.isSecure(),
            "in the thread of the reactor": threading.current_thread() is threading.main_thread(),
        }).encode()

    def page_later(self, request):
        reactor.callLater(0.1, lambda: (request.write(b"later"), request.finish()))
        return server.NOT_DONE_YET

    def page_slow(self, request):
        open("begun", "w").close()
        reactor.callLater(1.0, lambda: (request.write(b"later"), request.finish()))
        return server.NOT_DONE_YET

    def page_echo(self, request):
        return request.content.read()

    def page_count(self, request):
        session = request.getSession()
        session.times = getattr(session, "times", 0) + 1
        return b"%d" % session.times

    def page_stream(self, request):
        producer = Producer(request, int(request.args[b"count"][0]))
        request.registerProducer(producer, b"push" in request.args)
        if b"push" in request.args:
            producer.run()
        return server.NOT_DONE_YET

    def page_wait(self, request):
        request.notifyFinish().addErrback(lambda failure: open("left", "w").write(failure.type.__name__))
        open("waits", "w").close()
        return server.NOT_DONE_YET

    def page_fail(self, request):
        raise ValueError("what a resource says")

    def page_cut(self, request):
        request.setHeader("Content-Length", "100")
        request.write(b"x" * 10)
        request.loseConnection()
        return server.NOT_DONE_YET


class Producer:
    """Writes 64 KB at a time; of the most that has waited at once a file tells."""

    def __init__(self, request, count):
        self.request, self.left, self.paused, self.pauses = request, count, False, 0

    def run(self):
        while self.left and not self.paused:
            self.resumeProducing(again=False)

    def resumeProducing(self, again=True):
        if again and self.paused:
            self.paused = False
            reactor.callLater(0, self.run)
            return
        if self.left:
            self.left -= 1
            self.request.write(b"y" * 65536)
        elif not self.request.finished:
            self.end()
        if not self.left and not self.request.finished:
            self.end()

    def end(self):
        self.request.unregisterProducer()
        self.request.finish()

    def pauseProducing(self):
        self.paused = True
        self.pauses += 1
        open("paused", "w").write(str(self.pauses))

    def stopProducing(self):
        self.left = 0


root = Page()

from klein import Klein

app = Klein()


@app.route("/hello/<name>")
def hello(request, name):
    return task.deferLater(reactor, 0.01, lambda: "hello " + name)


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi"]


async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"asgi"})
'''

CONFIGURATION = """
python-path ..
<log>
  format json
</log>
<http web>
  address systemd:name=web
  <resource>
    resource hosted:root
  </resource>
  <resource>
    path /deep/er
    resource hosted:root
  </resource>
  <resource>
    path /klein
    resource hosted:app
  </resource>
  <wsgi>
    path /wsgi
    application hosted:wsgi
  </wsgi>
  <asgi>
    path /asgi
    application hosted:asgi
  </asgi>
</http>
"""


@pytest.fixture
def site(start: Callable[..., Running], tmp_path: Any) -> Any:
    """A server of all of them, its port and its folder."""
    (tmp_path / "hosted.py").write_text(HOSTED)
    sock = listening(socket.AF_INET, ("127.0.0.1", 0))
    running = start(CONFIGURATION, ("web", sock), arguments=("--single",)).wait_ready()
    running.port = sock.getsockname()[1]
    running.folder = tmp_path / "run0"
    return running


def ask(port: int, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[Any, bytes]:
    """One request on a connection of its own."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request(method, path, body, headers)
    response = client.getresponse()
    try:
        return response, response.read()
    finally:
        client.close()


def test_what_a_resource_sees(site):
    """Its place, its arguments, who asks; and it is asked in the thread of the reactor."""
    response, body = ask(site.port, "/deep/er/a%20b/c?x=1&x=2", Host="shop.example:80")
    seen = json.loads(body)
    peer = seen.pop("peer")
    assert seen == {
        "prepath": ["deep", "er"],
        "postpath": ["a b", "c"],
        "args": {"x": ["1", "2"]},
        "method": "GET",
        "host": "shop.example",
        "secure": False,
        "in the thread of the reactor": True,
    }
    assert "127.0.0.1" in peer
    assert response.getheader("X-Kind") == "resource"
    assert response.getheader("Server") == "appd"
    assert len(response.headers.get_all("Date")) == 1
    assert response.getheader("Content-Length") == str(len(body))


def test_a_form_and_a_body(site):
    """POST arguments are taken apart; bodies arrive whole, with and without a length."""
    _, body = ask(site.port, "/form", "POST", "a=1&b=2", **{"Content-Type": "application/x-www-form-urlencoded"})
    assert json.loads(body)["args"] == {"a": ["1"], "b": ["2"]}
    data = bytes(range(256)) * 4096
    assert ask(site.port, "/echo", "POST", data)[1] == data
    assert ask(site.port, "/echo", "POST", iter([data, data]))[1] == data * 2


def test_a_body_of_http2(start, tmp_path):
    """No field says that there is one."""
    (tmp_path / "hosted.py").write_text(HOSTED)
    sock = listening(socket.AF_INET, ("127.0.0.1", 0))
    start(
        CONFIGURATION.replace("<resource>", "http2 on\n  <resource>", 1), ("web", sock), arguments=("--single",)
    ).wait_ready()
    command = ["curl", "-s", "--http2-prior-knowledge", "-T", "-", f"http://127.0.0.1:{sock.getsockname()[1]}/echo"]
    assert subprocess.run(command, input=b"y" * 300000, capture_output=True, timeout=60).stdout == b"y" * 300000


def test_later(site):
    """NOT_DONE_YET."""
    assert ask(site.port, "/later")[1] == b"later"


def test_sessions(site):
    """twisted.web's sessions live from request to request."""
    response, body = ask(site.port, "/count")
    cookie = response.getheader("Set-Cookie").partition(";")[0]
    assert (body, ask(site.port, "/count", Cookie=cookie)[1]) == (b"1", b"2")


@pytest.mark.parametrize("kind", ["pull", "push"])
def test_producers(site, kind):
    """All that a producer writes arrives, and one that pushes is told when the client takes nothing."""
    client = socket.create_connection(("127.0.0.1", site.port), timeout=30)
    with client:
        client.sendall(f"GET /stream?count=400&{kind}=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        if kind == "push":
            wait_until(lambda: (site.folder / "paused").exists(), explain=lambda: site.errors)
        received = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert received.partition(b"\r\n\r\n")[2].count(b"y") == 400 * 65536
    assert received.endswith(b"0\r\n\r\n")


def test_a_client_that_leaves(site):
    """notifyFinish fails."""
    client = socket.create_connection(("127.0.0.1", site.port), timeout=30)
    client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: (site.folder / "waits").exists(), explain=lambda: site.errors)
    client.close()
    left = site.folder / "left"
    wait_until(lambda: left.exists() and left.read_text() == "ConnectionLost", explain=lambda: site.errors)


def test_one_that_fails(site):
    """500, and the traceback in one entry; the client hears nothing of it."""
    response, body = ask(site.port, "/fail")
    assert response.status == 500
    assert b"what a resource says" not in body
    wait_until(lambda: any("what a resource says" in one for one in list(site.err)), explain=lambda: site.errors)


def test_one_that_gives_up(site):
    """The client sees that something is missing."""
    with pytest.raises(http.client.IncompleteRead):
        ask(site.port, "/cut")


def test_head(site):
    """HEAD has the fields of GET and no body."""
    response, body = ask(site.port, "/", "HEAD")
    assert (response.status, body) == (200, b"")


def test_klein(site):
    """An application of klein's is one as well."""
    assert ask(site.port, "/klein/hello/you")[1] == b"hello you"
    assert ask(site.port, "/klein/nothing")[0].status == 404


def test_one_connection_across_all_of_them(site):
    """In one segment: each is answered by its own kind, in order."""
    paths = ["/wsgi", "/later", "/asgi", "/klein/hello/x", "/wsgi", "/asgi"]
    expected = [b"wsgi", b"later", b"asgi", b"hello x", b"wsgi", b"asgi"]
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as client:
        client.sendall(b"".join(f"GET {one} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for one in paths))
        file = client.makefile("rb")
        for one in expected:
            assert file.readline() == b"HTTP/1.1 200 OK\r\n"
            length = chunked = None
            while (line := file.readline()) != b"\r\n":
                name, _, value = line.partition(b": ")
                if name.lower() == b"content-length":
                    length = int(value)
                chunked = chunked or value.strip() == b"chunked"
            if chunked:
                body = b""
                while size := int(file.readline(), 16):
                    body += file.read(size)
                    file.readline()
                file.readline()
            else:
                body = file.read(length)
            assert body == one


def test_a_stop_waits_for_a_slow_one(site):
    """What is in flight is finished within the drain."""
    client = socket.create_connection(("127.0.0.1", site.port), timeout=30)
    with client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until((site.folder / "begun").exists, explain=lambda: site.errors)
        site.process.send_signal(signal.SIGTERM)
        assert b"later" in b"".join(iter(lambda: client.recv(65536), b""))
    assert site.wait_exit() == 0


def test_what_is_no_resource(start, tmp_path):
    """One line each, at the start and from check."""
    (tmp_path / "hosted.py").write_text("thing = object()\n")
    running = start(
        "python-path ..\n<http web>\n  address systemd:name=web\n  <resource>\n    resource hosted:thing\n  </resource>\n</http>\n",
        ("web", listening(socket.AF_INET, ("127.0.0.1", 0))),
        arguments=("--single",),
    )
    assert running.wait_exit() == 78
    assert "is neither an IResource nor an application of klein's" in running.errors
