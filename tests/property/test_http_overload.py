"""Calls that have waited, over the real lane: of each, either `run` or `cancel` is called, once; whatever happens when.

Clients on sockets and guests of another driver ask, some leave, some calls come back, and at some moment the drain ends
or the lane stops, while other threads go on with all of that.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from support.entries import EntriesKept
from support.running import listening

from appd.http.core.connection import Connection
from appd.http.core.limits import Limits
from appd.http.lane.gateway import Call
from appd.http.lane.guest import Guest
from appd.http.lane.lane import Lane
from appd.http.lane.server import Server
from appd.http.routing import Route
from appd.http.site import Mount, Site, Wsgi

RESET = struct.pack("ii", 1, 0)


class World:
    """A server with two mounts, one of which has one thread only."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.random = random.Random(seed)
        self.log = EntriesKept()
        self.gates: dict[str, threading.Event] = defaultdict(threading.Event)
        self.calls: dict[Any, list[str]] = {}
        self.refused: list[Any] = []
        self.bodies: list[Any] = []
        self.guests: list[Guest] = []
        self.clients: dict[str, socket.socket] = {}
        self.answers: dict[str, bytes] = {}
        self.lane = Lane(self.random.choice((1, 2, 3)), self.log)  # type: ignore[arg-type]  # what is used of a log
        timeout = self.random.choice((0.0, 0.0, 0.05))
        limits = Limits(queue=self.random.choice((2, 100)), request_timeout=timeout)
        mounts = (Mount(Route(()), Wsgi("app", self.app)), Mount(Route((b"one",)), Wsgi("app", self.app, threads=1)))
        self.server = Server("web", Site(mounts, limits=limits), self.lane, self.log)  # type: ignore[arg-type]
        self._watch(monkeypatch)
        self.lane.start()
        self.sock = listening()
        self.sock.setblocking(False)
        self.server.listen(self.sock.dup())
        self.asked = 0

    def _watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Notes what becomes of each call; all of it is done all the same."""
        calls, refused, begin = self.calls, self.refused, self.lane.begin

        def noted(call: Any, worker: Any, most: int) -> Any:
            calls[call] = []
            if call._body is not None:
                self.bodies.append(call._body)
            begun = begin(call, worker, most)
            if begun is None:
                refused.append(call)
            return begun

        monkeypatch.setattr(self.lane, "begin", noted)
        for fate in ("run", "cancel"):
            real = getattr(Call, fate)

            def spied(call: Any, real: Any = real, fate: str = fate) -> Any:
                calls[call].append(fate)
                return real(call)

            monkeypatch.setattr(Call, fate, spied)

    def app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        name = environ["QUERY_STRING"]
        self.gates[name].wait()
        if name.startswith("fail"):
            raise ValueError(name)
        start_response("200 OK", [])
        return [b"answer to " + name.encode()]

    # What happens.

    def step(self) -> None:
        actions = (self.ask, self.ask, self.ask, self.visit, self.leave, self.close_side, self.open, self.lose)
        self.random.choice(actions)()
        time.sleep(self.random.choice((0, 0, 0.001, 0.003)))

    def ask(self) -> None:
        self.asked += 1
        name = f"{self.random.choice(('good', 'good', 'fail'))}{self.asked}"
        path = self.random.choice(("/", "/one"))
        body = self.random.choice((b"", b"body"))
        try:
            client = socket.create_connection(self.sock.getsockname(), 20)
        except ConnectionError:  # as below, and even sooner
            return
        with suppress(OSError):  # it has been cut: the drain may end before it has said anything
            client.sendall(
                b"POST %s?%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                % (path.encode(), name.encode(), len(body), body)
            )
        self.clients[name] = client

    def visit(self) -> None:
        self.asked += 1
        core = Connection(self.server.limits, self.server.origin)
        core.receive(b"GET /one?good%d HTTP/1.1\r\nHost: x\r\n\r\n" % self.asked)
        line = SimpleNamespace(
            door=self.server.doors[0],
            server=self.server,
            host="",
            port=0,
            secure=False,
            is_beyond=False,
            far=("", 0),
            sock=self.sock,
            variables={},
            log_fields=lambda _request: {"HTTP_METHOD": "GET", "HTTP_PATH": "/one"},
        )
        request: Any = core.next()
        guest = Guest(line, request, BytesIO(b""), 0, lambda: None)
        self.guests.append(guest)
        self.lane.post(guest)

    def lose(self) -> None:
        if self.guests:
            self.random.choice(self.guests).lost()

    def leave(self) -> None:
        if self.clients:
            client = self.clients.pop(self.random.choice(list(self.clients)))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()

    def close_side(self) -> None:
        """Who says nothing more still wants an answer."""
        if self.clients:
            with suppress(OSError):  # it has been cut
                self.random.choice(list(self.clients.values())).shutdown(socket.SHUT_WR)

    def open(self) -> None:
        if self.asked:
            number = self.random.randint(1, self.asked)
            for kind in ("good", "fail"):
                self.gates[f"{kind}{number}"].set()

    def open_all(self) -> None:
        for number in range(1, self.asked + 1):
            for kind in ("good", "fail"):
                self.gates[f"{kind}{number}"].set()

    def read(self, name: str) -> bytes:
        data = b""
        with suppress(OSError):
            while part := self.clients[name].recv(65536):
                data += part
        return data

    def close(self) -> None:
        for one in (*self.clients.values(), *self.server.clients):
            one.close()
        for door in list(self.server.doors):
            door.close()


@pytest.fixture
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Made of a seed."""
    made = World(request.param, monkeypatch)
    yield made
    made.close()


@pytest.mark.parametrize("world", range(40), indirect=True)
def test_run_or_cancel(world: World) -> None:
    """Never both, never neither; what was held is given back; whoever stays to the end is told something."""
    for _ in range(world.random.randint(5, 40)):
        world.step()
    if world.server.limits.request_timeout:
        time.sleep(0.6)  # two ticks of the deadlines: a call that runs is overdue
    # The drain ends here, while some still ask and some calls come back.
    other = threading.Thread(target=lambda: [world.step() for _ in range(10)])
    other.start()
    world.server.abort()
    other.join()
    world.open_all()
    assert world.lane.stop(20)
    admission = world.lane.admission
    assert (admission.running, admission.queued, admission.waiting(), world.lane.parked) == (0, 0, [], {})
    waited = {call: fate for call, fate in world.calls.items() if call not in world.refused}
    assert {tuple(fate) for fate in waited.values()} <= {("run",), ("cancel",)}
    assert not any(world.calls[call] for call in world.refused)
    assert all(body.closed for body in world.bodies)
    cancelled = [call for call, fate in waited.items() if fate == ["cancel"]]
    assert len(cancelled) == sum(one.cancelled for one in admission._shares)
    for call in cancelled:
        name = call.request.query
        if name in world.clients:
            assert world.read(name).startswith(b"HTTP/1.1 503 ")
    assert [one for one in world.log.entries if "the HTTP engine failed" in str(one.message)] == []
