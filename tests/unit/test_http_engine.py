"""The engine on twisted.web, with a clock and transports of memory: what real sockets do not show in time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from appd.http.routing import Route
from appd.http.site import Mount, Site, Static
from appd.http.static import static
from appd.http.static.files import OpenFile
from appd.interfaces import Host
from appd.servers.http.http import server_type
from appd.servers.http.web import wsgi as web_wsgi
from appd.servers.http.web.factory import SiteFactory

GET = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n"


class Transport(StringTransport):
    """A connection that is lost as soon as it is closed."""

    protocol: Any = None
    aborted = False

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


class Engine:
    """A factory over a folder, its clock, and connections to it."""

    def __init__(self, root: Path) -> None:
        self.clock = MemoryReactorClock()
        (root / "a.txt").write_bytes(b"0123456789")
        site = Site((Mount(Route(()), Static(str(root))),))
        self.factory = SiteFactory("web", site, Host(self.clock, None, None), self.clock.seconds)

    def connect(self, client: Any = None) -> Transport:
        transport = Transport(peerAddress=client or IPv4Address("TCP", "192.0.2.1", 4711))
        transport.protocol = self.factory.buildProtocol(client)
        transport.protocol.makeConnection(transport)
        return transport

    def ask(self, transport: Transport, data: bytes = GET) -> bytes:
        transport.clear()
        transport.protocol.dataReceived(data)
        return transport.value()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


def test_nothing_happens_when_it_is_made(engine: Engine) -> None:
    """No timer, no listening; nor when the factory starts and stops."""
    engine.factory.doStart()
    engine.factory.doStop()
    assert engine.clock.getDelayedCalls() == []
    assert not engine.clock.tcpServers


def test_an_idle_connection_is_closed_after_a_minute(engine: Engine) -> None:
    """Before its first request, between two, and in the middle of a head."""
    fresh, kept, partial = engine.connect(), engine.connect(), engine.connect()
    assert engine.ask(kept).startswith(b"HTTP/1.1 200")
    engine.ask(partial, b"GET / HT")
    engine.clock.advance(59)
    assert not any(one.disconnecting for one in (fresh, kept, partial))
    engine.clock.advance(2)
    assert all(one.disconnecting for one in (fresh, kept, partial))
    assert not engine.factory.channels
    assert engine.clock.getDelayedCalls() == []


def test_linger(engine: Engine) -> None:
    """An idle connection stays for 0.2 seconds, and a request that comes meanwhile is the last."""
    idle, late, fresh = engine.connect(), engine.connect(), engine.connect()
    engine.ask(idle)
    engine.ask(late)
    engine.factory.drain()
    engine.clock.advance(0.19)
    assert not idle.disconnecting and not fresh.disconnecting
    answer = engine.ask(late)
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"0123456789")
    assert late.disconnecting
    engine.clock.advance(0.02)
    assert idle.disconnecting and fresh.disconnecting
    assert engine.clock.getDelayedCalls() == []


def test_a_request_that_has_begun_is_waited_for(engine: Engine) -> None:
    """Half a line, half a head, half a body: as long as the idle time allows."""
    for begun, rest in ((GET[:7], GET[7:]), (GET[:-2], GET[-2:]), (GET[:-2] + b"Content-Length: 2\r\n\r\na", b"b")):
        transport = engine.connect()
        engine.ask(transport, begun)
        engine.factory.drain()
        engine.clock.advance(1)
        assert not transport.disconnecting
        assert b"\r\nConnection: close\r\n" in engine.ask(transport, rest)
        assert transport.disconnecting


def test_a_connection_that_came_with_the_drain(engine: Engine) -> None:
    """It was in the queue: one request, or a moment."""
    engine.factory.drain()
    idle, asks = engine.connect(), engine.connect()
    assert b"\r\nConnection: close\r\n" in engine.ask(asks)
    engine.clock.advance(0.3)
    assert idle.disconnecting


def test_an_empty_line_is_no_request(engine: Engine) -> None:
    """Old browsers send one after a form (RFC 9112, 2.2); the connection is idle still."""
    transport = engine.connect()
    engine.ask(transport, GET + b"\r\n")
    engine.factory.drain()
    engine.clock.advance(0.3)
    assert transport.disconnecting


@pytest.mark.parametrize(
    ("client", "host", "peer"),
    [
        (IPv4Address("TCP", "192.0.2.1", 1), "192.0.2.1", "192.0.2.1:1"),
        (IPv6Address("TCP", "2001:db8::1", 1), "2001:db8::1", "[2001:db8::1]:1"),
        (IPv6Address("TCP", "::ffff:192.0.2.1", 1), "192.0.2.1", "192.0.2.1:1"),
        (UNIXAddress(None), "", None),
        (UNIXAddress("/client"), "", None),
    ],
)
def test_clients(engine: Engine, client: Any, host: str, peer: str | None) -> None:
    """Their address, and what the log calls them."""
    channel = engine.connect(client).protocol
    request = channel.requestFactory(channel)
    assert request.getClientAddress().host == host
    assert request.log_fields.get("APPD_PEER") == peer


def test_an_unreadable_file(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """403, without a word in the log."""

    def refuse(*_args: Any, **_keywords: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(static, "open_below", refuse)
    answer = engine.ask(engine.connect())
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert answer.endswith(b"\r\n\r\n403 Forbidden\n")


def test_trouble_of_the_host(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 to the client, without the reason."""

    def fail(*_args: Any, **_keywords: Any) -> None:
        raise OSError(5, "Input/output error", "/the/secret/path")

    monkeypatch.setattr(static, "open_below", fail)
    answer = engine.ask(engine.connect())
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"secret" not in answer


@pytest.mark.parametrize(("content", "sent"), [(b"01234", b"01234"), (b"0123456789 and more", b"0123456789")])
def test_a_file_that_changes_meanwhile(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, sent: bytes
) -> None:
    """Never more than was announced; with less, the connection ends, so that nobody takes a later response for the rest."""
    (tmp_path / "changed").write_bytes(content)
    fd = os.open(tmp_path / "changed", os.O_RDONLY)
    announced = OpenFile(fd, os.stat(tmp_path / "a.txt"))
    monkeypatch.setattr(static, "open_below", lambda *_args, **_keywords: announced)
    transport = engine.connect()
    answer = engine.ask(transport)
    assert b"\r\nContent-Length: 10\r\n" in answer
    assert answer.partition(b"\r\n\r\n")[2] == sent
    assert transport.disconnecting is (len(sent) < 10)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


class Request:
    """What a call in a thread does to its request."""

    aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_a_client_that_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold a thread for a time, then its response is cut."""
    monkeypatch.setattr(web_wsgi, "_STALLED", 0.01)
    reactor, request = MemoryReactorClock(), Request()
    reactor.callFromThread = lambda call: call()
    client = web_wsgi._ThreadClient(request, reactor)
    client.pauseProducing()
    client.pace(web_wsgi._AHEAD)
    assert not client.gone
    client.pace(1)
    assert client.gone
    assert request.aborted == 1


def test_a_client_that_takes_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken does not count."""
    monkeypatch.setattr(web_wsgi, "_STALLED", 0.01)
    client = web_wsgi._ThreadClient(Request(), MemoryReactorClock())
    for _ in range(10):
        client.pauseProducing()
        client.pace(web_wsgi._AHEAD)
        client.resumeProducing()
        client.pace(web_wsgi._AHEAD)
    assert not client.gone


def test_without_a_section() -> None:
    """zope.app.twisted's way: the application object on an address; nothing listens yet."""
    service = server_type.create("web", lambda environ, start_response: [], ip="127.0.0.1", port=0)
    assert isinstance(service.factory, SiteFactory)
    assert (service.name, service.type_name, service.kinds) == ("web", "http", ("stream",))
    assert [one.where for one in service.listeners] == ["127.0.0.1:0"]
    with pytest.raises(TypeError, match="not callable"):
        server_type.create("web", None)
