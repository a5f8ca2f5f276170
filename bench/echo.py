"""What an echo costs a Twisted factory on appd's ports, against Twisted's own.

usage: python bench/echo.py [--rounds N] [--quick]

The same protocol is served on the same kind of socket by both, in a process of its own on one processor; the client
has another. A few connections each send a message and wait until it has come back. By turns, in alternating order.
Printed: the processor time of the server in microseconds a message, median, minimum and maximum, and how many times
cheaper appd is. Rates would be the client's as much as the server's.

What nobody can save is measured beside them: the same system calls from a loop in C (echo.c, compiled with cc), and
from one in Python that has no Twisted around it.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import judged, median, surroundings, table

_CLIENTS = 64
# What, the size of a message, messages of a client in a round, times as cheap at least.
_CASES = (
    ("TCP 64 B", 64, 1000, 1.5),
    ("TCP 64 KB", 65536, 300, 2.2),
    ("UNIX 64 B", 64, 1000, 1.5),
    ("UDP 64 B", 64, 1000, 1.25),
)
# A run that takes so many seconds has failed.
_PATIENCE = 60
_SIDES = ("appd", "twisted", "python", "c")


def serve_bare(sock: socket.socket) -> None:
    """Echoes with the same system calls, and nothing around them."""
    sock.setblocking(False)
    poll = select.epoll()
    poll.register(sock.fileno(), select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for fd, _event in poll.poll():
            if sock.type == socket.SOCK_DGRAM:
                sock.sendto(*sock.recvfrom(65536))
            elif fd == sock.fileno():
                client, _address = sock.accept()
                client.setblocking(False)
                clients[client.fileno()] = client
                poll.register(client.fileno(), select.EPOLLIN)
            elif data := clients[fd].recv(65536):
                clients[fd].send(data)
            else:
                clients.pop(fd).close()


def serve_in_c(program: str, sock: socket.socket) -> None:
    """The same in C."""
    os.dup2(sock.fileno(), 3)
    os.set_inheritable(3, True)  # it may have been that one
    os.set_blocking(3, False)
    os.execv(program, [program, "stream" if sock.type == socket.SOCK_STREAM else "datagram"])


def serve(side: str, sock: socket.socket) -> None:
    """Echoes until it is killed."""
    if side == "appd":
        from appd.listening.reactor import install

        install()
    from twisted.internet import reactor
    from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

    class Echo(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data)

    class EchoDatagrams(DatagramProtocol):
        def datagramReceived(self, data: bytes, address: Any) -> None:
            self.transport.write(data, address)

    factory = Factory.forProtocol(Echo)
    sock.setblocking(False)
    is_stream = sock.type == socket.SOCK_STREAM
    if side == "appd":
        from appd.listening.connections import Connections
        from appd.listening.ports import adopt_datagram, adopt_stream

        adopt: Any = adopt_stream if is_stream else adopt_datagram
        adopt(reactor, sock.fileno(), sock.family, factory if is_stream else EchoDatagrams(), Connections())
    elif is_stream:
        reactor.adoptStreamPort(sock.fileno(), sock.family, factory)
    else:
        reactor.adoptDatagramPort(sock.fileno(), sock.family, EchoDatagrams())
    reactor.run()


def stream_round(clients: list[socket.socket], data: bytes) -> None:
    """Everybody sends; everybody gets it back."""
    for client in clients:
        client.sendall(data)
    for client in clients:
        left = len(data)
        while left:
            left -= len(client.recv(262144))


def datagram_round(clients: list[socket.socket], data: bytes) -> None:
    """The same; what is lost is not waited for."""
    for client in clients:
        client.send(data)
    for client in clients:
        client.recv(len(data))


def processor_time(pid: int) -> float:
    """What the threads of a process have used, in seconds: proc(5), schedstat, which counts nanoseconds."""
    return sum(int(one.read_text().split()[0]) for one in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def one_run(side: str, what: str, size: int, messages: int, program: str) -> float:
    """Microseconds of the server's processor time a message."""
    kind = socket.SOCK_DGRAM if what.startswith("UDP") else socket.SOCK_STREAM
    family = socket.AF_UNIX if what.startswith("UNIX") else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.bind(f"\0appd-bench-echo-{os.getpid()}" if family == socket.AF_UNIX else ("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        sock.listen(_CLIENTS)
    processors = sorted(os.sched_getaffinity(0))
    pid = os.fork()
    if not pid:
        os.sched_setaffinity(0, processors[-1:])
        if side == "c":
            serve_in_c(program, sock)
        elif side == "python":
            serve_bare(sock)
        else:
            serve(side, sock)
        os._exit(0)
    signal.alarm(_PATIENCE)
    try:
        os.sched_setaffinity(0, processors[:1])
        clients = [socket.socket(family, kind) for _ in range(_CLIENTS)]
        for client in clients:
            client.connect(sock.getsockname())
        do: Callable[[list[socket.socket], bytes], None] = (
            stream_round if kind == socket.SOCK_STREAM else datagram_round
        )
        data = b"x" * size
        for _ in range(3):
            do(clients, data)
        before = processor_time(pid)
        for _ in range(messages):
            do(clients, data)
        used = processor_time(pid) - before
        for client in clients:
            client.close()
    finally:
        signal.alarm(0)
        os.sched_setaffinity(0, processors)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        sock.close()
    return used / (messages * _CLIENTS) * 1e6


def main() -> None:
    """Runs every case, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round: does it run?")
    parsed = parser.parse_args()
    rounds = 1 if parsed.quick else parsed.rounds
    print(f"{surroundings()}; {_CLIENTS} clients, {rounds} rounds\n")
    rows, verdicts = [], []
    folder = tempfile.TemporaryDirectory()  # until the end of the process
    program = str(Path(folder.name) / "echo")
    subprocess.run(["cc", "-O2", "-o", program, Path(__file__).with_name("echo.c")], check=True)
    for what, size, messages, least in _CASES:
        found: dict[str, list[float]] = {side: [] for side in _SIDES}
        for number in range(rounds):
            for side in _SIDES if number % 2 else reversed(_SIDES):
                # Twisted's adoption of a UNIX socket would widen the mode of a path; this one has none.
                many = max(5, messages // 100) if parsed.quick else messages
                found[side].append(one_run(side, what, size, many, program))
        cost = {side: max(median(values), 1e-9) for side, values in found.items()}
        ratio, bare, in_c = (cost["twisted"] / cost[side] for side in ("appd", "python", "c"))
        for side, values in found.items():
            rows.append([f"{what}, {side}", *(f"{one:.1f}" for one in (median(values), min(values), max(values)))])
        said = f"{what}: {ratio:.2f} times as cheap as Twisted (Python alone {bare:.2f}, C {in_c:.2f}); its part"
        verdicts.append(judged(said, 1 / max(ratio, 1e-9), 1 / least, ""))
    print(table(["echo, µs a message", "median", "min", "max"], rows))
    print()
    print("\n".join(verdicts))


if __name__ == "__main__":
    sys.exit(main())
