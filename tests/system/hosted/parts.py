"""What Twisted's own protocols and the other server types serve."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.protocols import amp
from twisted.spread import pb

__all__ = ["Backwards", "Root", "Squares", "tick"]


class Root(pb.Root):  # type: ignore[misc, unused-ignore]  # old releases have no types
    """Objects from afar."""

    def remote_greet(self, name: str) -> str:
        return f"hello {name}"

    def remote_pid(self) -> str:
        return str(os.getpid())


class _Square(amp.Command):
    commandName = b"Square"
    arguments = ((b"number", amp.Integer()),)
    response = ((b"square", amp.Integer()),)


class Squares(amp.CommandLocator):
    """Commands."""

    @_Square.responder
    def square(self, number: int) -> dict[str, Any]:
        return {"square": number * number}


class Backwards(DatagramProtocol):
    """Answers with the letters the other way round."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        assert self.transport is not None
        self.transport.write(datagram[::-1], addr)


def tick() -> None:
    """Is called every so often."""
    print(f"tick of {os.getpid()}")
