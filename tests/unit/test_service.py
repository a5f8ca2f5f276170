"""Servers as services: all or none, in order, drained; on a reactor of memory and a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from appd.address import Address
from appd.errors import ConfigurationError, HostError, Place, Problem
from appd.interfaces import IDrainable, IServerType
from appd.servers import ServerType
from appd.service import ServerService
from appd.worker.group import ServerGroup
from appd.worker.order import in_order


class FakePort:
    """Knows whether it reads and whether it was stopped."""

    def __init__(self) -> None:
        self.reading, self.open = True, True

    def stopReading(self) -> None:
        self.reading = False

    def stopListening(self) -> defer.Deferred[None]:
        self.open = False
        return defer.succeed(None)


class FakeListener:
    """Listens, refuses, or listens later."""

    inherited = False
    tls = None
    where = "127.0.0.1:1"
    host_and_port = ("localhost", 1)

    def __init__(self, outcome: Any = None, kind: str = "stream") -> None:
        self.address = Address("tcp", "127.0.0.1", 1)
        self.kind = kind
        self.outcome = outcome
        self.port = FakePort()
        self.released = False
        self.serves: Any = None
        self.connections: Any = None

    def prepare(self) -> None:
        pass

    def listen(self, reactor: Any, serves: Any, connections: Any) -> Any:
        self.serves, self.connections = serves, connections
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome if self.outcome is not None else self.port

    def release(self) -> None:
        self.released = True


class FakeTransport:
    def __init__(self, connections: Any) -> None:
        self.connections = connections
        self.aborted = False
        connections.add(self)

    def abortConnection(self) -> None:
        self.aborted = True
        self.connections.discard(self)


def server(name: str, *listeners: FakeListener, clock: Clock | None = None, factory: Any = None) -> ServerService:
    return ServerService(name, "test", listeners, clock or Clock(), factory or Factory.forProtocol(Protocol))


def test_one_address_that_fails_closes_the_others():
    """A server listens on all of its addresses or on none."""
    good, bad = FakeListener(), FakeListener(HostError("in use"))
    service = server("s", good, bad)
    with pytest.raises(HostError):
        service.startService()
    assert not good.port.open and good.released and not service.running


def test_one_server_that_fails_stops_those_before_it():
    """The group starts all or none, and undoes in reverse."""
    stopped: list[str] = []

    class Foreign(Service):
        def __init__(self, label: str) -> None:
            self.label = label

        def stopService(self) -> None:
            stopped.append(self.label)

    first, listener = server("first", one := FakeListener()), FakeListener(HostError("in use"))
    group = ServerGroup([first, Foreign("a"), Foreign("b"), server("last", listener)], Clock(), 30)
    with pytest.raises(HostError, match="in use"):
        group.startService()
    assert stopped == ["b", "a"] and not one.port.open and not group.running


def test_an_endpoint_that_listens_later():
    """`listening` fires when the last of all listens."""
    later: defer.Deferred[Any] = defer.Deferred()
    group = ServerGroup([server("now", FakeListener()), server("later", FakeListener(later))], Clock(), 30)
    group.startService()
    assert not group.listening.called
    later.callback(FakePort())
    assert group.listening.called


def test_an_endpoint_that_fails_later():
    """A listen that fails after startService has returned fails the group, and stops what had started."""
    later: defer.Deferred[Any] = defer.Deferred()
    group = ServerGroup([server("now", now := FakeListener()), server("later", FakeListener(later))], Clock(), 30)
    group.startService()
    failures: list[Any] = []
    group.listening.addErrback(failures.append)
    later.errback(RuntimeError("no"))
    assert failures[0].check(HostError) and "server 'later' cannot listen: no" in str(failures[0].value)
    assert not now.port.open


def test_drain_waits_for_connections_and_not_longer():
    """Accepting stops at once, the sockets stay open until the connections have gone."""
    clock, listener = Clock(), FakeListener()
    group = ServerGroup([server("s", listener, clock=clock)], clock, 30)
    group.startService()
    transport = FakeTransport(listener.connections)
    told: list[tuple[float, int]] = []
    group.draining = lambda left, connections: told.append((left, connections))
    stopping = group.stopService()
    assert not listener.port.reading and listener.port.open and not stopping.called
    clock.pump([0.0, 1.0, 1.0])
    assert told == [(30.0, 1), (29.0, 1), (28.0, 1)]
    listener.connections.discard(transport)
    assert stopping.called and not listener.port.open and not transport.aborted
    assert not clock.getDelayedCalls()


def test_drain_timeout_cuts_what_is_left():
    """At the end of the time the rest is aborted."""
    clock, listener = Clock(), FakeListener()
    group = ServerGroup([server("s", listener, clock=clock)], clock, 2)
    group.startService()
    transport = FakeTransport(listener.connections)
    stopping = group.stopService()
    clock.pump([0.0, 1.0, 1.0, 0.0])
    assert transport.aborted and stopping.called and not clock.getDelayedCalls()


def test_a_factory_that_drains_is_asked_once():
    """IDrainable.drain is called when accepting has stopped."""

    @implementer(IDrainable)
    class Draining(Factory):
        protocol = Protocol
        asked = 0

        def drain(self) -> None:
            assert not listener.port.reading
            self.asked += 1

    clock, listener, factory = Clock(), FakeListener(), Draining()
    group = ServerGroup([server("s", listener, clock=clock, factory=factory)], clock, 2)
    group.startService()
    group.stopService()
    group.stopService()
    assert factory.asked == 1


def order(*servers: tuple[str, list[str]]) -> list[str]:
    return in_order([(name, after, Problem("", Place("f", line))) for line, (name, after) in enumerate(servers)])


def test_order():
    """The order of the file, but for what `after` says; names in any case."""
    assert order(("a", []), ("b", []), ("c", [])) == ["a", "b", "c"]
    assert order(("a", ["C"]), ("b", []), ("c", [])) == ["b", "c", "a"]
    assert order(("a", ["b"]), ("b", ["c"]), ("c", [])) == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("servers", "reason"),
    [
        ([("a", ["x"])], "f: after: there is no server 'x', only a"),
        ([("a", ["a"])], "servers wait for each other: a after a"),
        ([("a", ["b"]), ("b", ["a"])], "servers wait for each other: "),
    ],
)
def test_orders_that_cannot_be(servers, reason):
    """Unknown names and circles, with the line."""
    with pytest.raises(ConfigurationError, match=reason):
        order(*servers)


def test_server_type_keeps_the_contract():
    """`appd.servers.ServerType` provides IServerType, with the seed's arguments by name and by position."""
    assert verifyClass(IServerType, ServerType)
    given: list[Any] = []

    def factory(db: Any) -> Any:
        given.append(db)
        return Factory.forProtocol(Protocol)

    server_type = ServerType(factory, defaultPort=8080)
    assert verifyObject(IServerType, server_type)
    made = server_type.create("Example", "my database", port=0)
    assert given == ["my database"] and made.name == "Example"
    assert [str(one.address) for one in made.listeners] == ["0"]
    assert [str(one.address) for one in server_type.create("E", None).listeners] == ["8080"]
    assert [str(one.address) for one in server_type.create("E", None, "127.0.0.1", 5).listeners] == ["127.0.0.1:5"]
    assert [str(one.address) for one in server_type.create("E", None, address="/run/x.sock").listeners] == [
        "/run/x.sock"
    ]


class Odd(Service):
    """A foreign service whose end is what the test says."""

    def __init__(self, end: Any) -> None:
        self.name = "odd"
        self.end = end

    def stopService(self) -> Any:
        return self.end()


def test_a_service_that_never_ends_is_not_waited_for():
    """What foreign services do at their end has the rest of drain-timeout, and two seconds in any case."""
    clock = Clock()
    group = ServerGroup([Odd(defer.Deferred), server("s", listener := FakeListener(), clock=clock)], clock, 1)
    group.startService()
    stopping = group.stopService()
    clock.pump([0.0, 1.0, 1.0, 0.0])
    assert stopping.called and not listener.port.open and not clock.getDelayedCalls()


def test_leaving_at_once_waits_for_nobody():
    """`leave_at_once` before and during the stop ends each of its waits."""
    clock = Clock()
    group = ServerGroup([Odd(defer.Deferred)], clock, 100)
    group.startService()
    group.leave_at_once()
    stopping = group.stopService()
    clock.pump([0.0, 0.0])
    assert stopping.called


def test_a_service_that_fails_to_stop_holds_up_nobody():
    """It is logged; the others stop."""
    from twisted.logger import capturedLogs

    def fail() -> None:
        raise RuntimeError("no")

    clock = Clock()
    group = ServerGroup([server("s", listener := FakeListener(), clock=clock), Odd(fail)], clock, 1)
    group.startService()
    with capturedLogs() as events:
        assert group.stopService().called
    assert not listener.port.open
    assert ["no" in str(event["log_failure"].value) for event in events if "log_failure" in event] == [True]
