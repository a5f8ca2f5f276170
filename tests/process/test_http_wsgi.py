"""WSGI applications over real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running import APPD, Running, read_to, wait_until

APPLICATIONS = Path(__file__).parents[1] / "golden" / "http"

CONFIGURATION = """
python-path {folder}
threads 4
<log>
  format json
</log>
<http web>
  address systemd:name=web
  address systemd:name=six
  address systemd:name=unix
  <wsgi>
    application applications:checked
  </wsgi>
  <wsgi>
    path /kinds
    application applications:kinds
    header X-Mount kinds
    header Content-Type text/x-mount
  </wsgi>
  <wsgi>
    path /a%20b/c
    host only.example
    application applications:checked
  </wsgi>
</http>
"""


class Server:
    """The process, and ways to talk to it."""

    def __init__(self, running: Running, sockets: dict[str, socket.socket]) -> None:
        self.running = running
        self.sockets = sockets
        self.port = sockets["web"].getsockname()[1]

    def ask(self, path: str, method: str = "GET", **keywords: Any) -> tuple[http.client.HTTPResponse, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, **keywords)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def raw(self, data: bytes, to: str = "web", address: Any = None, family: int | None = None) -> bytes:
        """Sends bytes and reads to the end."""
        sock = self.sockets[to]
        with socket.socket(family or sock.family, socket.SOCK_STREAM) as client:
            client.settimeout(30)
            client.connect(address or sock.getsockname()[:2])
            client.sendall(data)
            return b"".join(iter(lambda: client.recv(65536), b""))

    def environ(self, path: str, **keywords: Any) -> dict[str, Any]:
        """What the application found."""
        response, body = self.ask(path, **keywords)
        assert response.status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def entries(self, **fields: Any) -> list[dict[str, Any]]:
        """Log entries with these fields."""
        entries = [json.loads(line) for line in list(self.running.err) if line.startswith("{")]
        return [one for one in entries if fields.items() <= one.items()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One appd for all tests of this file."""
    folder = tmp_path_factory.mktemp("wsgi")
    (folder / "appd.conf").write_text(CONFIGURATION.format(folder=APPLICATIONS))
    sockets = {}
    kinds = {
        "web": (socket.AF_INET, ("127.0.0.1", 0)),
        "six": (socket.AF_INET6, ("::", 0)),
        "unix": (socket.AF_UNIX, str(folder / "sock")),
    }
    for name, (family, address) in kinds.items():
        sockets[name] = socket.socket(family, socket.SOCK_STREAM)
        if name == "six":
            sockets[name].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sockets[name].bind(address)
        sockets[name].listen()
    running = Running([APPD, "run", str(folder / "appd.conf")], folder, list(sockets.items()))
    try:
        running.wait_ready()
        yield Server(running, sockets)
        assert running.stop() == 0
        assert not [line for line in running.err if "Unhandled" in line or "never retrieved" in line]
    finally:
        running.close()
        for one in sockets.values():
            one.close()


def test_environ(server: Server) -> None:
    """As PEP 3333 has it, before the eyes of wsgiref.validate."""
    found = server.environ("/x/y%20z//?a=%20b", headers={"Host": "Shop.Example:81", "X-One": "1", "Cookie": "a=b"})
    wanted = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/x/y z//",
        "QUERY_STRING": "a=%20b",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": str(server.port),
        "HTTP_HOST": "Shop.Example:81",
        "HTTP_X_ONE": "1",
        "HTTP_COOKIE": "a=b",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "body": "",
    }
    assert wanted.items() <= found.items()


@pytest.mark.parametrize(
    ("path", "script_name", "path_info"),
    [
        ("/a%20b/c", "/a b/c", ""),
        ("/a%20b/c/", "/a b/c", "/"),
        ("/%61%20b/c/d", "/a b/c", "/d"),
        ("/a%20b/c/d%2fe", "/a b/c", "/d/e"),
        ("/a%20b/cd", "", "/a b/cd"),
        ("/%C3%A9", "", "/\xc3\xa9"),
    ],
)
def test_script_name_and_path_info(server: Server, path: str, script_name: str, path_info: str) -> None:
    """Decoded; the mount's path is SCRIPT_NAME, without a slash at the end."""
    found = server.environ(path, headers={"Host": "ONLY.example:1"})
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == (script_name, path_info)


def test_a_mount_for_another_host(server: Server) -> None:
    """It is passed over."""
    assert server.environ("/a%20b/c")["SCRIPT_NAME"] == ""


def test_remote_addr(server: Server) -> None:
    """IPv4, IPv6, IPv4 on a socket for both, and a UNIX socket, which has none."""
    request = b"GET / HTTP/1.0\r\n\r\n"
    six = server.sockets["six"].getsockname()[1]

    def found(answer: bytes) -> dict[str, str]:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head, answer
        environ: dict[str, str] = json.loads(body)
        return environ

    assert found(server.raw(request))["REMOTE_ADDR"] == "127.0.0.1"
    mapped = found(server.raw(request, address=("127.0.0.1", six)))
    assert (mapped["REMOTE_ADDR"], mapped["SERVER_PORT"]) == ("127.0.0.1", str(six))
    assert found(server.raw(request, to="six", address=("::1", six)))["REMOTE_ADDR"] == "::1"
    unix = found(server.raw(request, to="unix", address=server.sockets["unix"].getsockname()))
    assert (unix["REMOTE_ADDR"], unix["SERVER_NAME"], unix["SERVER_PORT"]) == ("", "localhost", "80")


def test_the_same_head_again(server: Server) -> None:
    """Each call has an environment of its own, whoever asked with the very same bytes before, and wherever."""
    request = b"GET /same HTTP/1.0\r\nHost: same.example\r\nX-One: 1\r\n\r\n"
    unix = server.sockets["unix"].getsockname()
    six = server.sockets["six"].getsockname()[1]
    for _ in range(4):
        for to, address, port in (
            ("web", None, str(server.port)),
            ("six", ("::1", six), str(six)),
            ("unix", unix, "80"),
        ):
            answer = server.raw(request, to=to, address=address)
            environ = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert (environ["SERVER_PORT"], environ["PATH_INFO"], environ["HTTP_X_ONE"]) == (port, "/same", "1")
            assert environ["REMOTE_ADDR"] == {"web": "127.0.0.1", "six": "::1", "unix": ""}[to]
            assert environ["SERVER_NAME"] == "same.example"
            assert ("appd.peer_pid" in environ) == (to == "unix")


def test_bodies(server: Server) -> None:
    """With a length, chunked, and large; a form is not looked into."""
    found = server.environ(
        "/", method="POST", body=b"a=b", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (found["body"], found["CONTENT_LENGTH"]) == ("a=b", "3")
    assert found["CONTENT_TYPE"] == "application/x-www-form-urlencoded"
    chunked = server.environ("/", method="POST", body=iter([b"one", b"two"]), encode_chunked=True)
    assert (chunked["body"], chunked["CONTENT_LENGTH"]) == ("onetwo", "6")
    large = server.environ("/", method="PUT", body=b"x" * 3_000_000)
    assert len(large["body"]) == 3_000_000
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert server.environ("/", method="POST", body=b"no form", headers=form)["body"] == "no form"


def test_100_continue(server: Server) -> None:
    """A client that asks before it sends."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(head)
        assert read_to(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.sendall(b"hi")
        assert b'"body": "hi"' in b"".join(iter(lambda: client.recv(65536), b""))


def test_the_responses_head(server: Server) -> None:
    """Server is ours unless the application says another, the mount's headers go before the application's."""
    response, _ = server.ask("/")
    assert response.headers.get_all("Server") == ["theirs"]
    assert response.getheader("Connection") is None
    response, body = server.ask("/kinds/other")
    assert (response.status, body) == (404, b"theirs")
    assert response.getheader("Server") == "appd"
    assert response.headers.get_all("X-Mount") == ["kinds"]
    assert response.headers.get_all("Content-Type") == ["text/x-mount"]
    assert response.getheader("Date") is not None


def test_a_connection_stays(server: Server) -> None:
    """Several requests of all kinds on one."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    expected = {
        "/kinds/generator": (200, b"ab"),
        "/kinds/empty": (204, b""),
        "/kinds/fail": (500, b"500 Internal Server Error\n"),
        "/kinds/long": (200, b"short"),
        "/kinds/nowhere": (404, b"theirs"),
    }
    connection.connect()
    first = connection.sock
    for path, answer in [*expected.items(), *expected.items()]:
        connection.request("GET", path)
        response = connection.getresponse()
        assert (response.status, response.read()) == answer
    connection.request("HEAD", "/kinds/generator")
    assert connection.getresponse().read() == b""
    connection.request("GET", "/kinds/generator")
    assert connection.getresponse().read() == b"ab"
    assert connection.sock is first
    connection.close()


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """Also when the first takes longer."""
    meet = threading.Timer(0.2, lambda: server.ask("/kinds/meet"))
    meet.start()
    answer = server.raw(
        b"GET /kinds/meet HTTP/1.1\r\nHost: x\r\n\r\n"
        b"POST /kinds/generator HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        b"GET /kinds/nowhere HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, close\r\n\r\n"
    )
    meet.join()
    assert [answer.index(one) for one in (b"met", b"1\r\na\r\n", b"theirs")] == sorted(
        answer.index(one) for one in (b"met", b"1\r\na\r\n", b"theirs")
    )
    assert answer.count(b"HTTP/1.1 ") == 3


def test_a_client_that_has_closed_its_side_is_answered(server: Server) -> None:
    """`printf … | nc -N`."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(
            b"GET /kinds/generator HTTP/1.1\r\nHost: x\r\n\r\nGET /kinds/nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 ") == 2


def test_calls_run_in_threads(server: Server) -> None:
    """Two that wait for each other."""
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(server.ask("/kinds/meet")[1])) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert answers == [b"met", b"met"]


@pytest.mark.parametrize("kind", ["raise", "exit", "nothing", "hop"])
def test_an_error_of_the_application(server: Server, kind: str) -> None:
    """500 without a traceback; one entry with the request and the failure."""
    path = f"/kinds/{kind}"
    response, body = server.ask(f"{path}?{kind}")
    assert (response.status, body) == (500, b"500 Internal Server Error\n")
    server.ask(path)
    wait_until(lambda: len(server.entries(HTTP_PATH=path)) == 2)
    entry = server.entries(HTTP_PATH=path)[-1]
    assert (entry["HTTP_METHOD"], entry["PRIORITY"], entry["APPD_SERVER"]) == ("GET", 3, "web")
    assert entry["LOGGER"] == "appd.wsgi"
    assert entry["APPD_PEER"].startswith("127.0.0.1:")
    assert len(server.entries(HTTP_PATH=path)) == 2
    if kind == "raise":
        assert "ValueError: the secret of the traceback" in entry["MESSAGE"]
        assert "applications.py" in entry["MESSAGE"]
        assert entry["EXCEPTION_TYPE"].endswith("ValueError")


def test_an_error_in_the_stream(server: Server) -> None:
    """The client sees that something is missing; one entry."""
    answer = server.raw(b"GET /kinds/broken-stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(b"5\r\nbegun\r\n")
    wait_until(lambda: server.entries(HTTP_PATH="/kinds/broken-stream"))
    assert len(server.entries(HTTP_PATH="/kinds/broken-stream")) == 1


def test_a_body_shorter_than_announced(server: Server) -> None:
    """The connection ends, so that no later response is taken for the rest."""
    answer = server.raw(b"GET /kinds/short HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nshort")
    with pytest.raises(http.client.IncompleteRead):
        server.ask("/kinds/short")


def test_wsgi_errors(server: Server) -> None:
    """An entry a line."""
    server.ask("/kinds/errors")
    wait_until(lambda: len(server.entries(LOGGER="wsgi.errors")) == 2)
    entries = server.entries(LOGGER="wsgi.errors")
    assert [one["MESSAGE"] for one in entries] == ["a complaint", "of two lines"]
    assert {one["PRIORITY"] for one in entries} == {3}
    assert {one["HTTP_PATH"] for one in entries} == {"/kinds/errors"}


def test_a_stream_goes_at_the_pace_of_the_client(server: Server) -> None:
    """It does not fill the memory; when the client leaves, it is closed."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(b"GET /kinds/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_to(client, b"\r\n").startswith(b"HTTP/1.1 200")
        produced = [-1, 0]
        while produced[-1] != produced[-2]:
            time.sleep(0.1)
            produced.append(json.loads(server.ask("/kinds/seen")[1])["produced"])
        assert produced[-1] < 50_000_000
    wait_until(lambda: json.loads(server.ask("/kinds/seen")[1])["closed"] == 1)


def test_headers_that_are_not_what_they_seem(server: Server) -> None:
    """X_Real_Ip does not pass for X-Real-Ip, nor Proxy for HTTP_PROXY; cookies are joined as cookies."""
    answer = server.raw(b"GET / HTTP/1.0\r\nX_Real_Ip: 1\r\nProxy: evil\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n")
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert not {"HTTP_X_REAL_IP", "HTTP_PROXY"} & set(found)
    assert found["HTTP_COOKIE"] == "a=1; b=2"


def test_an_absolute_target(server: Server) -> None:
    """Its host counts: RFC 9112, 3.2.2."""
    answer = server.raw(b"GET http://only.example:9/a%20b/c?q HTTP/1.0\r\nHost: x\r\n\r\n")
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    wanted = {"HTTP_HOST": "only.example:9", "SCRIPT_NAME": "/a b/c", "PATH_INFO": "", "QUERY_STRING": "q"}
    assert wanted.items() <= found.items()
