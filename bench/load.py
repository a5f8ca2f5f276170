"""HTTP clients that say what became of each of their requests.

usage: python bench/load.py PORT [--clients N] [--pause MS] [--patience S] [--close]    until standard input ends

One thread, one epoll, non-blocking sockets. A client sends its next request `pause` after the answer to the one before,
so that what is measured is how long an answer takes, not how long a queue has grown. With keep-alive it goes on on its
connection; otherwise it asks for `Connection: close` and makes a new one for each request.

What a request can come to is told apart by what the kernel said and by what had arrived until then:

* ok: 200, and every byte of the body.
* refused: connect(2) says ECONNREFUSED.
* reset: ECONNRESET or EPIPE, on a new connection or after the first byte of the answer.
* truncated: the end of the stream before the end of the answer, likewise.
* raced: either of the two on a connection that was used before, without a byte of the answer. RFC 9112, 9.3.1 has the
  client repeat the request, and so it is repeated; its time is counted from the first attempt.
* wrong: an answer that is not the expected one.
* silent: no answer in `patience` seconds.

A kept connection that is closed while nothing has been asked on it harms nobody, and is counted as idle-closed.
"""

from __future__ import annotations

import argparse
import errno
import gc
import marshal
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from heapq import heappop, heappush
from typing import NamedTuple

__all__ = ["OUTCOMES", "Generator", "Load", "Request", "Tally"]

OUTCOMES = ("ok", "refused", "reset", "truncated", "raced", "wrong", "silent")
# What the last line of a whole answer is; the first is the process that gave it and the version of its code.
BODY_END = b"end\n"


class Request(NamedTuple):
    """One attempt.

    Attributes:
        asked: When it was first wanted, in monotonic seconds: of a repeated one, when the first attempt began.
        ended: When its outcome was known.
        outcome: One of `OUTCOMES`.
        reused: Whether its connection had been used before.
        connected: When its connection was begun.
        answered_by: The process that answered; 0 when none did.
        version: The version of the application's code; 0 without an answer.
    """

    asked: float
    ended: float
    outcome: str
    reused: bool
    connected: float
    answered_by: int
    version: int


class Tally(NamedTuple):
    """What a run came to.

    Attributes:
        requests: Every attempt, in the order of their ends.
        idle_closed: Kept connections that were closed while nothing had been asked on them.
        busy: The part of the time that the clients themselves were computing: near 1 they were what was measured.
    """

    requests: list[Request]
    idle_closed: int
    busy: float


class _Client:
    """One client: waiting for its time, connecting, or waiting for an answer."""

    __slots__ = ("asked", "attempt", "connected", "received", "reused", "sock", "state")

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.state = "idle"
        self.received = b""
        self.asked = 0.0
        self.connected = 0.0
        self.attempt = 0
        self.reused = False


class Load:
    """Clients that ask until they are told to stop.

    Args:
        address: Host and port.
        clients: How many.
        keep_alive: Whether they keep their connections.
        pause: Seconds between an answer and the next request.
        patience: Seconds after which a request counts as silent.

    Attributes:
        requests: Every attempt so far.
    """

    def __init__(
        self,
        address: tuple[str, int],
        clients: int = 16,
        keep_alive: bool = True,
        pause: float = 0.005,
        patience: float = 20.0,
    ) -> None:
        self._address = address
        self._keep_alive = keep_alive
        self._pause = pause
        self._patience = patience
        how = "keep-alive" if keep_alive else "close"
        self._question = f"GET / HTTP/1.1\r\nHost: bench\r\nConnection: {how}\r\n\r\n".encode()
        self._clients = [_Client() for _ in range(clients)]
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Client] = {}
        self._due: list[tuple[float, int, int]] = []
        self.requests: list[Request] = []
        self._idle_closed = 0

    def run(self, stop: Callable[[], bool], stop_fd: int | None = None) -> Tally:
        """Asks until `stop` says so; then each client gets the answer that it waits for, and no more is asked.

        Args:
            stop: Asked every turn.
            stop_fd: A descriptor that ends the wait of a turn when it becomes readable.

        Resource handling: every connection is closed at the end.
        """
        if stop_fd is not None:
            self._epoll.register(stop_fd, select.EPOLLIN)
        began, computed = time.monotonic(), time.process_time()
        for number in range(len(self._clients)):
            # Spread over one pause, so that they do not ask in step.
            self._plan(number, began + self._pause * number / len(self._clients))
        stopping = False
        while not stopping or any(client.state != "idle" for client in self._clients):
            if not stopping and stop():
                stopping = True
                if stop_fd is not None:
                    self._epoll.unregister(stop_fd)
            self._turn(stopping)
        busy = (time.process_time() - computed) / (time.monotonic() - began)
        for client in self._clients:
            self._close(client)
        self._epoll.close()
        return Tally(self.requests, self._idle_closed, busy)

    def _plan(self, number: int, when: float) -> None:
        heappush(self._due, (when, number, self._clients[number].attempt))

    def _turn(self, stopping: bool) -> None:
        now = time.monotonic()
        wait = min(0.1, max(0.0, self._due[0][0] - now)) if self._due else 0.1
        for fd, events in self._epoll.poll(wait):
            client = self._by_fd.get(fd)
            if client is not None:
                self._happened(client, events)
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _when, number, attempt = heappop(self._due)
            client = self._clients[number]
            if attempt != client.attempt:
                continue  # it was answered in time
            if client.state != "idle":
                self._finish(client, "silent")
            elif not stopping:
                client.asked = now
                self._ask(client)

    def _ask(self, client: _Client) -> None:
        client.attempt += 1
        client.received = b""
        self._plan(self._clients.index(client), client.asked + self._patience)
        if client.sock is not None:
            client.reused = True
            self._send(client)
            return
        client.reused = False
        client.connected = time.monotonic()
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sock = sock
        client.state = "connecting"
        code = sock.connect_ex(self._address)
        if code not in (0, errno.EINPROGRESS):
            self._broken(client, code)
            return
        self._by_fd[sock.fileno()] = client
        self._epoll.register(sock.fileno(), select.EPOLLIN if code == 0 else select.EPOLLOUT)
        if code == 0:
            self._send(client)

    def _send(self, client: _Client) -> None:
        assert client.sock is not None
        client.state = "waiting"
        try:
            sent = client.sock.send(self._question)
        except OSError as error:
            self._broken(client, error.errno or errno.EIO)
            return
        if sent != len(self._question):
            raise RuntimeError("the kernel did not take a request whole")

    def _happened(self, client: _Client, events: int) -> None:
        assert client.sock is not None
        if client.state == "connecting":
            code = client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._broken(client, code)
            elif events & (select.EPOLLOUT | select.EPOLLHUP):
                self._epoll.modify(client.sock.fileno(), select.EPOLLIN)
                self._send(client)
            return
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            if client.state == "idle":
                self._idle_end(client)
            else:
                self._broken(client, error.errno or errno.EIO)
            return
        if client.state == "idle":
            self._idle_end(client)  # bytes that nobody asked for are the last on a connection: RFC 9112, 9.2
        elif not data:
            self._ended(client)
        else:
            client.received += data
            self._look(client)

    def _idle_end(self, client: _Client) -> None:
        self._idle_closed += 1
        self._close(client)

    def _ended(self, client: _Client) -> None:
        if client.reused and not client.received:
            self._raced(client)
        else:
            self._finish(client, "truncated")

    def _broken(self, client: _Client, code: int) -> None:
        if code == errno.ECONNREFUSED and client.state == "connecting":
            self._finish(client, "refused")
        elif code not in (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED):
            raise OSError(code, os.strerror(code))  # of this machine, not of the server: no figure is worth anything
        elif client.reused and not client.received:
            self._raced(client)
        else:
            self._finish(client, "reset")

    def _raced(self, client: _Client) -> None:
        self._note(client, "raced", 0, 0)
        self._close(client)
        self._ask(client)

    def _look(self, client: _Client) -> None:
        """Finishes the request when the whole answer is there."""
        head, found, body = client.received.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
        length = int(fields.get(b"content-length", b"-1"))
        if length < 0:
            self._finish(client, "wrong")
            return
        if len(body) < length:
            return
        first = body.partition(b"\n")[0].split()
        whole = len(body) == length and body.endswith(BODY_END) and len(first) == 2
        if not whole or lines[0].split(b" ", 2)[1] != b"200":
            self._finish(client, "wrong")
            return
        kept = self._keep_alive and b"close" not in fields.get(b"connection", b"")
        self._finish(client, "ok", kept, int(first[0]), int(first[1]))

    def _finish(self, client: _Client, outcome: str, keep: bool = False, pid: int = 0, version: int = 0) -> None:
        self._note(client, outcome, pid, version)
        client.attempt += 1
        client.state = "idle"
        if not keep:
            self._close(client)
        self._plan(self._clients.index(client), time.monotonic() + self._pause)

    def _note(self, client: _Client, outcome: str, pid: int, version: int) -> None:
        ended = time.monotonic()
        self.requests.append(Request(client.asked, ended, outcome, client.reused, client.connected, pid, version))

    def _close(self, client: _Client) -> None:
        if client.sock is not None:
            self._by_fd.pop(client.sock.fileno(), None)
            client.sock.close()
            client.sock = None


class Generator:
    """A `Load` in a process of its own, on a core of its own.

    Args:
        port: On 127.0.0.1.
        keep_alive: As for `Load`.
        clients: As for `Load`.
        pause: As for `Load`, in seconds.
        core: The processor it runs on.

    Resource handling: `finish` ends the process; as a context manager it is killed when something else ends the block.
    """

    def __init__(self, port: int, keep_alive: bool, clients: int, pause: float, core: int) -> None:
        command = [sys.executable, __file__, str(port), "--clients", str(clients), "--pause", str(pause * 1000)]
        self._process = subprocess.Popen(
            [*command, *([] if keep_alive else ["--close"]), "--core", str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def finish(self) -> Tally:
        """Stops asking and returns what became of the requests."""
        out, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError("the load generator failed")
        requests, idle_closed, busy = marshal.loads(out)
        return Tally([Request(*one) for one in requests], idle_closed, busy)


def main() -> None:
    """Asks until standard input ends, and writes the `Tally`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pause", type=float, default=5.0, help="milliseconds")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds")
    parser.add_argument("--core", type=int)
    parser.add_argument("--close", action="store_true", help="a new connection for each request")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    gc.disable()  # nothing is freed before the end, and a collection would look like a slow answer
    told = select.poll()
    told.register(0, select.POLLIN)
    load = Load(("127.0.0.1", options.port), options.clients, not options.close, options.pause / 1000, options.patience)
    tally = load.run(lambda: bool(told.poll(0)), stop_fd=0)
    sys.stdout.buffer.write(marshal.dumps(([tuple(one) for one in tally.requests], tally.idle_closed, tally.busy)))


if __name__ == "__main__":
    main()
