"""A TLS session with its socket, on a pair of sockets, with Python's ssl as the client."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
from support.authority import Authority

from appd.http.lane.tlssocket import TlsSocket

ROOT = Authority("Root")
ISSUED = ROOT.issue("localhost")


class Ends:
    """Both ends of a connection, the client's with its session in memory."""

    def __init__(self, version: ssl.TLSVersion, pem: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        context.sslobject_class = TlsSocket
        context.num_tickets = 1
        theirs, self.far = socket.socketpair()
        self.far.settimeout(30)
        theirs.setblocking(False)
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(coming, going, server_side=True)
        assert isinstance(server, TlsSocket)
        self.server = server
        server.begin(theirs, coming, going)
        trusting = ssl.create_default_context(cadata=ROOT.pem.decode())
        trusting.maximum_version = version
        self._coming, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = trusting.wrap_bio(self._coming, self._going, server_hostname="localhost")

    def shake(self) -> None:
        done = [False, False]
        while not all(done):
            try:
                self.client.do_handshake()
                done[0] = True
            except ssl.SSLWantReadError:
                pass
            self.flush()
            if not done[1]:
                done[1] = self.server.shake() is not None
            if not done[0]:
                self.take()

    def flush(self, behind: bytes = b"") -> None:
        """The client sends what it has to say, in one piece with what comes behind."""
        data = self._going.read() + behind
        if data:
            self.far.sendall(data)

    def say(self, data: bytes) -> None:
        self.client.write(data)
        self.flush()

    def take(self) -> None:
        self._coming.write(self.far.recv(1 << 20))

    def read(self) -> bytes:
        """What the client has received by now."""
        parts = []
        try:
            while data := self.client.read(65536):
                parts.append(data)
        except ssl.SSLWantReadError:
            pass
        return b"".join(parts)

    def is_readable(self) -> bool:
        return bool(select.select([self.server], [], [], 0)[0])

    def close(self) -> None:
        self.server.close()
        self.far.close()


@pytest.fixture
def pair(tmp_path) -> Iterator[Callable[..., Ends]]:
    """Makes both ends."""
    made: list[Ends] = []

    def make(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, shaken: bool = True) -> Ends:
        made.append(Ends(version, ISSUED.write(tmp_path / "localhost.pem")))
        if shaken:
            made[-1].shake()
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(params=["1.2", "1.3"])
def ends(request, pair) -> Ends:
    """Both ends, with either version."""
    return pair({"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[request.param])


def test_both_ways(ends):
    """All that has come is there with one call, and nothing is a BlockingIOError."""
    for number in range(20):
        ends.client.write(f"request {number}\n".encode())
    ends.flush()
    assert ends.server.recv() == b"".join(f"request {number}\n".encode() for number in range(20))
    with pytest.raises(BlockingIOError):
        ends.server.recv()
    assert ends.server.send(b"answer") == 6
    ends.take()
    assert ends.read() == b"answer"


def test_the_ticket_goes_with_the_first_answer(pair):
    """TLS 1.3: nothing is sent to who says nothing after its handshake (RFC 8446, 4.6.1: at any time)."""
    ends = pair()
    ends.far.setblocking(False)
    with pytest.raises(BlockingIOError):
        ends.far.recv(1)
    assert not ends.client.session.has_ticket
    ends.server.send(b"answer")
    ends.take()
    assert ends.read() == b"answer"
    assert ends.client.session.has_ticket


def test_a_request_with_the_end_of_the_handshake(pair):
    """It waits in the session, which the socket cannot tell."""
    ends = pair(shaken=False)
    with pytest.raises(ssl.SSLWantReadError):
        ends.client.do_handshake()
    ends.flush()
    assert ends.server.shake() is None
    ends.take()
    ends.client.do_handshake()
    ends.say(b"early")
    assert ends.server.shake()
    assert ends.server.decrypt() == b"early"


def test_a_record_in_parts(ends):
    """However it comes, it is decrypted once it is whole."""
    ends.client.write(b"x" * 10000)
    ends.client.write(b"y" * 10000)
    data = ends._going.read()
    got = b""
    for at in range(0, len(data), 1500):
        ends.far.sendall(data[at : at + 1500])
        with contextlib.suppress(BlockingIOError):
            got += ends.server.recv()
    assert got == b"x" * 10000 + b"y" * 10000


def test_more_lies_in_the_socket(ends):
    """It is said when as much was taken as was asked for."""
    ends.say(b"x" * 3000)
    with pytest.raises(BlockingIOError):
        ends.server.recv(1000)
    assert ends.server.may_have_more
    assert ends.server.recv(65536) == b"x" * 3000


@pytest.mark.parametrize("size", [1, 16384, 32768, 32769, 102400, 3_000_000])
@pytest.mark.parametrize("shrinks", [False, True])
def test_what_the_socket_does_not_take(ends, size, shrinks):
    """Is sent by the next calls, which have the same bytes again, in pieces as they like; each arrives once, in order."""
    ends.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    data = memoryview(bytes(number % 251 for number in range(size)))
    sent, got, rounds = 0, b"", 0
    while sent < size:
        end = min(size, sent + 131072) if shrinks else size
        try:
            sent += ends.server.send(data[sent:end])
        except BlockingIOError:
            rounds += 1
            ends.take()
            got += ends.read()
    while len(got) < size:
        ends.take()
        got += ends.read()
    assert got == data
    assert rounds or size < 100000


def test_an_end_behind_data(ends):
    """The data comes first, then the socket says that there is an end, and one may still answer."""
    ends.client.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        ends.client.unwrap()
    ends.flush()
    assert ends.server.recv() == b"last words"
    assert ends.is_readable()
    assert ends.server.recv() == b""
    assert ends.server.send(b"heard") == 5


def test_an_end_alone(ends):
    """close_notify is b"", and stays so."""
    with pytest.raises(ssl.SSLWantReadError):
        ends.client.unwrap()
    ends.flush()
    assert ends.server.recv() == b""
    ends.far.close()
    assert ends.server.recv() == b""


def test_a_break_is_no_end(ends):
    """A connection that only ends is cut off: what was sent may be incomplete."""
    ends.far.close()
    with pytest.raises(OSError, match="close_notify"):
        ends.server.recv()


@pytest.mark.parametrize("garbage", [b"garbage" * 10, b"\x17\x03\x03\x00\x20" + b"x" * 32])
def test_garbage_behind_data(ends, garbage):
    """The data comes first, then it is told what was the matter; the client gets an alert."""
    ends.client.write(b"request")
    ends.flush(garbage)
    assert ends.server.recv() == b"request"
    assert ends.is_readable()
    with pytest.raises(ssl.SSLError):
        ends.server.recv()
    ends.take()
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        ends.read()


def test_our_end(ends):
    """close_notify is said once, then the socket is at its end; the client's answer to it is none to us."""
    ends.server.send(b"answer")
    ends.server.shutdown(socket.SHUT_WR)
    assert ends.server.say_end()
    ends.take()
    assert ends.read() == b"answer"
    assert ends.client.read() == b""
    assert ends.far.recv(1) == b""


def test_our_end_behind_an_answer_that_waits(ends):
    """It does not overtake it."""
    ends.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    data = b"x" * 32768
    with pytest.raises(BlockingIOError):
        ends.server.send(data)
    got = b""
    while not ends.server.say_end():
        ends.take()
        got += ends.read()
    ends.take()
    got += ends.read()
    assert got == data
    assert ends.client.read() == b""


def test_answers_that_nobody_takes(ends):
    """A client that asks for other keys with every byte of a body and reads nothing is cut off: what is kept has an end."""
    ends.server._going.write(bytes(4 << 20))  # as many answers
    ends.say(b"data")
    assert ends.server.recv() == b"data"
    with pytest.raises(ConnectionAbortedError, match="takes no answer"):
        ends.server.recv()
