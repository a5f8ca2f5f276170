"""`<proxy>` between upstreams and clients that mean no good, or fail at a bad moment: by raw bytes on both sides."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running import listening, wait_until

pytest.importorskip("aiohttp", reason="the client of <proxy>: pip install aiohttp")

GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"


class Raw:
    """A server that does what a function says, on each connection.

    Attributes:
        heads: The heads of requests that have come, over all connections.
        bodies: What `take` has read behind them.
        open: How many connections are open.
        connections: How many there have been.
    """

    def __init__(self, act: Callable[[Raw, socket.socket, int], None]) -> None:
        self._act = act
        self._sock = listening(backlog=100)
        self.where = f"127.0.0.1:{self._sock.getsockname()[1]}"
        self.heads: list[bytes] = []
        self.rest: dict[socket.socket, bytes] = {}
        self.open = self.connections = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._sock.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self.open += 1
            self.connections += 1
            number = self.connections
        client.settimeout(20)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with client, contextlib.suppress(OSError):
                self._act(self, client, number)
        finally:
            with self._lock:
                self.open -= 1

    def head(self, client: socket.socket) -> bytes:
        """Reads the head of a request; nothing at the end."""
        data = self.rest.pop(client, b"")
        while b"\r\n\r\n" not in data:
            part = client.recv(65536)
            if not part:
                return b""
            data += part
        head, _, self.rest[client] = data.partition(b"\r\n\r\n")
        self.heads.append(head)
        return head

    def until_end(self, client: socket.socket) -> bytes:
        """All that still comes, up to the end, be it one or a reset."""
        data = self.rest.pop(client, b"")
        with contextlib.suppress(ConnectionError):
            while part := client.recv(65536):
                data += part
        return data


def answering(*answers: bytes) -> Callable[[Raw, socket.socket, int], None]:
    """The requests of each connection get these, in turn; then it ends."""

    def act(raw: Raw, client: socket.socket, _number: int) -> None:
        for one in answers:
            if not raw.head(client):
                return
            client.sendall(one)

    return act


def always(answer: bytes) -> Callable[[Raw, socket.socket, int], None]:
    """Every request gets this."""

    def act(raw: Raw, client: socket.socket, _number: int) -> None:
        while raw.head(client):
            client.sendall(answer)

    return act


@pytest.fixture
def proxy(start: Any) -> Any:
    """Starts an appd with a `<proxy>` of those upstreams at /, and returns it with its port."""

    def make(*where: Raw, keys: str = "") -> Any:
        lines = "\n".join(f"    upstream {one.where}" for one in where)
        sock = listening()
        text = f"<http web>\n  address systemd:name=web\n  <proxy>\n{lines}\n    {keys}\n  </proxy>\n</http>\n"
        running = start(text, ("web", sock), arguments=("--single",)).wait_ready()
        running.port = sock.getsockname()[1]
        return running

    return make


@contextlib.contextmanager
def connected(here: Any) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", here.port), timeout=30) as client:
        yield client


def ask(here: Any, request: bytes = GET % b"/") -> tuple[int, dict[str, str], bytes]:
    """Status, fields and body of one request on a connection of its own; the body ends with the connection or its length."""
    request = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    with connected(here) as client:
        client.sendall(request)
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(65536):
                data += part
    assert data, here.errors
    return parsed(data)


def parsed(data: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines[1:])}
    return int(lines[0].split()[1]), fields, body


# What an upstream sends that is no response, or one that could be read in two ways.
WRONG = {
    "no HTTP": b"SSH-2.0-OpenSSH_9\r\n\r\n",
    "a version that is none": b"HTTP/9.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a status that is none": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "a status beyond all": b"HTTP/1.1 799 Odd\r\nContent-Length: 4\r\n\r\nfine",
    "a switch of protocols that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nx",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nabcd",
    "a length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    "a coding that is not known": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    "a CR in a value": b"HTTP/1.1 200 OK\r\nX-Split: a\rSet-Cookie: b=c\r\nContent-Length: 4\r\n\r\nabcd",
    "a NUL in a value": b"HTTP/1.1 200 OK\r\nX-Split: a\0b\r\nContent-Length: 4\r\n\r\nabcd",
    "a name that is none": b"HTTP/1.1 200 OK\r\nX Split: a\r\nContent-Length: 4\r\n\r\nabcd",
    "a name with nothing": b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 4\r\n\r\nabcd",
    "a long field": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\nContent-Length: 4\r\n\r\nabcd",
    "very many fields": b"HTTP/1.1 200 OK\r\n" + b"X-Many: y\r\n" * 200_000 + b"Content-Length: 4\r\n\r\nabcd",
}


@pytest.mark.parametrize("answer", WRONG)
def test_what_is_no_response(proxy, answer):
    """502, one line that says why, nothing of it reaches the client, and the connection is not used again."""
    raw = Raw(always(WRONG[answer]))
    here = proxy(raw)
    for _ in range(2):
        status, fields, body = ask(here)
        assert (status, body) == (502, b"502 Bad Gateway\n")
        assert not {"x-split", "set-cookie", "x-many", "x-long"} & set(fields)
    here.wait_said("answered with 502: GET /")
    assert "Traceback" not in here.errors
    # What can be read to its end, and is not passed on for another reason, leaves a connection that is as it was.
    assert raw.connections == (1 if answer in ("a status beyond all", "a coding that is not known") else 2)


RIGHT = {
    "hints before it": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + FINE,
        200,
        b"fine",
    ),
    "chunks with extensions and trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2;a=b\r\nfi\r\n2\r\nne\r\n0\r\nX-Sum: 1\r\n\r\n",
        200,
        b"fine",
    ),
    "no length": (b"HTTP/1.0 200 OK\r\n\r\nfine", 200, b"fine"),
    "an empty reason": (b"HTTP/1.1 200 \r\nContent-Length: 4\r\n\r\nfine", 200, b"fine"),
    "no content": (b"HTTP/1.1 204 No Content\r\nX-Kept: 1\r\n\r\n", 204, b""),
    "not modified, with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", 304, b""),
    "the last status": (b"HTTP/1.1 599 Odd\r\nContent-Length: 4\r\n\r\nfine", 599, b"fine"),
    "a folded value": (b"HTTP/1.1 200 OK\r\nX-Split: a\n b\r\nContent-Length: 4\r\n\r\nfine", 200, b"fine"),
}


@pytest.mark.parametrize("answer", RIGHT)
def test_what_is_one(proxy, answer):
    """Whatever form it has, the client gets one that it can read, twice on one connection."""
    sent, status, body = RIGHT[answer]
    raw = Raw(answering(sent) if answer == "no length" else always(sent))
    here = proxy(raw)
    with connected(here) as client:
        for last in (False, True):
            client.sendall(
                GET % b"/" if not last else (GET % b"/").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            )
            data = b""
            while not (b"\r\n\r\n" in data and (body in data.partition(b"\r\n\r\n")[2])):
                part = client.recv(65536)
                assert part, data
                data += part
            while b"chunked" in data and not data.endswith(b"0\r\n\r\n"):
                data += client.recv(65536)
            got, fields, _ = parsed(data)
            assert got == status
            assert "trailer" not in fields
            # RFC 9112, 5.2: a space in place of the fold.
            assert re.fullmatch("a +b", fields.get("x-split", "a b"))
        assert client.recv(65536) == b""


def test_head(proxy):
    """The length of what is not sent arrives; the connection goes on."""
    here = proxy(Raw(always(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")))
    with connected(here) as client:
        for _ in range(3):
            client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            data = b""
            while b"\r\n\r\n" not in data:
                data += client.recv(65536)
            assert parsed(data)[1]["content-length"] == "1000"
            assert data.endswith(b"\r\n\r\n")


EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


@pytest.mark.parametrize(
    "first",
    [
        FINE + EVIL,
        b"HTTP/1.1 204 No Content\r\n\r\n" + EVIL,
        b"HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n" % len(EVIL) + EVIL,
        b"HTTP/1.1 304 Not Modified\r\n\r\n" + EVIL,
        FINE + b"evil",
    ],
    ids=["two", "204", "204 with a length", "304", "more than its length"],
)
@pytest.mark.parametrize("late", [False, True])
def test_what_nobody_asked_for(proxy, first, late):
    """Bytes behind a response are an answer to nobody: neither at once nor a moment later, when the connection is idle."""
    said = threading.Event()

    def act(raw: Raw, client: socket.socket, number: int) -> None:
        raw.head(client)
        if number > 1:
            client.sendall(FINE)
            raw.head(client)
            return
        head, behind = first.split(EVIL, 1)[0], first[len(first.split(EVIL, 1)[0]) :]
        if not behind:
            head, behind = first[:-4], first[-4:]
        client.sendall(head if late else first)
        if late:
            said.wait(30)
            client.sendall(behind)
        raw.until_end(client)

    raw = Raw(act)
    here = proxy(raw)
    status, _, body = ask(here)
    assert status in (200, 204, 304) or (status == 502 and not late)
    assert b"evil" not in body
    said.set()
    if late:
        # appd sees the bytes, and gives the connection up.
        wait_until(lambda: raw.open == 0)
    for _ in range(3):
        assert b"evil" not in ask(here)[2]


@pytest.mark.parametrize(("keys", "connections"), [("", 1), ("keep-alive 0s", 6)], ids=["kept", "not kept"])
def test_connections_are_kept(proxy, keys, connections):
    """For later requests of any client, with and without a body; or none is."""

    def act(raw: Raw, client: socket.socket, _number: int) -> None:
        while head := raw.head(client):
            if b"POST" in head:
                rest = raw.rest.pop(client, b"")
                while len(rest) < 4:
                    rest += client.recv(4 - len(rest))
            client.sendall(FINE)

    raw = Raw(act)
    here = proxy(raw, keys=keys)
    for _ in range(3):
        assert ask(here)[2] == b"fine"
        assert ask(here, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")[2] == b"fine"
    assert raw.connections == connections


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET % b"/again", 200),
        (b"DELETE /again HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"POST /again HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 502),
        (b"POST /again HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", 502),
        (b"PUT /again HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", 502),
    ],
    ids=["GET", "DELETE", "POST", "POST with a body", "PUT with a body"],
)
def test_a_kept_connection_that_ends_with_the_next_request(proxy, request_, status):
    """What is idempotent and has no body goes out once more, by a new connection; nothing else does."""
    raw = Raw(
        lambda raw, client, number: (
            answering(FINE)(raw, client, number) or raw.head(client)
            if number == 1
            else always(FINE)(raw, client, number)
        )
    )
    here = proxy(raw)
    assert ask(here)[0] == 200
    assert ask(here, request_)[0] == status
    again = [one for one in raw.heads if b"/again" in one]
    assert len(again) == (2 if status == 200 else 1)
    assert ask(here)[0] == 200


def test_an_answer_before_the_body_has_come(proxy):
    """An upstream that refuses a large upload and ends is quoted, and not blamed."""

    def act(raw: Raw, client: socket.socket, _number: int) -> None:
        raw.head(client)
        client.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        client.shutdown(socket.SHUT_WR)
        raw.until_end(client)

    raw = Raw(act)
    here = proxy(raw)
    with connected(here) as client:
        client.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
        data = b""

        def read() -> None:
            nonlocal data
            with contextlib.suppress(OSError):
                while part := client.recv(65536):
                    data += part

        reader = threading.Thread(target=read)
        reader.start()
        with contextlib.suppress(OSError):
            for _ in range(500):
                client.sendall(b"x" * 100_000)
        reader.join(30)
    assert parsed(data)[0] == 413
    assert data.endswith(b"big")
    wait_until(lambda: raw.open == 0)


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_client_that_leaves_in_the_middle_of_its_body(proxy, framing):
    """The upstream sees that something is missing, and does not take it for all."""
    came: list[bytes] = []

    def act(raw: Raw, client: socket.socket, _number: int) -> None:
        raw.head(client)
        came.append(raw.until_end(client))

    raw = Raw(act)
    here = proxy(raw)
    field = b"Transfer-Encoding: chunked" if framing == "chunked" else b"Content-Length: 100"
    with connected(here) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + field + b"\r\n\r\n")
        client.sendall(b"5\r\nfirst\r\n" if framing == "chunked" else b"first")
        wait_until(lambda: raw.heads)
    wait_until(lambda: came)
    assert b"first" in came[0]
    assert b"0\r\n\r\n" not in came[0]
    assert "Traceback" not in here.errors


def test_clients_that_leave_take_their_upstream_connections_along(proxy):
    """Whether they wait for a head or for more of a body: nothing is left, and later requests are served."""

    def act(raw: Raw, client: socket.socket, _number: int) -> None:
        while head := raw.head(client):
            if b"/silent" in head:
                raw.until_end(client)
            elif b"/drip" in head:
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc")
                raw.until_end(client)
            else:
                client.sendall(FINE)

    raw = Raw(act)
    here = proxy(raw, keys="connections 40")
    clients = []
    for number in range(40):
        clients.append(socket.create_connection(("127.0.0.1", here.port), timeout=30))
        clients[-1].sendall(GET % (b"/silent" if number % 2 else b"/drip"))
    wait_until(lambda: len(raw.heads) == 40)
    for one in clients:
        one.close()
    wait_until(lambda: raw.open == 0)
    assert ask(here)[2] == b"fine"
    folder = Path(f"/proc/{here.process.pid}/fd")
    wait_until(lambda: sum(map(_is_socket, folder.iterdir())) < 12)


def _is_socket(one: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(one).startswith("socket:")
    return False


@pytest.mark.parametrize(
    "fields",
    [
        "Connection: content-length",
        "Connection: host, x-forwarded-for, via, forwarded",
        "Connection: transfer-encoding",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13",
        "Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nExpect: 100-continue",
    ],
)
def test_fields_of_the_connection_change_nothing(proxy, fields):
    """The body of a request ends where its client ended it; what comes behind is another request or none."""
    raw = Raw(always(FINE))
    here = proxy(raw)
    body = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"
    request = f"POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{fields}\r\n\r\n".encode() + body
    came: list[bytes] = []

    def act(raw: Raw, client: socket.socket, _number: int) -> None:
        head = raw.head(client)
        came.append(head)
        rest = raw.rest.pop(client, b"")
        while body not in rest:
            part = client.recv(65536)
            if not part:
                break
            rest += part
        came.append(rest)
        client.sendall(FINE)

    raw._act = act
    with connected(here) as client:
        client.sendall(request)
        data = b""
        while b"fine" not in data:
            part = client.recv(65536)
            assert part, data
            data += part
    head, rest = came[0].decode("latin-1").lower(), came[1]
    assert "host: x\r\n" in head + "\r\n"
    assert (f"content-length: {len(body)}" in head) != ("transfer-encoding: chunked" in head)
    for name in (
        "upgrade:",
        "http2-settings",
        "keep-alive:",
        "proxy-connection",
        "\r\nte:",
        "expect:",
        "sec-websocket",
    ):
        assert name not in head
    assert re.search(r"\r\nconnection: (?!keep-alive|close)", head) is None
    expected = body if "content-length" in head else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert rest in (expected, expected.removesuffix(b"0\r\n\r\n"))


@pytest.mark.parametrize("path", [b"/public/../private", b"/public/%2e%2e/private", b"/public/./x", b"/public//x"])
def test_paths_that_lead_elsewhere(start, path):
    """What routes a request by one path must not send it on by another that means something else."""
    raw = Raw(always(FINE))
    sock = listening()
    text = (
        f"<http web>\n address systemd:name=web\n <proxy>\n path /public\n upstream {raw.where}\n </proxy>\n</http>\n"
    )
    here = start(text, ("web", sock), arguments=("--single",)).wait_ready()
    here.port = sock.getsockname()[1]
    status = ask(here, GET % path)[0]
    seen = [one.split()[1] for one in raw.heads]
    assert status in (200, 400, 404)
    assert not [one for one in seen if b".." in one or b"%2e" in one]
