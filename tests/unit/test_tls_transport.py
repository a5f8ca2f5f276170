"""TLS connections on Twisted's transports, in memory, with a clock of the test's own."""

from __future__ import annotations

import ssl

import pytest
from OpenSSL import SSL
from support.authority import Authority
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from appd.errors import Place
from appd.tls import transport as tls_transport
from appd.tls.material import read_material
from appd.tls.policy import Policy, Source
from appd.tls.termination import Termination

ROOT = Authority("Root")
HERE = Place("appd.conf", 1)


class Inner(Protocol):
    """What is served: keeps what it gets."""

    def connectionMade(self):
        self.got = b""
        self.secure_at_once = ISSLTransport.providedBy(self.transport)
        self.factory.made.append(self)

    def dataReceived(self, data):
        self.got += data

    def connectionLost(self, reason=None):
        self.factory.lost.append(reason)


class Wire(StringTransport):
    """A transport that tells how it ended."""

    aborted = False

    def abortConnection(self):
        self.aborted = True
        super().abortConnection()


class Connection:
    """A client in memory, and the server's protocol."""

    def __init__(self, factory, clock):
        self.clock = clock
        self.factory = factory
        self.wire = Wire()
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.wire)
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(cadata=ROOT.pem.decode())
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = made.wrap_bio(self._incoming, self._outgoing, server_hostname="a.example")

    def hello(self):
        with pytest.raises(ssl.SSLWantReadError):
            self.client.do_handshake()
        return self._outgoing.read()

    def pump(self):
        self.clock.advance(0)
        self._incoming.write(self.wire.value())
        self.wire.clear()

    def handshake(self):
        self.protocol.dataReceived(self.hello())
        self.pump()
        self.client.do_handshake()
        self.protocol.dataReceived(self._outgoing.read())
        self.pump()

    def sent(self):
        return self._outgoing.read()

    def send(self, data):
        self.client.write(data)
        self.protocol.dataReceived(self._outgoing.read())


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def inner():
    factory = Factory.forProtocol(Inner)
    factory.made, factory.lost = [], []
    return factory


@pytest.fixture
def termination(tmp_path):
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    policy = Policy(HERE, (Source("certificate", str(path), HERE),))
    return Termination("shop", policy, read_material(policy)[0])


@pytest.fixture
def connect(inner, clock, termination):
    """Makes a connection to the factory, wrapped as a listener wraps it."""
    return lambda: Connection(termination.wrap(inner, clock), clock)


def test_what_is_sent_arrives(connect, inner, clock):
    """Both ways; the protocol sees a transport with TLS from the first moment on."""
    connection = connect()
    connection.handshake()
    connection.send(b"hello")
    (served,) = inner.made
    assert served.got == b"hello"
    assert served.secure_at_once
    served.transport.write(b"welcome")
    connection.pump()
    assert connection.client.read(100) == b"welcome"
    clock.advance(10.0)  # one timer is for all handshakes, and runs out
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("part", [0, 1, 60, None])
def test_handshake_has_a_deadline(connect, clock, inner, part):
    """Nothing, a byte, half a ClientHello, or all but the last flight: the connection is cut."""
    connection = connect()
    is_cut_after(10.0, connection, clock, inner, part)


def is_cut_after(seconds, connection, clock, inner, part):
    """A part of a ClientHello comes, and nothing more."""
    hello = connection.hello()
    if part != 0:
        connection.protocol.dataReceived(hello[:part])
    clock.advance(seconds - 0.1)
    assert not connection.wire.aborted
    clock.advance(0.2)
    assert connection.wire.aborted
    connection.protocol.connectionLost(inner_reason())
    assert len(inner.lost) == 1
    assert clock.getDelayedCalls() == []


class Started(Connection):
    """The same, of a connection that began without TLS, as Twisted's transports start it."""

    def __init__(self, starter, inner, clock):
        served = inner.buildProtocol(None)
        served.makeConnection(StringTransport())
        wrapper = TLSMemoryBIOFactory(starter, False, None)
        wrapper.buildProtocol = lambda _address: wrapper.protocol(wrapper, served, False)
        super().__init__(wrapper, clock)


@pytest.mark.parametrize("part", [0, 1, 60, None])
def test_starttls_has_a_deadline(clock, inner, termination, part):
    """Of the time that the server gives at that moment; half a handshake is none."""
    starter = termination.starter(clock)
    termination.handshake = 5.0
    is_cut_after(5.0, Started(starter, inner, clock), clock, inner, part)


def test_starttls_goes_on(clock, inner, termination):
    """Who has shaken hands is not cut, and nobody is who has gone before."""
    connection = Started(termination.starter(clock), inner, clock)
    gone = Started(termination.starter(clock), inner, clock)
    gone.protocol.connectionLost(inner_reason())
    connection.handshake()
    clock.advance(10.1)
    assert not connection.wire.aborted
    assert not gone.wire.aborted
    connection.send(b"hello")
    assert inner.made[0].got == b"hello"


def test_each_handshake_has_a_deadline_of_its_own(connect, clock):
    """One timer is for all of a server: whoever began earlier is cut earlier, and who is through is not."""
    first = connect()
    clock.advance(4.0)
    second, third = Connection(first.factory, clock), Connection(first.factory, clock)
    clock.advance(4.0)
    fourth = Connection(first.factory, clock)
    third.handshake()
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(2.1)
    assert [one.wire.aborted for one in (first, second, third, fourth)] == [True, False, False, False]
    clock.advance(4.0)
    assert [one.wire.aborted for one in (first, second, third, fourth)] == [True, True, False, False]
    fourth.protocol.connectionLost(inner_reason())
    clock.advance(10.0)
    assert not fourth.wire.aborted
    assert clock.getDelayedCalls() == []


def nothing(connection):
    """The client says nothing."""


def half_a_handshake(connection):
    connection.protocol.dataReceived(connection.hello())


def shaken(connection):
    connection.handshake()


def its_end(connection):
    connection.handshake()
    with pytest.raises(ssl.SSLWantReadError):
        connection.client.unwrap()
    connection.protocol.dataReceived(connection.sent())


def garbage(connection):
    connection.handshake()
    connection.protocol.dataReceived(b"\x17\x03\x03\x00\x20" + bytes(32))


def our_end(connection):
    connection.handshake()
    connection.protocol.loseConnection()


def both_ends(connection):
    our_end(connection)
    connection.pump()
    assert connection.client.read(1) == b""
    connection.client.unwrap()
    connection.protocol.dataReceived(connection.sent())


def aborted(connection):
    connection.handshake()
    connection.protocol.abortConnection()


def aborted_early(connection):
    half_a_handshake(connection)
    connection.protocol.abortConnection()


@pytest.mark.parametrize("wire", [ConnectionDone, ConnectionLost, ConnectionAborted])
@pytest.mark.parametrize(
    "what",
    [nothing, half_a_handshake, shaken, its_end, garbage, our_end, both_ends, aborted, aborted_early],
)
def test_a_protocol_is_told_the_reason_that_twisted_tells(connect, clock, inner, termination, what, wire):
    """However a connection ends: it is asked for in fewer steps, and told only once."""

    @implementer(IOpenSSLServerConnectionCreator)
    class Creator:
        def serverConnectionForTLS(self, _protocol):
            return SSL.Connection(termination._on_transports().default, None)

    reasons = []
    for connection in (connect(), Connection(TLSMemoryBIOFactory(Creator(), False, inner), clock)):
        inner.lost.clear()
        what(connection)
        connection.protocol.connectionLost(Failure(wire()))
        (lost,) = inner.lost
        reasons.append((lost.type, str(lost.value)))
    assert reasons[0] == reasons[1]


def inner_reason():
    return Failure(ConnectionAborted())


def test_deadline_ends_with_the_handshake(connect, clock):
    """Whoever is quiet afterwards is the protocol's affair."""
    connection = connect()
    connection.handshake()
    clock.advance(100.0)
    assert not connection.wire.aborted
    assert not connection.wire.disconnecting


def test_end_does_not_wait_for_ever(connect, clock, inner):
    """A client that never says that it has ended too is left after a moment."""
    connection = connect()
    connection.handshake()
    inner.made[0].transport.write(b"last words")
    inner.made[0].transport.loseConnection()
    connection.pump()
    assert connection.client.read(100) == b"last words"
    assert connection.client.read(100) == b""  # close_notify
    assert not connection.wire.disconnecting
    clock.advance(tls_transport.LAST_READ)
    assert connection.wire.disconnecting
    connection.protocol.connectionLost(inner_reason())
    clock.advance(10.0)
    assert clock.getDelayedCalls() == []


def test_plain_http(connect, clock, termination, inner):
    """An HTTP server says what is wrong, any other just ends."""
    connection = connect()
    connection.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert not connection.wire.value().startswith(b"HTTP")
    assert connection.wire.disconnecting
    termination.speaks("http/1.1")
    connection = connect()
    connection.protocol.dataReceived(b"GET / HTTP/1.1\r\n")
    connection.protocol.dataReceived(b"Host: a.example\r\n\r\n")
    head, _, body = connection.wire.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Content-Length: %d" % len(body) in head
    assert connection.wire.disconnecting
    assert inner.made[-1].got == b""


def test_renewed_certificates_are_for_new_connections(connect, termination, tmp_path):
    """The factory of a port that listens already serves them; who is connected goes on."""
    factory_of_port = connect()
    factory_of_port.handshake()
    before = factory_of_port.client.getpeercert(binary_form=True)
    ROOT.issue("a.example").write(tmp_path / "a.pem")
    material, _unseen = read_material(termination.policy, before=termination.material)
    termination.renew(material)
    factory_of_port.send(b"still here")
    after = connect()
    after.handshake()
    assert after.client.getpeercert(binary_form=True) != before


def test_a_thousand_broken_handshakes(connect, clock, inner):
    """Nothing of them is left: no connection is kept, and of all that is due only the timer of the handshakes."""
    import gc
    import weakref

    kept = []
    factory = connect().factory
    for number in range(1000):
        connection = Connection(factory, clock)
        connection.protocol.dataReceived(
            (b"\x16\x03\x01\x02", connection.hello(), b"\x15\x03\x01\x00\x02\x02\x28")[number % 3]
        )
        connection.protocol.connectionLost(inner_reason())
        kept.append(weakref.ref(connection.protocol))
    inner.made.clear()
    inner.lost.clear()
    del connection
    gc.collect()
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(10.0)
    assert clock.getDelayedCalls() == []
    assert [one for one in kept if one() is not None] == []
