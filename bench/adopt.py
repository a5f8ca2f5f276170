"""What it costs to adopt many inherited sockets: appd against Twisted's `systemd:` endpoint strings.

usage: python bench/adopt.py [--sockets N] [--rounds N] [--quick]

Both sides get the same N listening sockets and end with N ports that read; each round runs both, one after the other,
in a fresh process, in alternating order. Printed: median, minimum and maximum in microseconds a socket, and the ratio
of the medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import time


def open_sockets(count: int) -> list[socket.socket]:
    """Makes listening sockets on loopback and puts them on 3 and up, as systemd passes them."""
    made = []
    for number in range(count):
        sock = socket.create_server(("127.0.0.1", 0))
        # Out of the way first: the descriptors from 3 on may be in use.
        high = os.dup2(sock.fileno(), 4096 + number)
        sock.close()
        made.append(socket.socket(fileno=high))
    for number, sock in enumerate(made):
        os.dup2(sock.fileno(), 3 + number)
    names = ":".join(f"n{number}" for number in range(count))
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=names)
    return made


def appd(count: int) -> float:
    """From the variables to ports that read, by way of activation, claims and listeners."""
    from systemd import daemon

    from appd.address import parse
    from appd.listening.connections import Connections
    from appd.listening.endpoints import resolve
    from appd.systemd.activation import inherit

    assert daemon
    began = time.perf_counter()
    inheritance = inherit()
    probed = time.perf_counter() - began
    # After the inheritance, as in a worker: Twisted's endpoints would take the variables away.
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    factory, connections, kinds = Factory.forProtocol(Protocol), Connections(), frozenset({"stream"})
    factory.noisy = False
    began = time.perf_counter()
    for number in range(count):
        for listener in resolve(parse(f"systemd:name=n{number}"), "bench", kinds, inheritance, {}):
            listener.listen(reactor, factory, connections)
    return probed + time.perf_counter() - began


def twisted(count: int) -> float:
    """`serverFromString("systemd:…").listen(factory)` for each."""
    from twisted.internet import reactor
    from twisted.internet.endpoints import serverFromString
    from twisted.internet.protocol import Factory, Protocol

    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    # The first call loads the endpoint plugins; that is not what is compared.
    serverFromString(reactor, "tcp:0")
    began = time.perf_counter()
    for number in range(count):
        serverFromString(reactor, f"systemd:domain=INET:name=n{number}").listen(factory)
    return time.perf_counter() - began


def one_run(side: str, count: int) -> None:
    """Runs one side in this process and prints the seconds."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (16384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    held = open_sockets(count)
    seconds = {"appd": appd, "twisted": twisted}[side](count)
    print(seconds)
    sys.stdout.flush()
    del held
    os._exit(0)


def main() -> None:
    """Runs both sides by turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="see that it runs; the figures mean nothing")
    parser.add_argument("--side", choices=["appd", "twisted"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        one_run(options.side, options.sockets)
    if options.quick:
        options.sockets, options.rounds = 20, 1
    taken: dict[str, list[float]] = {"appd": [], "twisted": []}
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    for number in range(options.rounds):
        for side in sorted(taken, reverse=number % 2 == 1):
            command = [sys.executable, __file__, "--sockets", str(options.sockets), "--side", side]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)
            taken[side].append(float(done.stdout) / options.sockets * 1e6)
    print(f"{options.sockets} inherited sockets, {options.rounds} rounds, µs a socket")
    for side, those in taken.items():
        print(f"{side:8} median {statistics.median(those):8.1f}  min {min(those):8.1f}  max {max(those):8.1f}")
    ratio = statistics.median(taken["appd"]) / statistics.median(taken["twisted"])
    print(f"ratio    {ratio:.3f}  (to reach: 0.05 or less)")


if __name__ == "__main__":
    main()
