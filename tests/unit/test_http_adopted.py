"""A connection that somebody else has accepted, on its way to the loop."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.running import wait_until

from appd.http.lane.lane import Lane
from appd.http.lane.server import Server
from appd.http.loop.client import LoopClient
from appd.http.loop.driver import Driver
from appd.http.site import of_application


class Log:
    """A log that nobody reads."""

    def write(self, *_: Any, **__: Any) -> None: ...


class Adopting:
    """A server with one connection, and a loop that turns once it is started."""

    def __init__(self) -> None:
        log: Any = Log()
        self.counts: list[int] = []
        self.driver = Driver(log)
        site = of_application(lambda _environ, _start: [], "test:application")
        self.server = Server("web", site, Lane(2, log), log, driver=self.driver)
        self.server.changed = lambda: self.counts.append(len(self.server.clients))
        self.client, accepted = socket.socketpair()
        accepted.setblocking(False)
        self.driver.adopt(self.server, accepted)


@pytest.fixture
def adopting() -> Iterator[Adopting]:
    made = Adopting()
    yield made
    made.client.close()
    made.driver.stop()


def test_it_counts_before_the_loop_has_it(adopting: Adopting) -> None:
    """A process that serves nothing else ends when its server has no connection."""
    assert len(adopting.server.clients) == 1
    adopting.driver.start()
    wait_until(lambda: [type(one) for one in list(adopting.server.clients)] == [LoopClient])
    assert adopting.counts and 0 not in adopting.counts
    adopting.client.close()
    wait_until(lambda: not adopting.server.clients)


def test_it_is_cut_before_the_loop_has_it(adopting: Adopting) -> None:
    """And is closed when the loop comes to it."""
    adopting.server.drain()
    assert adopting.server.abort() == 1
    adopting.driver.start()
    wait_until(lambda: not adopting.server.clients)
    adopting.client.settimeout(30)
    assert adopting.client.recv(1) == b""
    assert adopting.counts[-1] == 0
