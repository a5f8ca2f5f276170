"""The record of open connections keeps limits, with a clock of the test's own."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from appd.limits import StreamLimits, logged_in
from appd.listening.connections import Connections


class Wire:
    """A transport as far as the record knows one."""

    def __init__(self, connections, host="192.0.2.1"):
        self.connections = connections
        self.peer_host = host
        self.stirred = True
        self.ended = []
        connections.add(self)

    def loseConnection(self):
        self.ended.append("lost")

    def abortConnection(self):
        self.ended.append("aborted")
        self.connections.discard(self)

    def login_done(self):
        self.connections.logged_in(self)


@pytest.fixture
def clock():
    return Clock()


def record(clock, gate=lambda opens: None, **limits):
    return Connections(limits=StreamLimits(**limits), clock=clock, name="x", gate=gate)


def test_the_gate_closes_once_and_opens_once(clock):
    """One more than the limit may have been accepted in the same turn."""
    gate = []
    connections = record(clock, gate.append, connections=2)
    wires = [Wire(connections) for _ in range(3)]
    assert gate == [False] and connections.full
    for wire, expected in zip(wires, ([False], [False, True], [False, True]), strict=True):
        connections.discard(wire)
        assert gate == expected
    assert not connections.full


def test_idle_is_ended_between_the_time_and_a_quarter_more(clock):
    """And what does not end is cut a quarter later."""
    connections = record(clock, idle_timeout=40)
    wire = Wire(connections)
    clock.advance(5)
    wire.stirred = True
    ended = 5.0
    while not wire.ended:
        clock.advance(1)
        ended += 1
    assert 45 <= ended <= 55 and wire.ended == ["lost"]
    clock.pump([1] * 10)
    assert wire.ended == ["lost", "aborted"]
    clock.pump([10] * 2)
    assert clock.getDelayedCalls() == []


def test_what_stirs_stays(clock):
    """However little."""
    connections = record(clock, idle_timeout=40)
    wire = Wire(connections)
    for _ in range(100):
        clock.pump([10, 10, 10])
        wire.stirred = True
    assert wire.ended == []


def test_peers_are_counted_by_address(clock):
    """An IPv4 peer is the same on a socket of both families; who has no address is not counted."""
    connections = record(clock, connections_per_peer=2)
    Wire(connections)
    second = Wire(connections, "::ffff:192.0.2.1")
    assert not connections.admits("192.0.2.1") and not connections.admits("::ffff:192.0.2.1")
    assert connections.admits("192.0.2.2") and connections.admits("::1") and connections.admits("")
    connections.discard(second)
    assert connections.admits("192.0.2.1")
    for _ in range(3):
        Wire(connections, "")
    assert connections.admits("")


def test_who_is_not_admitted_gets_no_protocol(clock):
    """And the factory is not asked."""
    connections = record(clock, connections_per_peer=1)
    asked = []

    class Asked(Factory):
        protocol = Protocol

        def buildProtocol(self, addr):
            asked.append(addr)
            return super().buildProtocol(addr)

    factory = Asked()
    admitting = connections.admitting(factory)
    assert admitting.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)).factory is factory
    Wire(connections)
    assert admitting.buildProtocol(IPv4Address("TCP", "192.0.2.1", 2)) is None
    assert admitting.buildProtocol(IPv6Address("TCP", "2001:db8::1", 2)) is not None
    assert len(asked) == 2 and admitting.numPorts == 0
    assert record(clock).admitting(factory) is factory


def test_a_login_has_a_deadline(clock):
    """Half a login is none; who is through is not cut."""
    connections = record(clock, login_timeout=60)
    late, through, gone = (Wire(connections) for _ in range(3))
    clock.advance(59)
    assert late.ended == []

    class Tls:
        transport = through

    class Ssh:
        transport = Tls()

    logged_in(Ssh())
    connections.discard(gone)
    clock.advance(2)
    assert late.ended == ["aborted"] and through.ended == [] and gone.ended == []
    assert clock.getDelayedCalls() == []


def test_login_of_a_transport_that_is_not_ours():
    """Has no deadline."""
    logged_in(None)
    logged_in(object())


def test_keys():
    """The deadline of logins is for types that have logins."""
    assert "login-timeout" not in StreamLimits().keys
    assert StreamLimits(login_timeout=1).keys - StreamLimits().keys == {"login-timeout"}
