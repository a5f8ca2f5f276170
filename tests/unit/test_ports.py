"""The ports on sockets that somebody else made."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
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
