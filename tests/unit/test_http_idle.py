"""What is kept of a connection between two requests: as little as it takes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from appd.http.core.limits import Limits
from appd.http.lane.lane import Lane
from appd.http.lane.server import Server
from appd.http.site import of_application

WAITS, GO = threading.Event(), threading.Event()
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Log:
    """A log that nobody reads."""

    def write(self, *_: Any, **__: Any) -> None: ...


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] == "/wait":
        WAITS.set()
        assert GO.wait(10)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"body"]


class Serving:
    """A server and a client of it, without a listening socket between them."""

    def __init__(self, limits: Limits) -> None:
        self.lane = Lane(2, Log())  # type: ignore[arg-type]  # writes
        self.lane.start()
        site = of_application(application, "test:application")._replace(limits=limits)
        self.server = Server("web", site, self.lane, Log())  # type: ignore[arg-type]  # writes
        self.held: list[socket.socket] = []

    def connect(self) -> socket.socket:
        theirs, ours = socket.socketpair()
        ours.setblocking(False)
        self.server.adopt(ours)
        theirs.settimeout(30)
        self.held.append(theirs)
        return theirs

    def ask(self, theirs: socket.socket, data: bytes = GET) -> None:
        theirs.sendall(data)
        received = b""
        while not received.endswith(b"body"):
            received += theirs.recv(65536)

    def until(self, condition: Any) -> None:
        ends = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < ends
            time.sleep(0.002)


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[Serving]:
    serving = Serving(getattr(request, "param", Limits()))
    yield serving
    for one in serving.held:
        one.close()
    serving.until(lambda: not serving.server.clients)
    serving.lane.stop()


def test_an_idle_connection_has_no_protocol(made: Serving) -> None:
    """Neither before the first request nor after one; the next client that asks has the same."""
    first, second = made.connect(), made.connect()
    clients = list(made.server.clients)
    assert [one.connection for one in clients] == [None, None]
    for theirs in (first, second, first):
        made.ask(theirs)
        made.until(lambda: all(one.connection is None for one in clients))
        assert len(made.server.spare) == 1
    assert [(one.status, one.unanswered, one.mounted) for one in clients] == [(0, None, None)] * 2


def test_what_has_begun_is_kept(made: Serving) -> None:
    """Half a head, or the empty line before one."""
    theirs = made.connect()
    (client,) = made.server.clients
    made.ask(theirs, GET + b"\r\n")
    made.until(lambda: client.fd in made.lane._armed)
    assert client.connection is not None
    made.ask(theirs, GET)
    made.until(lambda: client.connection is None)


@pytest.mark.parametrize("made", [Limits(requests_per_connection=2)], indirect=True)
def test_requests_are_counted(made: Serving) -> None:
    """Where a connection ends with a certain request."""
    theirs = made.connect()
    made.ask(theirs)
    theirs.sendall(GET)
    received = b""
    while data := theirs.recv(65536):
        received += data
    assert b"Connection: close\r\n" in received


def test_the_end_of_an_idle_connection(made: Serving) -> None:
    """It closes as one with a protocol does."""
    theirs = made.connect()
    made.ask(theirs)
    theirs.close()
    made.until(lambda: not made.server.clients)


def test_a_connection_that_is_cut_while_a_call_runs(made: Serving) -> None:
    """Nobody polls for it then; it ends with the call all the same, though the client stays and says nothing."""
    client = made.connect()
    client.sendall(GET.replace(b"/ ", b"/wait "))
    assert WAITS.wait(10)
    made.server.abort()
    GO.set()
    made.until(lambda: not made.server.clients)
