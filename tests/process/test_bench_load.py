"""The clients of bench/ against a server that does one wrong thing after the other: each is counted as what it is."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from load import Load, Tally

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
BODY = b"%d 7\n" % os.getpid() + b"x" * 1000 + b"\nend\n"
WHOLE = ANSWER % (len(BODY), BODY)


def read_request(client: socket.socket) -> None:
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        data = client.recv(4096)
        assert data, "the client went away in the middle of a request"
        received += data


def answer(client: socket.socket) -> None:
    """A whole answer."""
    read_request(client)
    client.sendall(WHOLE)


def cut_in_body(client: socket.socket) -> None:
    read_request(client)
    client.sendall(WHOLE[:-1])
    client.close()


def cut_in_head(client: socket.socket) -> None:
    read_request(client)
    client.sendall(WHOLE[:20])
    client.close()


def say_nothing_and_close(client: socket.socket) -> None:
    read_request(client)
    client.close()


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def reset_after_request(client: socket.socket) -> None:
    read_request(client)
    reset(client)


def reset_in_answer(client: socket.socket) -> None:
    read_request(client)
    client.sendall(WHOLE[:100])
    reset(client)


def close_unread(client: socket.socket) -> None:
    """Closed with the request in the socket's queue, which makes the kernel send a reset."""
    select.select([client], [], [], 10)
    client.close()


def refuse_service(client: socket.socket) -> None:
    read_request(client)
    client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nend\n")


def answer_more(client: socket.socket) -> None:
    """One byte more than was announced."""
    read_request(client)
    client.sendall(WHOLE + b"!")


def hang(client: socket.socket) -> None:
    """No answer, until the client has given up."""
    read_request(client)
    assert client.recv(1) == b""


class FaultyServer:
    """Does the next thing of a script with each connection; a thing may be several steps on one connection."""

    def __init__(self, script: list[list[Callable[[socket.socket], None]]]) -> None:
        self._script = script
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = self._listening.getsockname()
        self.done = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        kept = []
        for steps in self._script:
            client, _ = self._listening.accept()
            kept.append(client)
            for step in steps:
                step(client)
            self.done += 1
        # A client that is still there reads an end only when its last request has been counted.
        for client in kept:
            if client.fileno() >= 0 and client.recv(1) == b"":
                client.close()

    def finish(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive(), f"{self.done} connections of {len(self._script)} were made"
        self._listening.close()


@pytest.fixture
def ask() -> Iterator[Callable[..., Tally]]:
    """Runs one client against a script until there are so many outcomes."""
    servers: list[FaultyServer] = []

    def run(script: list[list[Callable[[socket.socket], None]]], outcomes: int, **options: float) -> Tally:
        server = FaultyServer(script)
        servers.append(server)
        load = Load(server.address, **{"clients": 1, "pause": 0.01, **options})
        return load.run(lambda: len(load.requests) >= outcomes)

    yield run
    for one in servers:
        one.finish()


def outcomes(tally: Tally) -> list[str]:
    return [one.outcome for one in tally.requests]


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (answer, "ok"),
        (cut_in_body, "truncated"),
        (cut_in_head, "truncated"),
        (say_nothing_and_close, "truncated"),
        (reset_after_request, "reset"),
        (reset_in_answer, "reset"),
        (close_unread, "reset"),
        (refuse_service, "wrong"),
        (answer_more, "wrong"),
    ],
)
def test_a_fault_on_a_new_connection(ask, fault, outcome):
    """Between two good answers, with a connection for each."""
    tally = ask([[answer], [fault], [answer]], 3, keep_alive=False)
    assert outcomes(tally) == ["ok", outcome, "ok"]
    assert tally.idle_closed == 0 and not any(one.reused for one in tally.requests)


@pytest.mark.parametrize("fault", [cut_in_body, reset_in_answer])
def test_a_fault_within_an_answer_on_a_kept_connection(ask, fault):
    """Once a byte of the answer has come, a kept connection excuses nothing."""
    tally = ask([[answer, fault], [answer]], 3, keep_alive=True)
    assert outcomes(tally) == ["ok", {cut_in_body: "truncated", reset_in_answer: "reset"}[fault], "ok"]
    assert tally.requests[1].reused and not tally.requests[2].reused


@pytest.mark.parametrize("fault", [say_nothing_and_close, reset_after_request, close_unread])
def test_a_kept_connection_that_is_closed_on_a_request(ask, fault):
    """It is repeated at once, and its time counts from the first attempt."""
    tally = ask([[answer, fault], [answer]], 3, keep_alive=True)
    assert outcomes(tally) == ["ok", "raced", "ok"]
    assert tally.requests[2].asked == tally.requests[1].asked
    assert tally.idle_closed == 0


@pytest.mark.parametrize("end", [socket.socket.close, reset])
def test_a_kept_connection_that_is_closed_while_idle(ask, end):
    """No request is lost by it."""
    # Time enough for the server's thread to come so far, on a machine that does much else.
    tally = ask([[answer, end], [answer]], 2, keep_alive=True, pause=2.0)
    assert outcomes(tally) == ["ok", "ok"]
    assert tally.idle_closed == 1


def test_no_answer(ask):
    """A request that is not answered in time is given up, and the client goes on."""
    tally = ask([[hang], [answer]], 2, keep_alive=False, patience=2.0)
    assert outcomes(tally) == ["silent", "ok"]
    assert 2.0 <= tally.requests[0].ended - tally.requests[0].asked < 20


def test_nobody_listens():
    """A refused connection is no reset."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
    load = Load(address, clients=2, pause=0.001)
    tally = load.run(lambda: len(load.requests) >= 4)
    assert set(outcomes(tally)) == {"refused"}


def test_who_answered(ask):
    """The process and the version of its code are in the body."""
    tally = ask([[answer, answer]], 2, keep_alive=True)
    assert [(one.answered_by, one.version, one.reused) for one in tally.requests] == [
        (os.getpid(), 7, False),
        (os.getpid(), 7, True),
    ]
