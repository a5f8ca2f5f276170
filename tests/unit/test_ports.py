"""The ports on sockets that somebody else made."""

from __future__ import annotations

import socket

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from appd.listening.connections import Connections
from appd.listening.ports import adopt_stream


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
