"""The reactor of a worker: what hosted code sees of it is what it sees of Twisted's."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from support.running import listening
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.python import context, log

from appd.listening.connections import Connections
from appd.listening.ports import adopt_stream
from appd.listening.reactor import PromptReactor


class Seen(Protocol):
    """Tells what it sees, and fails when it is told to."""

    def connectionMade(self) -> None:
        self.factory.met.append(context.get(log.ILogContext)["system"])  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        told = self.factory.told  # type: ignore[attr-defined]
        told.append(("data", context.get(log.ILogContext)["system"]))
        if data == b"keep":
            self.factory.kept.append(context.theContextTracker.currentContext().contexts[-1])  # type: ignore[attr-defined]
        if data == b"fail":
            raise ValueError("it was told to")
        self.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.told.append((reason.type.__name__, context.get(log.ILogContext)["system"]))  # type: ignore[attr-defined]
        self.factory.reactor.crash()  # type: ignore[attr-defined]


class Served:
    """One reactor of a kind, and a connection to what it serves."""

    def __init__(self, kind: type[EPollReactor], family: int, address: Any) -> None:
        self.reactor: Any = kind()
        self.factory: Any = Factory.forProtocol(Seen)
        self.factory.noisy = False
        self.factory.reactor, self.factory.told, self.factory.kept = self.reactor, [], []
        self.factory.met = []
        sock = listening(family, address)
        sock.setblocking(False)
        self.port: Any = adopt_stream(self.reactor, sock.fileno(), family, self.factory, Connections())
        self.client = socket.socket(family)
        self.client.connect(sock.getsockname())

    def run(self, data: bytes, *, ends: bool = True) -> None:
        """Sends something, and runs until the connection has ended."""
        self.client.sendall(data)
        if ends:
            self.client.shutdown(socket.SHUT_WR)
        self.reactor.callLater(10, self.reactor.crash)
        self.reactor.run(installSignalHandlers=False)


class OnLoop(PromptReactor):
    """Ours, run by a loop."""

    def __init__(self) -> None:
        super().__init__()
        loop = uvloop.new_event_loop()
        self.ride(loop, loop.close)


@pytest.fixture(params=[PromptReactor, OnLoop, EPollReactor], ids=["ours", "on-a-loop", "Twisted's"])
def kind(request: pytest.FixtureRequest) -> Iterator[type[EPollReactor]]:
    """All have to pass."""
    errors: list[Any] = []
    log.addObserver(errors.append)
    request.node.errors = errors
    yield request.param
    log.removeObserver(errors.append)


@pytest.fixture(params=["tcp", "unix"])
def served(request: pytest.FixtureRequest, kind: type[EPollReactor], tmp_path: Any) -> Iterator[Served]:
    is_unix = request.param == "unix"
    made = Served(kind, *((socket.AF_UNIX, str(tmp_path / "s")) if is_unix else (socket.AF_INET, ("127.0.0.1", 0))))
    yield made
    made.client.close()
    made.port.stopListening()
    made.reactor.runUntilCurrent()
    for one in made.reactor._internalReaders:
        made.reactor.removeReader(one)
        one.connectionLost(None)
    made.reactor._poller.close()


def test_the_prefix_of_its_log_lines(served: Served) -> None:
    """The protocol, the number and the peer, in dataReceived and connectionLost; not beyond."""
    served.run(b"hello")
    (first, prefix), (last, other) = served.factory.told
    assert (first, last) == ("data", "ConnectionDone")
    assert prefix == other and prefix.startswith("Seen,0,")
    assert served.client.recv(10) == b"hello"
    assert context.get(log.ILogContext)["system"] == "-"


def test_the_prefix_while_a_connection_is_made(served: Served) -> None:
    """The class that the port has for its factory, as with Twisted's."""
    served.run(b"hello")
    assert served.factory.met == [served.port.logPrefix()]


def test_a_reset(served: Served) -> None:
    """It comes with what can be read and with an error, and is found by reading."""
    served.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    served.client.sendall(b"hello")
    served.reactor.callLater(0, served.client.close)
    served.reactor.callLater(10, served.reactor.crash)
    served.reactor.run(installSignalHandlers=False)
    # A UNIX socket knows no reset, so that it depends on whether the answer found somebody.
    ends = {"ConnectionLost"} if served.port.addressFamily != socket.AF_UNIX else {"ConnectionLost", "ConnectionDone"}
    assert served.factory.told[-1][0] in ends
    assert len(served.port.connections) == 0


def test_an_exception(served: Served, request: pytest.FixtureRequest) -> None:
    """It is logged with the prefix, and ends the connection."""
    served.run(b"fail", ends=False)
    assert [one[0] for one in served.factory.told] == ["data", "ValueError"]
    (entry,) = [one for one in request.node.errors if one.get("isError")]
    assert entry["system"].startswith("Seen,0,") and entry["failure"].type is ValueError
    assert served.client.recv(10) == b""


def test_a_context_that_is_kept(served: Served) -> None:
    """As by a call in a thread: it stays as it was."""
    served.run(b"keep")
    (kept,) = served.factory.kept
    assert kept[log.ILogContext]["system"].startswith("Seen,0,")


def test_it_is_the_reactor_of_a_process() -> None:
    """Twisted's epoll reactor becomes one, since hosted code may have imported it; another kind is left alone."""
    code = "{}import appd.listening.reactor; appd.listening.reactor.install()\nfrom twisted.internet import reactor; print(type(reactor).__name__)"
    for before, name in (
        ("", "PromptReactor"),
        ("from twisted.internet import reactor; ", "PromptReactor"),
        ("from twisted.internet import selectreactor; selectreactor.install(); ", "SelectReactor"),
    ):
        said = subprocess.run([sys.executable, "-c", code.format(before)], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == name
