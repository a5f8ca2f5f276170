"""What an echo costs a Twisted factory on appd's ports, against Twisted's own.

usage: python bench/echo.py [--rounds N] [--quick]

The same protocol is served on the same kind of socket by both, in a process of its own on one processor; the clients
have another. Each connection sends a message and the next when it has come back, or keeps several in flight. By turns,
in alternating order. Printed: the processor time of the server in microseconds a message, median, minimum and maximum,
the time that passed, the processor time of the clients, and how many times cheaper appd is.

The clients are a program in C (echo_load.c, compiled with cc), as clients that take longer than the server let it
sleep between any two messages; then what is measured is mostly how a process is woken. What nobody can save is measured
beside the two: the same system calls from a loop in C (echo.c), and from one in Python that has no Twisted around it.
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
import time
from pathlib import Path
from typing import Any, NamedTuple

from figures import judged, median, surroundings, table

_CLIENTS = 64
# What, the size of a message, messages of a client in a round, how many in flight, times as cheap at least.
_CASES = (
    ("TCP 64 B", 64, 1500, 1, 1.5),
    ("TCP 64 KB", 65536, 500, 1, 2.2),
    ("TCP 64 KB by eights", 65536, 200, 8, 1.0),
    ("UNIX 64 B", 64, 1500, 1, 1.5),
    ("UDP 64 B", 64, 1500, 1, 1.25),
)
# A run that takes so many seconds has failed.
_PATIENCE = 60
_SIDES = ("appd", "twisted", "python", "c")
_PROGRAMS = ("echo", "echo_load")


class Cost(NamedTuple):
    """Microseconds a message: processor time of the server, time that passed, processor time of the clients."""

    server: float
    passed: float
    clients: float


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


def processor_time(pid: int) -> float:
    """What the threads of a process have used, in seconds: proc(5), schedstat, which counts nanoseconds."""
    return sum(int(one.read_text().split()[0]) for one in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def one_run(side: str, what: str, size: int, messages: int, in_flight: int, programs: Path) -> Cost:
    """What a message costs."""
    kind = socket.SOCK_DGRAM if what.startswith("UDP") else socket.SOCK_STREAM
    family = socket.AF_UNIX if what.startswith("UNIX") else socket.AF_INET
    sock = socket.socket(family, kind)
    name = f"appd-bench-echo-{os.getpid()}"
    sock.bind(f"\0{name}" if family == socket.AF_UNIX else ("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        sock.listen(_CLIENTS)
    processors = sorted(os.sched_getaffinity(0))
    pid = os.fork()
    if not pid:
        os.sched_setaffinity(0, processors[-1:])
        if side == "c":
            serve_in_c(str(programs / "echo"), sock)
        elif side == "python":
            serve_bare(sock)
        else:
            serve(side, sock)
        os._exit(0)
    signal.alarm(_PATIENCE)
    where = name if family == socket.AF_UNIX else str(sock.getsockname()[1])
    wanted = ("stream" if kind == socket.SOCK_STREAM else "datagram", where, _CLIENTS, size, messages, in_flight)
    os.sched_setaffinity(0, processors[:1])
    load = subprocess.Popen(
        [programs / "echo_load", *map(str, wanted)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    os.sched_setaffinity(0, processors)
    assert load.stdin and load.stdout
    try:
        await_word(load.stdout, "warm")
        before = Cost(processor_time(pid), time.perf_counter(), processor_time(load.pid))
        load.stdin.write("\n")
        await_word(load.stdout, "done")
        after = Cost(processor_time(pid), time.perf_counter(), processor_time(load.pid))
    finally:
        signal.alarm(0)
        load.kill()
        load.communicate()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        sock.close()
    return Cost(*((then - now) / (messages * _CLIENTS) * 1e6 for now, then in zip(before, after, strict=True)))


def await_word(said: Any, word: str) -> None:
    """Waits for what the clients say."""
    if said.readline() != word + "\n":
        sys.exit("the clients failed")


def compiled(folder: Path) -> Path:
    """A folder with the programs in C."""
    for name in _PROGRAMS:
        subprocess.run(["cc", "-O2", "-o", folder / name, Path(__file__).with_name(f"{name}.c")], check=True)
    return folder


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
    programs = compiled(Path(folder.name))
    for what, size, messages, in_flight, least in _CASES:
        found: dict[str, list[Cost]] = {side: [] for side in _SIDES}
        for number in range(rounds):
            for side in _SIDES if number % 2 else reversed(_SIDES):
                # Twisted's adoption of a UNIX socket would widen the mode of a path; this one has none.
                many = max(5, messages // 100) if parsed.quick else messages
                found[side].append(one_run(side, what, size, many, in_flight, programs))
        cost = {
            side: Cost(*(max(median(those), 1e-9) for those in zip(*all_, strict=True))) for side, all_ in found.items()
        }
        ratio, bare, in_c = (cost["twisted"].server / cost[side].server for side in ("appd", "python", "c"))
        by_rate = cost["twisted"].passed / cost["appd"].passed
        for side, runs in found.items():
            values = [one.server for one in runs]
            numbers = (median(values), min(values), max(values), cost[side].passed, cost[side].clients)
            rows.append([f"{what}, {side}", *(f"{one:.1f}" for one in numbers)])
        said = (
            f"{what}: {ratio:.2f} times as cheap as Twisted, {by_rate:.2f} times as fast "
            f"(Python alone {bare:.2f} times as cheap, C {in_c:.2f}); its part"
        )
        verdicts.append(judged(said, 1 / max(ratio, 1e-9), 1 / least, ""))
    print(table(["echo, µs a message", "median", "min", "max", "passed", "clients"], rows))
    print()
    print("\n".join(verdicts))


if __name__ == "__main__":
    sys.exit(main())
