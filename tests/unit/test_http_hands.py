"""Who has a connection of the lane, when threads meet: nobody touches a descriptor that is another connection's by then."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from appd.http.lane.lane import Lane
from appd.http.lane.leaving import Phase
from appd.http.lane.server import Server
from appd.http.site import of_application


class Log:
    """A log that nobody reads."""

    def write(self, *_: Any, **__: Any) -> None: ...


class One:
    """A connection that notes when it is handled."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.deadline, self.tick = 0.0, 0
        self.handled = threading.Event()

    def handle(self, _worker: Any) -> None:
        self.handled.set()

    def close(self) -> None: ...


@pytest.fixture
def lane() -> Iterator[Lane]:
    made = Lane(1, Log())  # type: ignore[arg-type]  # writes
    made.start()
    yield made
    assert made.stop()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    with theirs, ours:
        yield theirs, ours


def _fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        pass


class Late(dict[int, Any]):
    """Says once that a descriptor is still somebody's, as a thread sees it that comes a moment too late."""

    def __init__(self, found: dict[int, Any], last: Any) -> None:
        super().__init__(found)
        self._last = [last]

    def get(self, key: int, default: Any = None) -> Any:
        return self._last.pop() if self._last else super().get(key, default)


@pytest.mark.parametrize("late", [False, True])
def test_what_is_disarmed_too_late(lane: Lane, pair: tuple[socket.socket, socket.socket], late: bool) -> None:
    """Whoever has the descriptor now waits until it can send, and is told when it can."""
    theirs, ours = pair
    before, now = One(ours), One(ours)
    _fill(ours)
    lane.admit(now)  # type: ignore[arg-type]  # has what is asked for
    lane.disarm(now)  # type: ignore[arg-type]
    lane.arm_to_send(now)  # type: ignore[arg-type]
    if late:
        lane._armed = Late(lane._armed, before)
    assert not lane.disarm(before)  # type: ignore[arg-type]
    theirs.settimeout(10)
    while not now.handled.is_set():
        theirs.recv(1 << 20)
        now.handled.wait(0.01)
    lane.forget(now)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["arm_to_send", "rearm"])
def test_a_descriptor_that_is_used_again(lane: Lane, pair: tuple[socket.socket, socket.socket], way: str) -> None:
    """Between the moment at which a connection is armed and that in which epoll is told another thread may close it."""
    theirs, ours = pair
    one = One(ours)
    listening = socket.create_server(("127.0.0.1", 0))
    told: list[int] = []

    class Between(dict[int, Any]):
        """The connection is taken, handled and closed as soon as it is armed."""

        def __setitem__(self, fd: int, client: Any) -> None:
            super().__setitem__(fd, client)
            thread = threading.Thread(target=close, args=(client,))
            thread.start()
            thread.join(0.2)
            closing.append(thread)

    def close(client: Any) -> None:
        if lane.disarm(client):
            lane.forget(client)
            client.sock.close()
            os.dup2(listening.fileno(), client.fd)
            lane._crew.epoll.register(client.fd, select.EPOLLIN)
            told.append(client.fd)

    closing: list[threading.Thread] = []
    modified: list[tuple[int, int]] = []

    def modify(fd: int, events: int) -> None:
        modified.append((fd, len(told)))
        lane._crew.epoll.modify(fd, events)

    lane.admit(one)  # type: ignore[arg-type]
    lane.disarm(one)  # type: ignore[arg-type]
    lane._modify = modify
    lane._armed = Between()
    getattr(lane, way)(one)
    for thread in closing:
        thread.join(10)
    # Never behind the end of what it is about.
    assert [after for _fd, after in modified if after] == []
    lane._crew.epoll.unregister(one.fd)
    os.close(one.fd)
    listening.close()
    del theirs


def test_nothing_has_come_before_a_proxy_header(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection that is handled for what was told of its descriptor earlier still waits for the header."""
    theirs, ours = pair

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(len(environ["REMOTE_ADDR"])))])
        return [environ["REMOTE_ADDR"].encode()]

    lane = Lane(1, Log())  # type: ignore[arg-type]
    lane.start()
    site = of_application(application, "test:application")._replace(proxy_protocol=True, trusted=("unix",))
    server = Server("web", site, lane, Log())  # type: ignore[arg-type]
    server.adopt(ours.dup())
    (client,) = server.clients
    assert lane.disarm(client)
    client.handle(None)
    assert client._phase == Phase.PREFACE
    theirs.settimeout(10)
    theirs.sendall(b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 80\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert theirs.recv(65536).endswith(b"192.0.2.9")
    client.close()
    assert lane.stop()


def test_a_deadline_that_moves_while_others_pass() -> None:
    """Of many that pass together the last is looked at a moment later: it may have been used meanwhile."""
    lane = Lane(1, Log())  # type: ignore[arg-type]
    expired: list[Any] = []

    class Timed:
        """What is moved when another one passes."""

        deadline, tick = 0.0, 0

        def expired(self) -> None:
            expired.append(self)
            for one in those:
                if one not in expired:
                    lane.deadlines.put(one, 100.0)

    those = [Timed(), Timed()]
    for one in those:
        lane.deadlines.put(one, 1.0)
    lane.look(10.0)
    assert len(expired) == 1
    lane.look(99.0)
    assert len(expired) == 1
    lane.look(101.0)
    assert len(expired) == 2
