"""Connections of ports that are Twisted's own, counted and limited as those of ours are."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from appd.listening.connections import Connections

__all__ = ["CountingFactory"]


class _Counted(ProtocolWrapper):
    """A connection that the record knows of until it is lost."""

    factory: Any
    transport: Any
    stirred = True

    def makeConnection(self, transport: Any) -> None:
        self.peer_host = getattr(transport.getPeer(), "host", "")
        self.factory.connections.add(self)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self.stirred = True
        super().dataReceived(data)

    def write(self, data: bytes) -> None:
        self.stirred = True
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self.stirred = True
        super().writeSequence(data)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        super().connectionLost(reason)
        self.factory.connections.discard(self)

    def abortConnection(self) -> None:
        """Cuts it."""
        self.transport.abortConnection()

    def login_done(self) -> None:
        """See `appd.limits.logged_in`."""
        self.factory.connections.logged_in(self)


class CountingFactory(WrappingFactory):
    """Counts the connections of another factory.

    Args:
        wrapped: The factory.
        connections: The record.
    """

    protocol = _Counted

    def __init__(self, wrapped: Any, connections: Connections) -> None:
        super().__init__(connections.admitting(wrapped))
        self.connections = connections

    def buildProtocol(self, addr: Any) -> Any:
        """A protocol; None when the factory has none, which Twisted's WrappingFactory does not know of."""
        inner = self.wrappedFactory.buildProtocol(addr)
        return _Counted(self, inner) if inner is not None else None  # type: ignore[arg-type]  # it is one
