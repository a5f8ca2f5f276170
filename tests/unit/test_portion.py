"""How connections are shared among processes that wait for the same socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from support.running import wait_until
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from appd.http.core.limits import Limits
from appd.http.lane.lane import Lane
from appd.http.lane.server import Server
from appd.http.loop.driver import Driver
from appd.http.site import of_application
from appd.listening.connections import Connections
from appd.listening.ports import adopt_stream
from appd.portion import Portion


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


def taken(portion: Portion, most: int = 5000) -> int:
    """How many are accepted before the socket is left to the others."""
    return next(number for number in range(1, most) if portion.take())


def test_a_burst_is_taken_in_portions(listening: socket.socket) -> None:
    """Four at once; after the rest four more, if nobody waits."""
    clock = Clock()
    portion = Portion(clock)
    assert taken(portion) == 4
    clock.now += 0.001
    portion.begin(listening.fileno())
    assert taken(portion) == 4


def test_what_comes_slowly_is_all_taken() -> None:
    """Three in each millisecond are nobody's burst."""
    clock = Clock()
    portion = Portion(clock)
    for _ in range(100):
        assert not any(portion.take() for _ in range(3))
        clock.now += 0.0011


def test_portions_grow_while_the_others_do_not_come(listening: socket.socket) -> None:
    """So that nobody waits long for processes that hang; after a lull they are small again."""
    clock = Clock()
    portion = Portion(clock)
    with socket.create_connection(listening.getsockname()):
        sizes = []
        for _ in range(20):
            sizes.append(taken(portion))
            clock.now += 0.001
            portion.begin(listening.fileno())
        assert sizes[::2] == sizes[1::2] == [4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024]
        clock.now += 0.03
        assert taken(portion) == 4


def test_portions_are_small_again_when_the_others_have_come(listening: socket.socket) -> None:
    """They have taken what waited."""
    clock = Clock()
    portion = Portion(clock)
    with socket.create_connection(listening.getsockname()):
        for _ in range(2):
            taken(portion)
            portion.begin(listening.fileno())
        assert portion.size == 8
        listening.accept()[0].close()
    taken(portion)
    portion.begin(listening.fileno())
    assert portion.size == 4


class Log:
    """A log that nobody reads."""

    def write(self, *_: Any, **__: Any) -> None: ...


class Served:
    """A server of HTTP on a socket that another process may accept from."""

    def __init__(
        self, listening: socket.socket, driver: Any = None, limits: Limits = Limits(), many: bool = True
    ) -> None:
        self.lane = Lane(2, Log())  # type: ignore[arg-type]  # writes
        self.lane.start()
        site = of_application(lambda _environ, _start: [], "test:application")._replace(limits=limits)
        self.server = Server("web", site, self.lane, Log(), driver=driver)  # type: ignore[arg-type]  # writes
        self.others = listening.dup()
        self.others.setblocking(False)
        listen: Any = self.server.listen if driver is None else partial(driver.listen, self.server)
        self.door = listen(listening.dup(), many_processes=many)
        self.door.sock.setblocking(False)
        self.clients: list[socket.socket] = []

    def connect(self, count: int) -> None:
        self.clients += [socket.create_connection(self.others.getsockname()) for _ in range(count)]

    def wait(self, count: int) -> None:
        """Waits until so many connections are there."""
        wait_until(lambda: len(self.server.clients) == count)

    def waiting(self) -> int:
        """How many connections another process finds; it takes them."""
        count = 0
        while True:
            try:
                self.others.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1

    def close(self) -> None:
        self.door.close()
        for one in self.clients:
            one.close()
        self.wait(0)
        self.lane.stop()
        self.others.close()


@pytest.fixture(params=["lane", "loop"])
def serve(request: pytest.FixtureRequest, listening: socket.socket) -> Iterator[Callable[..., Served]]:
    """Makes a `Served`, whose connections begin on the lane or on the loop."""
    made: list[Served] = []
    driver = None
    if request.param == "loop":
        driver = Driver(Log())  # type: ignore[arg-type]  # writes
        driver.start()

    def make(**options: Any) -> Served:
        made.append(Served(listening, driver, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    if driver is not None:
        driver.stop()


def test_a_door_leaves_the_rest_to_the_others(serve: Callable[..., Served]) -> None:
    """It takes its portion, and what comes behind that waits in the queue of the socket."""
    served = serve()
    # Time stands still: all is one burst, and the rest does not end.
    served.door.portion = Portion(Clock(), rest=3600.0)
    served.connect(10)
    served.wait(4)
    assert served.waiting() == 6
    assert len(served.server.clients) == 4


def test_a_door_comes_back(serve: Callable[..., Served]) -> None:
    """When nobody else takes them, all are taken in the end."""
    served = serve()
    served.door.portion = Portion(Clock())
    served.connect(30)
    served.wait(30)
    assert served.waiting() == 0


def test_a_door_of_one_process_takes_all(serve: Callable[..., Served]) -> None:
    """There is nobody to leave them to."""
    served = serve(many=False)
    assert served.door.portion is None
    served.connect(30)
    served.wait(30)


def test_a_door_that_is_paused_does_not_come_back(serve: Callable[..., Served]) -> None:
    """A drain that begins while it is left alone; and it may be opened again."""
    served = serve()
    served.door.portion = Portion(Clock(), rest=0.05)
    served.connect(4)
    served.wait(4)
    served.door.pause()
    served.connect(3)
    time.sleep(0.2)  # longer than the rest: nothing is to happen
    assert len(served.server.clients) == 4
    served.door.portion = None
    served.door.resume()
    served.wait(7)


def test_a_full_server_does_not_come_back(serve: Callable[..., Served]) -> None:
    """`connections` is not exceeded when the rest is over."""
    served = serve(limits=Limits(connections=4))
    served.door.portion = Portion(Clock(), rest=0.05)
    served.connect(6)
    served.wait(4)
    time.sleep(0.2)  # longer than the rest: nothing is to happen
    assert len(served.server.clients) == 4
    for one in served.clients[:4]:
        one.close()
    served.wait(2)


def test_a_port_of_twisted_leaves_the_rest_to_the_others(listening: socket.socket) -> None:
    """As a door; not when nobody else serves, and not for longer than the rest."""
    reactor: Any = MemoryReactorClock()
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    connections = Connections()
    connections.shared = True
    port: Any = adopt_stream(reactor, listening.fileno(), socket.AF_INET, factory, connections)
    clients = [socket.create_connection(listening.getsockname()) for _ in range(30)]
    try:
        while port in reactor.getReaders():
            port.doRead()
        assert len(connections) == 4
        reactor.advance(0.001)
        while port in reactor.getReaders():
            port.doRead()
        assert len(connections) == 8
        # Whoever stops it has the last word.
        port.stopReading()
        reactor.advance(0.001)
        assert port not in reactor.getReaders()
        port.startReading()
        port.doRead()
        assert len(connections) == 9
    finally:
        connections.abort()
        reactor.advance(1)
        port.connectionLost(None)
        for one in clients:
            one.close()
