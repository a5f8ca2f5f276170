"""The drivers over real sockets: what waits does not hold up what does not, and every limit has its answer.

Each test runs on the lane, and, where it says so, on the lane over TLS and on the loop: with connections that begin there, with some that the
lane has handed over, and with requests for the lane on such ones.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.authority import Authority
from support.running import Running, listening, spare_port, wait_until
from support.talking import Talker

ROOT = Authority("Root")

APPLICATION = """
import os, threading, time

def wait_for(name):
    open(name + ".here", "w").close()
    while not os.path.exists(name + ".go"):
        time.sleep(0.01)

def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    if name.startswith("wait"):
        wait_for(name)
    if name == "busy":
        time.sleep(float(environ["QUERY_STRING"]))
    if name == "large":
        start_response("200 OK", [("Content-Length", environ["QUERY_STRING"])])
        return [b"x" * int(environ["QUERY_STRING"])]
    if name == "pieces":
        start_response("200 OK", [])
        return (b"x" * 65536 for _ in range(int(environ["QUERY_STRING"])))
    if name == "file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open("large.bin", "rb"))
    if name == "peer":
        start_response("200 OK", [])
        keys = ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme", "HTTP_HOST", "SERVER_PORT", "appd.peer_uid", "appd.peer_pid")
        return [repr({key: environ.get(key) for key in keys}).encode()]
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [name.encode(), b" %d" % len(body)]
"""

ASGI_APPLICATION = """
import asyncio, os

async def wait_for_it(name):
    open(name + ".here", "w").close()
    while not os.path.exists(name + ".go"):
        await asyncio.sleep(0.01)

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    name, query = scope["path"].strip("/"), scope["query_string"].decode()
    size, more = 0, name != "warm"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    if name.startswith("wait"):
        await wait_for_it(name)
    if name == "busy":
        await asyncio.sleep(float(query))
    headers, parts = [(b"content-type", b"text/plain")], [name.encode() + b" %d" % size]
    if name == "large":
        headers, parts = [(b"content-length", query.encode())], [b"x" * int(query)]
    if name == "pieces":
        headers = []
        parts = (b"x" * 65536 for _ in range(int(query)))
    if name == "peer":
        host = dict(scope["headers"])[b"host"].decode()
        client = scope["client"] or ("", None)
        parts = [repr({
            "REMOTE_ADDR": client[0], "REMOTE_PORT": str(client[1]), "wsgi.url_scheme": scope["scheme"],
            "HTTP_HOST": host, "SERVER_PORT": "443" if scope["scheme"] == "https" else "",
            "appd.peer_uid": None,
        }).encode()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if name == "pieces":
        for one in parts:
            await send({"type": "http.response.body", "body": one, "more_body": True})
        await send({"type": "http.response.body"})
    else:
        await send({"type": "http.response.body", "body": parts[0]})
"""

ALL = ("lane", "loop", "handed", "guest")
FRESH = ALL[:-1]
# The lane over TLS: for the rest `test_tls_lane` has the counterparts.
LANE = ("lane", "tls")
"""How a request may get to its application: see `Site`."""

CONFIGURATION = """
python-path ..
threads 2
<log>
  format json
</log>
<http web>
  address {address}
  <limits>
    {limits}
  </limits>
  <wsgi>
    application hosted:application
  </wsgi>
  <wsgi>
    path /one
    application hosted:application
    threads 1
  </wsgi>
  <static>
    path /static
    root ..
  </static>
</http>
"""

GET = "GET {} HTTP/1.1\r\nHost: x\r\n\r\n"


LOOP = """
python-path ..
threads 2
<log>
  format json
</log>
<http web>
  address {address}
  <limits>
    {limits}
  </limits>
  <asgi>
    application hosted:asgi
  </asgi>
</http>
"""

# Connections begin in the lane, as there is a mount for it.
HANDED = LOOP.replace("</http>", "  <static>\n    path /static\n    root ..\n  </static>\n</http>")
# A mount of the loop beside those of the lane; a connection is handed over with its first request.
GUEST = CONFIGURATION.replace("</http>", "  <asgi>\n    path /warm\n    application hosted:asgi\n  </asgi>\n</http>")
TLS = CONFIGURATION.replace(
    "  address {address}", "  tls-address {address}\n  <tls>\n    certificate ../site.pem\n  </tls>"
)
# The loop over TLS: connections begin there.
TLS_LOOP = LOOP.replace(
    "  address {address}", "  tls-address {address}\n  <tls>\n    certificate ../site.pem\n  </tls>"
)
DRIVERS = {"lane": CONFIGURATION, "tls": TLS, "loop": LOOP, "handed": HANDED, "guest": GUEST, "tls-loop": TLS_LOOP}


class Site:
    """A running server, and connections to it.

    Its `driver` is `lane`; `loop`, where connections begin; `handed`: over by the lane, for an application of the loop;
    `guest`: a WSGI application, asked on connections that the loop has.
    """

    def __init__(self, running: Running, folder: Path, family: int, address: Any, driver: str) -> None:
        self.driver = driver
        self._context = ssl.create_default_context(cadata=ROOT.pem.decode())
        self.running = running
        self.folder = folder
        self._family = family
        self._address = address
        self.open: list[Any] = []

    def connect(self, path: str = "", warm: bool = True) -> Any:
        """A connection, on which perhaps something is asked."""
        client: Any = socket.socket(self._family, socket.SOCK_STREAM)
        client.settimeout(30)
        client.connect(self._address)
        if self.driver.startswith("tls"):
            client = Talker(client, self._context)
        self.open.append(client)
        if self.driver == "guest" and warm:
            client.sendall(GET.format("/warm").encode())
            assert read_answer(client).endswith(b"warm 0")
        if path:
            client.sendall(GET.format(path).encode())
        return client

    def ask(self, path: str) -> bytes:
        """Asks on a connection of its own, and returns what came until the end."""
        client = self.connect()
        client.sendall(GET.format(path).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
        with client:
            return read_all(client)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """What clients do meanwhile has come at once when it goes on."""
        os.kill(self.running.process.pid, signal.SIGSTOP)
        yield
        os.kill(self.running.process.pid, signal.SIGCONT)

    def here(self, name: str) -> None:
        """Waits until the application has come that far."""
        wait_until(lambda: (self.folder / f"{name}.here").exists(), explain=lambda: self.running.errors)

    def go(self, name: str) -> None:
        (self.folder / f"{name}.go").touch()

    def entries(self, **fields: Any) -> list[dict[str, Any]]:
        """Log entries with these fields."""
        entries = [json.loads(line) for line in list(self.running.err) if line.startswith("{")]
        return [one for one in entries if fields.items() <= one.items()]


def read_all(client: socket.socket) -> bytes:
    """What comes until the end."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def read_answer(client: socket.socket) -> bytes:
    """One response with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        assert part, data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields[b"Content-Length"]):
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def site(start: Callable[..., Running], tmp_path: Path) -> Any:
    """Makes a site: on an inherited TCP socket unless it is said otherwise."""
    made: list[Site] = []

    def make(limits: str = "", kind: str = "inherited", extra: str = "", driver: str = "lane") -> Site:
        (tmp_path / "hosted.py").write_text(APPLICATION + ASGI_APPLICATION)
        (tmp_path / "a.txt").write_text("a file")
        ROOT.issue("localhost").write(tmp_path / "site.pem")
        family, address, passed = socket.AF_INET, "systemd:name=web", ()
        where: Any = None
        if kind in ("inherited", "inherited-unix", "inherited-six"):
            family = {"inherited": socket.AF_INET, "inherited-unix": socket.AF_UNIX}.get(kind, socket.AF_INET6)
            local: Any = str(tmp_path / "sock") if family == socket.AF_UNIX else ("127.0.0.1", 0)
            sock = listening(family, ("::1", 0) if family == socket.AF_INET6 else local)
            passed, where = (("web", sock),), sock.getsockname()
        elif kind == "bound":
            where = ("127.0.0.1", spare_port())
            address = f"127.0.0.1:{where[1]}"
        else:
            family, where = socket.AF_UNIX, str(tmp_path / "bound")
            address = where
        text = DRIVERS[driver].format(address=address, limits=limits).replace("<http web>", f"<http web>\n{extra}")
        running = start(
            text, *passed, arguments=("--single",), environ={"STATE_DIRECTORY": str(tmp_path / "run0" / "state")}
        ).wait_ready()
        made.append(Site(running, tmp_path / "run0", family, where, driver))
        return made[-1]

    yield make
    for one in made:
        for client in one.open:
            client.close()


@pytest.mark.parametrize("kind", ["inherited", "inherited-unix", "inherited-six", "bound", "bound-unix"])
def test_what_sleeps_holds_up_nobody(site: Any, kind: str) -> None:
    """All threads sleep: a file is served, calls queue, what is beyond the queue is told 503, the journal once."""
    served = site("queue 1", kind)
    sleepers = [served.connect(f"/wait{number}") for number in range(2)]
    served.here("wait0")
    served.here("wait1")
    assert read_answer(served.connect("/static/a.txt")).endswith(b"a file")
    queued = served.connect("/queued")
    # Whoever comes next finds the queue full; until the queued one is there, it would be queued itself. One thread is left
    # to look who has come, so that it has seen the queued one when it serves who came later.
    assert read_answer(served.connect("/static/a.txt")).endswith(b"a file")
    overflow = [served.connect("/overflow") for _ in range(3)]
    for client in overflow:
        answer = read_answer(client)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
    assert read_answer(served.connect("/static/a.txt")).endswith(b"a file")
    served.go("wait0")
    assert read_answer(sleepers[0]).endswith(b"wait0 0")
    assert read_answer(queued).endswith(b"queued 0")
    served.go("wait1")
    assert read_answer(sleepers[1]).endswith(b"wait1 0")
    told = lambda: [one for one in served.entries(LOGGER="appd.http") if "wait (queue)" in one["MESSAGE"]]  # noqa: E731
    assert len(wait_until(told)) == 1
    assert len(served.entries(LOGGER="appd.http")) == 1
    assert served.running.stop() == 0


def test_a_share_of_the_threads(site: Any) -> None:
    """A mount with `threads 1`: its second call waits, others do not."""
    served = site()
    first = served.connect("/one/wait1")
    served.here("wait1")
    second = served.connect("/one/second")
    assert read_answer(served.connect("/other")).endswith(b"other 0")
    second.settimeout(0.3)
    with pytest.raises(TimeoutError):
        second.recv(1)
    second.settimeout(30)
    served.go("wait1")
    assert read_answer(first).endswith(b"wait1 0")
    assert read_answer(second).endswith(b"second 0")


@pytest.mark.parametrize("driver", ["lane", "tls"])
def test_an_answer_that_waits_for_others_waits_for_none_that_is_slow(site: Any, driver: str) -> None:
    """Answers to what came at once go out together, but for those that take their time: the first ends when it is told to."""
    served = site(driver=driver)
    for _ in range(20):
        assert served.ask("/quick").endswith(b"quick 0")
    quick, slow, later = (served.connect() for _ in range(3))
    with served.frozen():
        for client, path in ((quick, "/quick"), (slow, "/wait-long"), (later, "/later")):
            client.sendall(GET.format(path).encode())
    assert read_answer(quick).endswith(b"quick 0")
    assert read_answer(later).endswith(b"later 0")
    served.go("wait-long")
    assert read_answer(slow).endswith(b"wait-long 0")
    # Whose answer has waited is as any other.
    quick.sendall(GET.format("/again").encode())
    assert read_answer(quick).endswith(b"again 0")


@pytest.mark.parametrize("driver", ["lane", "tls"])
def test_a_client_that_leaves_while_its_answer_waits(site: Any, driver: str) -> None:
    """Nobody else notices, nor has the journal anything to tell of."""
    served = site(driver=driver)
    for _ in range(20):
        assert served.ask("/quick").endswith(b"quick 0")
    clients = [served.connect() for _ in range(12)]
    with served.frozen():
        for number, client in enumerate(clients):
            client.sendall(GET.format(f"/{number}").encode())
            if number % 3 == 0:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
    for number, client in enumerate(clients):
        if number % 3:
            assert read_answer(client).endswith(f"{number} 0".encode())
    assert served.ask("/last").endswith(b"last 0")
    assert not [one for one in served.entries() if one["PRIORITY"] < 5], served.running.errors
    assert served.running.stop() == 0


@pytest.mark.parametrize("driver", LANE)
def test_what_was_quick_may_become_slow(site: Any, driver: str) -> None:
    """A call that takes long for the first time does not hold up those that came with it."""
    served = site(driver=driver)
    for _ in range(20):
        assert served.ask("/quick").endswith(b"quick 0")
    slow = served.connect("/wait-slow")
    quick = [served.connect("/quick") for _ in range(10)]
    for client in quick:
        assert read_answer(client).endswith(b"quick 0")
    served.go("wait-slow")
    assert read_answer(slow).endswith(b"wait-slow 0")


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_a_slow_head(site: Any, driver: str) -> None:
    """408 at an absolute time, however busily it trickles."""
    served, began = site("header-timeout 1s", driver=driver), time.monotonic()
    client = served.connect()
    client.settimeout(0.1)
    answer = b""
    for byte in b"GET / HTTP/1.1\r\nHost: " + b"x" * 100:
        client.send(bytes([byte]))
        try:
            answer = client.recv(1000)
            break
        except TimeoutError:
            pass
    client.settimeout(30)
    answer += read_all(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 0.9 < time.monotonic() - began < 20
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_a_slow_body(site: Any, driver: str) -> None:
    """408 when it comes slower than body-rate, after the grace."""
    client = site("body-rate 1000000", driver=driver).connect()
    began = time.monotonic()
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    assert read_all(client).startswith(b"HTTP/1.1 408 ")
    assert 4 < time.monotonic() - began < 25


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_an_idle_connection(site: Any, driver: str) -> None:
    """It ends without a word."""
    served = site("idle-timeout 2s", driver=driver)
    fresh, kept = served.connect(), served.connect("/x")
    read_answer(kept)
    assert (fresh.recv(1), kept.recv(1)) == (b"", b"")


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_an_idle_connection_that_was_slow(site: Any, driver: str) -> None:
    """What a head or a body may take as long as it comes is not what an idle connection has afterwards."""
    served = site("idle-timeout 500ms\nheader-timeout 1h\nbody-rate 1", driver=driver)
    head, body = served.connect(), served.connect()
    head.sendall(b"GET /x HT")
    body.sendall(b"POST /y HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(99999))
    # Until the idle-timeout would have ended them.
    time.sleep(1.0)
    head.sendall(b"TP/1.1\r\nHost: x\r\n\r\n")
    body.sendall(b"\0")
    assert read_answer(head).endswith(b"x 0") and read_answer(body).endswith(b"y 100000")
    assert (head.recv(1), body.recv(1)) == (b"", b"")


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_a_client_that_takes_nothing(site: Any, driver: str) -> None:
    """Its thread is free at once, and after the write time-out it is cut off."""
    served = site("write-timeout 1s\nresponse-spool 100MB", driver=driver)
    clients = []
    for _ in range(4):
        client = served.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(GET.format("/large?20000000").encode())
        clients.append(client)
    assert served.ask("/free").endswith(b"free 0")
    # tcp(7): the state is no longer TCP_ESTABLISHED when the connection was cut, though nothing was read.
    wait_until(lambda: clients[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != b"\1")
    with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
        for _ in range(20_000_000):
            if not clients[0].recv(65536):
                break


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_a_slow_reader_gets_all(site: Any, driver: str) -> None:
    """From memory, from the spool's file, and from a thread that waits beyond it."""
    served = site("response-spool 1MB", driver=driver)
    for path, size in (("/large?20000000", 20_000_000), ("/pieces?300", 300 * 65536)):
        client = served.connect()
        client.sendall(GET.format(path).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
        time.sleep(0.2)
        data = bytearray()
        while part := client.recv(65536):
            data += part
        assert data.count(b"x") == size
    assert served.ask("/after").endswith(b"after 0")


@pytest.mark.parametrize("driver", (*LANE, "guest"))
@pytest.mark.parametrize("path", ["/pieces?250", "/large?16000000"])
def test_what_slow_readers_wait_for_lies_in_files(site: Any, driver: str, path: str) -> None:
    """The threads are free, and of 240 MB hardly any is in memory; nothing of it is lost."""
    served = site("response-spool 100MB", driver=driver)
    status = Path(f"/proc/{served.running.process.pid}/status")

    def memory() -> int:
        return int(status.read_text().partition("RssAnon:")[2].split()[0])

    served.ask("/large?16000000")
    clients = [served.connect() for _ in range(15)]
    before = memory()
    for one in clients:
        one.sendall(GET.format(path).encode())
    # Two threads, and who asks last is answered last.
    assert served.ask("/after").endswith(b"after 0")
    assert memory() - before < 110_000
    for one in clients:
        one.sendall(GET.format("/last").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
        assert read_all(one).count(b"xx") in (8_000_000, 250 * 32768)


@pytest.mark.parametrize("driver", LANE)
def test_a_file_of_the_application(site: Any, driver: str) -> None:
    """wsgi.file_wrapper, to a slow reader, closed in between by the application."""
    served = site(driver=driver)
    (served.folder / "large.bin").write_bytes(b"y" * 20_000_000)
    client = served.connect()
    client.sendall(GET.format("/file").encode())
    time.sleep(0.2)
    answer = read_answer(client)
    assert answer.count(b"y") == 20_000_000
    client.sendall(GET.format("/next").encode())
    assert read_answer(client).endswith(b"next 0")


@pytest.mark.parametrize("driver", LANE)
def test_a_large_file(site: Any, driver: str, tmp_path: Path) -> None:
    """Sent by the kernel; the connection stays."""
    served = site(driver=driver)
    (tmp_path / "large").write_bytes(b"z" * 5_000_000)
    client = served.connect("/static/large")
    assert read_answer(client).count(b"z") == 5_000_000
    client.sendall(GET.format("/next").encode())
    assert read_answer(client).endswith(b"next 0")


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_a_large_upload(site: Any, driver: str) -> None:
    """It goes through a file; too large is 413, and the answer arrives though the client goes on sending."""
    served = site("upload-memory 1KB\nbody-size 1MB", driver=driver)
    client = served.connect()
    client.sendall(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + b"u" * 900_000)
    assert read_answer(client).endswith(b"up 900000")
    client = served.connect()
    client.sendall(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + b"u" * 100_000)
    assert read_all(client).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_slow_uploads_hold_no_thread(site: Any, driver: str) -> None:
    """More of them than threads."""
    served = site(driver=driver)
    slow = [served.connect() for _ in range(5)]
    for client in slow:
        client.sendall(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
    assert served.ask("/free").endswith(b"free 0")
    for client in slow:
        client.sendall(b"cde")
        assert read_answer(client).endswith(b"up 5")


@pytest.mark.parametrize("driver", ALL)
def test_connections(site: Any, driver: str) -> None:
    """More than `connections` wait in the queue of the socket until one ends."""
    served = site("connections 2", driver=driver)
    first, second = served.connect("/x"), served.connect("/x")
    read_answer(first)
    read_answer(second)
    third = served.connect("/third", warm=False)
    third.settimeout(0.3)
    with pytest.raises(TimeoutError):
        third.recv(1)
    third.settimeout(30)
    first.close()
    assert read_answer(third).endswith(b"third 0")
    assert len(wait_until(lambda: served.entries(LOGGER="appd.http"))) == 1


@pytest.mark.parametrize("driver", FRESH)
def test_connections_per_peer(site: Any, driver: str) -> None:
    """503 for one too many."""
    served = site("connections-per-peer 1", driver=driver)
    first = served.connect("/x")
    read_answer(first)
    assert read_all(served.connect(warm=False)).startswith(b"HTTP/1.1 503 ")
    first.close()
    wait_until(lambda: served.ask("/again").endswith(b"again 0"))


@pytest.mark.parametrize("driver", FRESH)
def test_no_descriptors(site: Any, driver: str) -> None:
    """Nothing is accepted for a moment, which the journal hears of once; nothing spins; later all are answered."""
    served = site(driver=driver)
    assert served.ask("/before").endswith(b"before 0")
    pid = served.running.process.pid
    used = len(os.listdir(f"/proc/{pid}/fd"))
    _soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 1, hard))
    clients = [served.connect("/x") for _ in range(5)]
    wait_until(lambda: served.entries(LOGGER="appd.http"))

    def spent() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = spent()
    time.sleep(1.5)
    assert spent() - before < 0.5
    (entry,) = served.entries(LOGGER="appd.http")
    assert "cannot accept connections: Too many open files" in entry["MESSAGE"]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1024, hard))
    for client in clients:
        assert read_answer(client).endswith(b"x 0")


@pytest.mark.parametrize("driver", (*FRESH, "tls", "tls-loop"))
def test_requests_per_connection(site: Any, driver: str) -> None:
    """The last one says so."""
    client = site("requests-per-connection 2", driver=driver).connect("/x")
    assert b"Connection: close" not in read_answer(client)
    client.sendall(GET.format("/y").encode())
    assert b"\r\nConnection: close\r\n" in read_answer(client)
    assert client.recv(1) == b""


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_a_call_that_takes_too_long(site: Any, driver: str) -> None:
    """504 to the client, the stacks of all threads in one entry, and the lane goes on."""
    served = site("request-timeout 2s", driver=driver)
    client = served.connect("/wait-for-ever")
    answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 504 ")
    (entry,) = wait_until(lambda: served.entries(LOGGER="appd.http", HTTP_PATH="/wait-for-ever"))
    assert "request-timeout" in entry["MESSAGE"]
    assert "in wait_for" in entry["MESSAGE"]
    assert served.ask("/after").endswith(b"after 0")
    served.go("wait-for-ever")
    assert served.running.stop() == 0


@pytest.mark.parametrize("driver", ("lane", "guest", "tls"))
def test_the_time_for_a_call_begins_behind_the_body(site: Any, driver: str) -> None:
    """A body that comes fast enough for `body-rate` may take longer than the call of the lane that gets it."""
    client = site("request-timeout 2s\nbody-rate 1", driver=driver).connect()
    client.sendall(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
    # As long as nothing is said in answer to what is not all there.
    client.settimeout(3.5)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(30)
    client.sendall(b"cde")
    assert read_answer(client).endswith(b"up 5")


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_who_is_at_the_other_end(site: Any, driver: str) -> None:
    """The address and port, or the credentials of a UNIX peer."""
    tcp = eval(site(driver=driver).ask("/peer").partition(b"\r\n\r\n")[2])
    assert (tcp["REMOTE_ADDR"], tcp["REMOTE_PORT"].isdecimal(), tcp["appd.peer_uid"]) == ("127.0.0.1", True, None)


def test_who_is_at_the_other_end_of_a_unix_socket(site: Any) -> None:
    """As the kernel says."""
    unix = eval(site(kind="bound-unix").ask("/peer").partition(b"\r\n\r\n")[2])
    assert (unix["REMOTE_ADDR"], unix["REMOTE_PORT"]) == ("", None)
    assert (unix["appd.peer_uid"], unix["appd.peer_pid"]) == (os.geteuid(), os.getpid())


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_behind_a_proxy(site: Any, driver: str) -> None:
    """The fields of a trusted one count; the scheme and the host are those that the client saw."""
    served = site(extra="trusted 127.0.0.0/8", driver=driver)
    client = served.connect()
    client.sendall(
        b"GET /peer HTTP/1.1\r\nHost: inside\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: shop.example\r\n\r\n"
    )
    found = eval(read_answer(client).partition(b"\r\n\r\n")[2])
    wanted = {"REMOTE_ADDR": "192.0.2.7", "wsgi.url_scheme": "https", "HTTP_HOST": "shop.example", "SERVER_PORT": "443"}
    assert wanted.items() <= found.items()
    # The next request of the same proxy is another client's.
    client.sendall(GET.format("/peer").encode())
    found = eval(read_answer(client).partition(b"\r\n\r\n")[2])
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("127.0.0.1", "https" if "tls" in driver else "http")


@pytest.mark.parametrize("driver", FRESH)
def test_the_proxy_protocol(site: Any, driver: str) -> None:
    """In one packet with the request, and byte by byte; without it the connection ends."""
    served = site(extra="trusted 127.0.0.1\nproxy-protocol on", driver=driver)
    data = b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 80\r\n" + GET.format("/peer").encode()
    whole, bytewise, without = served.connect(), served.connect(), served.connect("/peer")
    whole.sendall(data)
    for byte in data:
        bytewise.sendall(bytes([byte]))
    for client in (whole, bytewise):
        found = eval(read_answer(client).partition(b"\r\n\r\n")[2])
        assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("192.0.2.9", "4711")
    with pytest.raises(ConnectionResetError):
        assert without.recv(1) == b""
        raise ConnectionResetError


@pytest.mark.parametrize("driver", ["lane", "tls", "loop", "tls-loop"])
def test_a_connection_that_was_accepted(start: Callable[..., Running], tmp_path: Path, driver: str) -> None:
    """As a unit with Accept=yes passes it; an IPv4 client of an IPv6 socket has its own address, as elsewhere."""
    (tmp_path / "hosted.py").write_text(APPLICATION + ASGI_APPLICATION)
    ROOT.issue("localhost").write(tmp_path / "site.pem")
    passed = listening(socket.AF_INET6, ("::", 0))
    client: Any = socket.create_connection(("127.0.0.1", passed.getsockname()[1]), timeout=30)
    with client, passed.accept()[0] as accepted:
        text = DRIVERS[driver].format(address="systemd:name=web", limits="")
        running = start(text, ("web", accepted), arguments=("--single",)).wait_ready()
        accepted.close()
        if driver.startswith("tls"):
            client = Talker(client, ssl.create_default_context(cadata=ROOT.pem.decode()))
        client.sendall(GET.format("/peer").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
        answer = read_all(client)
        assert eval(answer.partition(b"\r\n\r\n")[2])["REMOTE_ADDR"] == "127.0.0.1"
        client.close()
    assert running.wait_exit() == 0
    assert "Traceback" not in running.errors


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_clients_that_leave(site: Any, driver: str) -> None:
    """In every state; nothing is left of them."""
    served = site(driver=driver)
    for path in ("", "/x", "/large?5000000", "/pieces?100"):
        for reset in (False, True):
            client = served.connect(path)
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
    half = served.connect()
    half.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
    half.close()
    assert served.ask("/after").endswith(b"after 0")
    fds = Path(f"/proc/{served.running.process.pid}/fd")
    sockets = lambda: sum(1 for one in fds.iterdir() if "socket:" in _link(one))  # noqa: E731
    before = sockets()
    wait_until(lambda: sockets() <= before)
    assert served.running.stop() == 0
    assert [one for one in served.running.err if "Traceback" in one] == []


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


@pytest.mark.parametrize("driver", (*ALL, "tls", "tls-loop"))
def test_debug(site: Any, driver: str) -> None:
    """An error of the application is kept as a report; the log says which, the client nothing."""
    served = site(extra="debug on", driver=driver)
    assert served.ask("/busy?none").startswith(b"HTTP/1.1 500 ")
    asynchronous = driver in ("loop", "handed", "tls-loop")
    (entry,) = wait_until(lambda: served.entries(LOGGER="appd.asgi" if asynchronous else "appd.wsgi"))
    name = entry["MESSAGE"].partition("(report ")[2].partition(")")[0]
    text = (served.folder / "state" / "errors" / f"{name}.txt").read_text()
    assert ("'path': '/busy'" if asynchronous else "'PATH_INFO': '/busy'") in text
    assert "could not convert string to float" in text


@pytest.mark.parametrize("driver", (*ALL, "tls"))
def test_half_closed(site: Any, driver: str) -> None:
    """A client that has closed its side is answered, after a call too."""
    served = site(driver=driver)
    client = served.connect("/busy?0.2")
    client.shutdown(socket.SHUT_WR)
    assert read_all(client).endswith(b"busy 0")


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("driver", (*ALL, "tls"))
def test_what_comes_while_a_call_runs(site: Any, driver: str, end: bool) -> None:
    """The poller tells once of what has come, whoever has the client then: it is answered, and its end is seen."""
    here = site(driver=driver)
    client = here.connect("/wait-0")
    here.here("wait-0")
    client.sendall(GET.format("/second").encode())
    if end:
        client.shutdown(socket.SHUT_WR)
    # Another connection's turn shows that the poller has been there.
    assert here.ask("/other").startswith(b"HTTP/1.1 200")
    here.go("wait-0")
    answers = b""
    if not end:
        while b"second 0" not in answers:
            answers += client.recv(65536)
        client.sendall(GET.format("/third").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
    answers += read_all(client)
    assert answers.count(b"HTTP/1.1 200") == (2 if end else 3)


@pytest.mark.parametrize("driver", (*ALL, "tls"))
def test_more_than_one_read_takes(site: Any, driver: str) -> None:
    """What is left in the socket behind a read is not told of again: it is read all the same."""
    here = site(driver=driver)
    client = here.connect()
    requests = 2000
    client.sendall(GET.format("/x").encode() * requests)
    client.shutdown(socket.SHUT_WR)
    assert read_all(client).count(b"HTTP/1.1 200 OK") == requests
