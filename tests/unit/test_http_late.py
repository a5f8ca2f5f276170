"""Deadlines that pass while some thread has the connection, and calls that begin late: what is absolute holds."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from appd.http.core.limits import Limits
from appd.http.lane.lane import Lane
from appd.http.lane.leaving import Phase
from appd.http.lane.server import Server
from appd.http.site import of_application


class Log:
    """A log that nobody reads."""

    def write(self, *_: Any, **__: Any) -> None: ...


def application(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "4")])
    return [b"body"]


class Serving:
    """A server with one connection."""

    def __init__(self, application: Any = application, **limits: float) -> None:
        self.lane = Lane(1, Log())  # type: ignore[arg-type]  # writes
        self.lane.start()
        site = of_application(application, "test:application")._replace(
            limits=Limits(**{"header_timeout": 0.5, **limits})
        )
        self.server = Server("web", site, self.lane, Log())  # type: ignore[arg-type]  # writes
        self.theirs, ours = socket.socketpair()
        self.theirs.settimeout(10)
        ours.setblocking(False)
        self.server.adopt(ours)
        (self.client,) = self.server.clients

    def until(self, condition: Any) -> None:
        ends = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < ends
            time.sleep(0.002)

    def is_armed(self) -> bool:
        return self.client.fd in self.lane._armed

    def outlast(self) -> None:
        """Has the connection, as a thread has it that reads from it, beyond its deadline."""
        assert self.lane.disarm(self.client)
        self.until(lambda: time.monotonic() > self.client.deadline + 0.5)

    def read(self) -> bytes:
        return b"".join(iter(lambda: self.theirs.recv(65536), b""))


@pytest.fixture
def made() -> Iterator[Serving]:
    serving = Serving()
    yield serving
    serving.theirs.close()
    serving.until(lambda: not serving.server.clients)
    assert serving.lane.stop()


def test_a_head(made: Serving) -> None:
    """It does not last longer because the next byte of it was read when its time had come."""
    made.theirs.sendall(b"GET / HTTP/1.1\r\n")
    made.until(lambda: made.client._phase == Phase.HEAD and made.is_armed())
    made.outlast()
    made.lane.rearm(made.client)
    assert b"408 Request Timeout" in made.read()


def test_a_new_deadline(made: Serving) -> None:
    """What whoever has it sets is kept."""
    made.theirs.sendall(b"GET / HTTP/1.1\r\n")
    made.until(lambda: made.client._phase == Phase.HEAD and made.is_armed())
    made.outlast()
    made.client.deadline = deadline = time.monotonic() + 3
    made.lane.rearm(made.client)
    assert b"408 Request Timeout" in made.read()
    assert time.monotonic() >= deadline


def test_the_end(made: Serving) -> None:
    """A client that says nothing more when the connection has ended, and does not end it, is not waited for."""
    made.theirs.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n")
    assert made.read().endswith(b"body")
    made.until(lambda: made.client._phase == Phase.LINGERING and made.is_armed())
    made.outlast()
    made.lane.rearm(made.client)
    made.until(lambda: not made.server.clients)


def test_a_connection_that_is_closed_meanwhile(made: Serving) -> None:
    """Nothing is kept of it."""
    made.theirs.sendall(b"GET / HTTP/1.1\r\n")
    made.until(lambda: made.client._phase == Phase.HEAD and made.is_armed())
    made.outlast()
    made.client.close()
    made.until(lambda: not any(made.lane.deadlines._ticks.values()))


def test_a_call_that_begins_when_the_lead_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a thread may have been relieved before its call has begun: the call has its time all the same."""
    goes_on = threading.Event()
    begin = Lane.begin

    def waiting(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        goes_on.wait(30)
        return application(environ, start_response)

    def late(self: Lane, call: Any, worker: Any, most: int) -> Any:
        made.until(lambda: not worker.term)
        return begin(self, call, worker, most)

    monkeypatch.setattr(Lane, "begin", late)
    made = Serving(waiting, request_timeout=0.5)
    made.theirs.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        assert made.read().startswith(b"HTTP/1.1 504 ")
    finally:
        goes_on.set()
        made.theirs.close()
    made.until(lambda: not made.server.clients)
    assert made.lane.stop()
