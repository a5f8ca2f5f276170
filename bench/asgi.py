"""ASGI, WebSocket, HTTP/2 and resources beside other servers: the work of a request or message, and of an idle client.

usage: python bench/asgi.py [--seconds S] [--rounds N] [--idle N] [--resources] [--quick]

One worker each, bound to one processor; the clients run on the other. Each round runs every candidate, one after the
other. Printed are medians of the processor time of all processes of the server for one request or message, which other
load on the machine disturbs less than rates, and PSS for a connection.

    hello      13 bytes by ASGI, wrk, 64 keep-alive connections
    echo       a WebSocket message of 64 bytes and back, 32 connections, no compression
    http2      13 bytes by ASGI over HTTP/2, h2load, 8 connections with 20 streams each
    idle       connections that were used for one request and stay open
    websocket  WebSockets that stay open, of a server that was started anew

    resource   14 bytes by the same twisted.web Resource, under appd's <resource> and a Site of the same Twisted,
               neither with an access log: wrk as for hello; here the rate, too
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from candidates import BACKLOG, KEEP, PEERS, Appd, Candidate, Uvicorn, installed
from figures import judged, median, surroundings, table
from http_rates import ask, processor_seconds

APPLICATION = """

async def everything(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": message["text"]})
    elif scope["type"] == "http":
        await asgi(scope, receive, send)
"""
RESOURCE = """

from twisted.web.resource import Resource

class Hello(Resource):
    isLeaf = True

    def render_GET(self, request):
        request.setHeader(b"content-type", b"text/plain")
        return b"Hello, world!\\n" if request.path == b"/hello" else b"%d %d\\n" % (os.getpid(), VERSION)

hello = Hello()
"""
# A program, since `twistd web` writes a line for each request.
SITE = """import sys

from application import hello
from twisted.internet import endpoints, reactor
from twisted.web.server import Site

class Quiet(Site):
    def log(self, request):
        pass

endpoint = endpoints.serverFromString(reactor, f"tcp:{sys.argv[1]}:interface=127.0.0.1:backlog={sys.argv[2]}")
endpoint.listen(Quiet(hello, timeout=int(sys.argv[3])))
reactor.run()
"""
HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PAYLOAD = b"x" * 64
FRAME = bytes((0x81, 0x80 | len(PAYLOAD))) + bytes(4) + PAYLOAD
TALKERS = 32
IDLE = f"<limits>\n    idle-timeout {KEEP}s\n  </limits>"


class _Everything(Candidate):
    """A candidate with an application that echoes, too."""

    def swap(self) -> None:
        super().swap()
        with (self.folder / "application.py").open("a") as file:
            file.write(APPLICATION)


class AppdAsgi(_Everything, Appd):
    """appd, whose loop accepts."""

    name = "appd"

    def command(self) -> Sequence[str | Path]:
        return self.serve("http2 on", IDLE, "<asgi>\n    application application:everything\n  </asgi>")


class UvicornAsgi(_Everything, Uvicorn):
    """uvicorn with uvloop, httptools and websockets."""

    def command(self) -> Sequence[str | Path]:
        return [*list(super().command())[:-1], "application:everything"]


class HypercornAsgi(_Everything):
    """hypercorn on uvloop."""

    name = "hypercorn"
    program = "hypercorn"
    inherits = False

    def command(self) -> Sequence[str | Path]:
        bound = ["-b", f"127.0.0.1:{self.port}", "--backlog", str(BACKLOG), "--keep-alive", str(KEEP)]
        return [PEERS / self.program, *bound, "-w", "1", "-k", "uvloop", "application:everything"]


class GranianAsgi(_Everything):
    """granian, in Rust but for the application."""

    name = "granian"
    program = "granian"
    inherits = False

    def command(self) -> Sequence[str | Path]:
        bound = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        return [PEERS / self.program, "--interface", "asgi", *bound, "--no-access-log", "application:everything"]


class _Resource(Candidate):
    """A candidate with a resource, too."""

    def swap(self) -> None:
        super().swap()
        with (self.folder / "application.py").open("a") as file:
            file.write(RESOURCE)


class AppdResource(_Resource, Appd):
    """appd, which asks the resource in its reactor."""

    name = "appd"

    def command(self) -> Sequence[str | Path]:
        return self.serve("access-log off", IDLE, "<resource>\n    resource application:hello\n  </resource>")


class TwistedSite(_Resource):
    """twisted.web's own Site on Twisted's own reactor, of the environment that runs this: the Twisted that appd has."""

    name = "twisted.web"
    inherits = False

    def command(self) -> Sequence[str | Path]:
        file = self.folder / "site_of_twisted.py"
        file.write_text(SITE)
        return [sys.executable, file, str(self.port), str(BACKLOG), str(KEEP)]


class Talker(asyncio.Protocol):
    """A client that sends the next message when it has the answer to the last."""

    counted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._begun = False
        self._got = 0
        transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        if self._begun:
            self._got += len(data)
            if self._got < len(PAYLOAD) + 2:
                return
            self._got = 0
            Talker.counted += 1
        elif b" 101 " not in data:
            raise ValueError(data)
        self._begun = True
        self._transport.write(FRAME)


def echo(port: int, seconds: float, core: int) -> int:
    """Has clients talk, and says how many messages came back."""

    async def talk() -> None:
        loop = asyncio.get_running_loop()
        made = [await loop.create_connection(Talker, "127.0.0.1", port) for _ in range(TALKERS)]
        await asyncio.sleep(seconds)
        for transport, _protocol in made:
            transport.abort()

    before, allowed = Talker.counted, os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    asyncio.run(talk())
    os.sched_setaffinity(0, allowed)
    return Talker.counted - before


def load_http2(port: int, seconds: float, core: int) -> int:
    """Has h2load ask, and says how many requests were answered."""
    url = f"http://127.0.0.1:{port}/hello"
    command = ["taskset", "-c", str(core), "h2load", "-D", str(max(1, round(seconds))), "-c8", "-m20", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) succeeded", said)
    assert found is not None, said
    return int(found[1])


def cost(server: Candidate, load: Callable[[], int]) -> float:
    """Processor microseconds of the server for each thing that a load does."""
    before = processor_seconds(server.processes())
    count = load()
    return (processor_seconds(server.processes()) - before) * 1e6 / max(count, 1)


def pss(server: Candidate) -> int:
    """KB of all processes."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in server.processes()]
    return sum(int(found[1]) for text in texts if (found := re.search(r"^Pss:\s+(\d+)", text, re.M)))


def memory(server: Candidate, count: int, said: bytes) -> float:
    """KB for each of many connections on which this was said once."""

    def client() -> socket.socket:
        made = socket.create_connection(("127.0.0.1", server.port))
        made.sendall(said)
        made.recv(65536)
        return made

    kept = [client() for _ in range(50)]
    before = pss(server)
    kept += [client() for _ in range(count)]
    time.sleep(1)
    taken = (pss(server) - before) / count
    for one in kept:
        one.close()
    return taken


def measure(kind: type[Candidate], seconds: float, idle: int, cores: tuple[int, int]) -> dict[str, float]:
    """Everything that a candidate is asked for."""
    found = {}
    with kind(core=cores[0]) as server:
        if kind in (AppdAsgi, UvicornAsgi):
            found["hello"] = cost(server, lambda: ask(server.port, "hello", seconds, cores[1])[0])
            found["echo"] = cost(server, lambda: echo(server.port, seconds, cores[1]))
        if kind is not UvicornAsgi:
            found["http2"] = cost(server, lambda: load_http2(server.port, seconds, cores[1]))
    if kind in (AppdAsgi, UvicornAsgi):
        get = b"GET /hello HTTP/1.1\r\nHost: bench\r\n\r\n"
        for name, said in (("idle", get), ("websocket", HANDSHAKE)):
            with kind(core=cores[0]) as server:
                found[name] = memory(server, idle, said)
    return found


def measure_resource(kind: type[Candidate], seconds: float, cores: tuple[int, int]) -> tuple[float, float]:
    """Processor microseconds for a request, and requests a second."""
    with kind(core=cores[0]) as server:
        before = processor_seconds(server.processes())
        count, rate = ask(server.port, "hello", seconds, cores[1])
        return (processor_seconds(server.processes()) - before) * 1e6 / count, rate


def compare_resources(rounds: int, seconds: float, cores: tuple[int, int]) -> None:
    """Measures a resource under both, and prints the table."""
    kinds: list[type[Candidate]] = [AppdResource, TwistedSite]
    taken: dict[str, list[tuple[float, float]]] = {kind.name: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            taken[kind.name].append(measure_resource(kind, seconds, cores))
    work = {name: median(one for one, _rate in those) for name, those in taken.items()}
    rates = {name: median(rate for _one, rate in those) for name, those in taken.items()}
    rows = [[name, f"{work[name]:.2f}", f"{rates[name]:.0f}"] for name in taken]
    print(f"\n{table(['', 'resource µs', 'resource/s'], rows)}\n")
    ours, theirs = AppdResource.name, TwistedSite.name
    print(judged("resource: appd's against twisted.web's by work", work[ours] / work[theirs], 1.0, " x"))
    # Of rates the more is the better: so it is theirs that is to be the smaller one.
    print(judged("resource: twisted.web's against appd's by rate", rates[theirs] / rates[ours], 1.0, " x"))


def main() -> None:
    """Measures each candidate and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--resources", action="store_true", help="measure the rows of resource alone")
    parser.add_argument("--quick", action="store_true", help="see that it runs; the figures mean nothing")
    options = parser.parse_args()
    missing = [one for one in ("wrk", "h2load") if shutil.which(one) is None]
    if missing:
        parser.exit(0, f"bench/asgi.py is left out: there is no {missing[0]} (apt-get install wrk nghttp2-client)\n")
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rounds, seconds, idle = (1, 1.0, 100) if options.quick else (options.rounds, options.seconds, options.idle)
    available = sorted(os.sched_getaffinity(0))
    if options.resources:
        print(f"{surroundings()}; {rounds} rounds of {seconds:.0f} s")
        compare_resources(rounds, seconds, (available[0], available[-1]))
        return
    print(f"{surroundings()}; {rounds} rounds of {seconds:.0f} s, {idle} idle connections")
    kinds = [AppdAsgi, *installed([UvicornAsgi, HypercornAsgi, GranianAsgi])]
    taken: dict[str, list[dict[str, float]]] = {kind.name: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            taken[kind.name].append(measure(kind, seconds, idle, (available[0], available[-1])))
    found = {name: {what: median(one[what] for one in those) for what in those[0]} for name, those in taken.items()}
    heads = {
        "hello": "hello µs",
        "echo": "echo µs",
        "http2": "http2 µs",
        "idle": "idle KB",
        "websocket": "websocket KB",
    }
    rows = [[name, *(f"{said[what]:.2f}" if what in said else "-" for what in heads)] for name, said in found.items()]
    print(f"\n{table(['', *heads.values()], rows)}\n")
    for name, what, most in (
        ("uvicorn", "hello", 1.0),
        ("uvicorn", "echo", 1.0),
        ("hypercorn", "http2", 1.0),
        ("granian", "http2", 1.0),
        ("uvicorn", "idle", 0.5),
    ):
        if what in found.get(name, {}):
            print(judged(f"{what}: appd's against {name}'s", found["appd"][what] / found[name][what], most, " x"))
    compare_resources(rounds, seconds, (available[0], available[-1]))


if __name__ == "__main__":
    main()
