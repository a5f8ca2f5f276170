"""The ports on sockets that somebody else made."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from typing import Any

import pytest
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python import log
from zope.interface import implementer

from appd.listening.connections import Connections
from appd.listening.ports import adopt_connection, adopt_stream


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_port_takes_one_connection_at_a_time(family, tmp_path):
    """Also after a turn that found more of them: the rest is there for the other workers."""
    with socket.socket(family) as listening:
        listening.bind(str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listening.listen(8)
        listening.setblocking(False)
        clients = [socket.socket(family) for _ in range(4)]
        for client in clients:
            client.connect(listening.getsockname())
        factory, connections = Factory.forProtocol(Protocol), Connections()
        factory.noisy = False
        reactor = MemoryReactorClock()
        port = adopt_stream(reactor, listening.fileno(), family, factory, connections)
        taken = []
        for _ in clients:
            port.doRead()
            taken.append(len(connections))
        assert taken == [1, 2, 3, 4]
        port.doRead()
        assert len(connections) == 4
        connections.abort()
        reactor.advance(1)
        port.connectionLost(None)
        for client in clients:
            client.close()


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6, socket.AF_UNIX], ids=["tcp", "tcp6", "unix"])
def met(request, tmp_path):
    """A factory, its port, the record of its connections, and a client that waits in the queue."""
    family = request.param
    with socket.socket(family) as listening, socket.socket(family) as client:
        address = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}
        listening.bind(address.get(family) or str(tmp_path / "s"))
        listening.listen(8)
        listening.setblocking(False)
        client.settimeout(10)
        client.connect(listening.getsockname())
        factory, connections = Factory.forProtocol(Protocol), Connections()
        factory.noisy = False
        reactor = MemoryReactorClock()
        port = adopt_stream(reactor, listening.fileno(), family, factory, connections)
        yield factory, port, connections, client
        connections.abort()
        reactor.advance(1)
        port.connectionLost(None)


def test_who_has_come(met):
    """The protocol is told the address, on any kind of socket."""
    factory, port, _connections, client = met
    seen = []
    factory.buildProtocol = lambda address: seen.append(address) or Protocol()
    port.doRead()
    (address,) = seen
    if client.family == socket.AF_UNIX:
        assert not address.name
    else:
        assert (address.host, address.port) == client.getsockname()[:2]


def test_without_descriptors_a_client_is_turned_away(met):
    """By the one in reserve: it would wait in the queue, and be told of again and again."""
    _factory, port, connections, client = met
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    filled: list[int] = []
    try:
        # What is in reserve has one of the numbers below.
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                filled.append(os.dup(client.fileno()))
        port.doRead()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for one in filled:
            os.close(one)
    assert len(connections) == 0
    assert client.recv(1) == b""


@pytest.mark.parametrize("protocol", [None, ValueError("it was told to")])
def test_a_factory_that_makes_no_protocol(met, protocol):
    """The connection ends; an error is logged, and the next one is taken."""
    factory, port, connections, client = met

    def build(_address):
        if protocol is not None:
            raise protocol
        return

    factory.buildProtocol, before = build, factory.buildProtocol
    errors = []
    log.addObserver(errors.append)
    port.doRead()
    log.removeObserver(errors.append)
    assert len(connections) == 0
    assert client.recv(1) == b""
    assert len([one for one in errors if one.get("isError")]) == (protocol is not None)
    factory.buildProtocol = before
    with socket.socket(client.family) as other:
        other.connect(client.getpeername())
        port.doRead()
        assert len(connections) == 1


class _Notes(Protocol):
    """Notes the sizes of what it is given."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def dataReceived(self, data: bytes) -> None:
        self.sizes.append(len(data))


def test_what_comes_fast_is_read_in_larger_pieces():
    """After a full read the next one takes more, and after one that is not full as little as before."""
    client, served = socket.socketpair(socket.AF_UNIX)
    for one in (client, served):
        one.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    protocol, connections, reactor = _Notes(), Connections(), MemoryReactorClock()
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    factory.buildProtocol = lambda _address: protocol
    with client, served:
        adopt_connection(reactor, served.fileno(), socket.AF_UNIX, factory, connections)
        (transport,) = reactor.readers
        sent = sum(client.send(bytes(20_000)) for _ in range(10))
        while sum(protocol.sizes) < sent:
            assert transport.doRead() is None
        assert (protocol.sizes[0], sum(protocol.sizes)) == (65536, 200_000)
        assert max(protocol.sizes) > 65536
        for _ in range(2):
            client.send(b"few")
            assert transport.doRead() is None
        sent = sum(client.send(bytes(20_000)) for _ in range(10))
        assert transport.doRead() is None
        assert protocol.sizes[-3:] == [3, 3, 65536]
    connections.abort()
    reactor.advance(1)


def test_a_descriptor_comes_with_what_is_read():
    """Over a UNIX socket: IFileDescriptorReceiver is given it, and what is read in the same read follows."""
    client, served = socket.socketpair(socket.AF_UNIX)
    served.setblocking(False)
    connections, reactor = Connections(), MemoryReactorClock()
    got: list[Any] = []

    @implementer(IFileDescriptorReceiver)
    class Receiver(Protocol):
        def fileDescriptorReceived(self, descriptor: int) -> None:
            got.append(os.fstat(descriptor).st_ino)
            os.close(descriptor)

        def dataReceived(self, data: bytes) -> None:
            got.append(data)

    factory = Factory.forProtocol(Receiver)
    factory.noisy = False
    with client, served:
        adopt_connection(reactor, served.fileno(), socket.AF_UNIX, factory, connections)
        (transport,) = reactor.readers
        socket.send_fds(client, [b"here"], [client.fileno()])
        transport.doRead()
        assert got == [os.fstat(client.fileno()).st_ino, b"here"]
    connections.abort()
    reactor.advance(1)
