"""What memory the processes take at the start, and what an idle keep-alive connection costs.

usage: python bench/memory.py [--connections N] [--rounds N] [--alone] [--quick]

One worker each. Every connection has been used for one request and is open. Each round runs every candidate, one after
the other. Printed are medians in MB (2^20 bytes): PSS is the memory of a process with its part of what it shares, so
that the sum over the processes of a server is what it takes of the machine; RSS is what ps(1) shows. A connection is in
KB of the PSS of all processes; what the kernel keeps for it is not in there.
"""

from __future__ import annotations

import argparse
import resource
import socket
import time
from pathlib import Path
from typing import NamedTuple

from candidates import Appd, Candidate, Gunicorn, TwistedWeb, Uvicorn, Waitress, installed
from figures import judged, median, surroundings, table

# Of the supervisor, and of what a connection takes beside gunicorn's.
MOST_RSS, MOST_RATIO = 16.0, 0.2
RELOADS = 10


class Taken(NamedTuple):
    """What a server took, in MB, and KB a connection; `reloaded` is the RSS of the main process after reloads."""

    main_rss: float
    main_pss: float
    worker_rss: float
    worker_pss: float
    filled: float
    connection: float
    reloaded: float


def memory(pid: int, what: str) -> float:
    """`Rss` or `Pss` of a process in MB: proc_pid_smaps(5)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no {what} of {pid}")


def settled(server: Candidate) -> float:
    """The PSS of all its processes, when it has stopped to change."""
    taken = -1.0
    for _ in range(100):
        before, taken = taken, sum(memory(pid, "Pss") for pid in server.processes())
        if abs(taken - before) < 0.02:
            break
        time.sleep(0.2)
    return taken


def fill(port: int, count: int) -> list[socket.socket]:
    """Makes connections, each used for one request; the caller closes them."""
    made = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port), timeout=30)
        made.append(client)
        client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
        received = b""
        while not received.endswith(b"end\n"):
            data = client.recv(65536)
            if not data:
                raise ConnectionError(f"connection {len(made)} was closed before its answer")
            received += data
    return made


def measure(kind: type[Candidate], count: int) -> Taken:
    """Starts a server, measures it, opens connections, measures it again."""
    with kind() as server:
        empty = settled(server)
        worker = max(server.workers(), key=lambda pid: memory(pid, "Pss"))
        main, works = ((memory(pid, "Rss"), memory(pid, "Pss")) for pid in (server.pid, worker))
        held = fill(server.port, count)
        try:
            filled = settled(server)
            if (still := sum(is_open(one) for one in held)) != count:
                raise ConnectionError(f"{kind.name} keeps {still} of {count} connections")
        finally:
            for one in held:
                one.close()
        for _ in range(RELOADS if kind is Appd else 0):
            server.reload()
        return Taken(*main, *works, filled, (filled - empty) * 1024 / count, memory(server.pid, "Rss"))


def is_open(client: socket.socket) -> bool:
    """Whether the server has not ended the connection."""
    client.setblocking(False)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True


def main() -> None:
    """Measures each candidate and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="appd without the other servers")
    parser.add_argument("--quick", action="store_true", help="see that it runs; the figures mean nothing")
    options = parser.parse_args()
    rounds, count = (1, 50) if options.quick else (options.rounds, options.connections)
    needed, most = count + 200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most not in (-1, resource.RLIM_INFINITY) and most < needed:
        parser.error(f"{count} connections need {needed} descriptors, and the hard limit (ulimit -Hn) is {most}")
    # The servers inherit it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(needed, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), most))
    print(f"{surroundings()}; {count} connections, {rounds} rounds")

    kinds = [Appd] if options.alone else installed([Appd, Gunicorn, Uvicorn, Waitress, TwistedWeb])
    taken: dict[str, list[Taken]] = {kind.name: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            taken[kind.name].append(measure(kind, count))
    middle = {name: Taken(*(median(column) for column in zip(*those, strict=True))) for name, those in taken.items()}
    heads = ["", "main RSS", "PSS", "worker RSS", "PSS", f"all PSS with {count}", "KB a connection"]
    rows = [[name, *(f"{one:.1f}" for one in those[:5]), f"{those.connection:.2f}"] for name, those in middle.items()]
    print(f"\n{table(heads, rows)}\n")
    ours = middle["appd"]
    print(judged("RSS of appd's supervisor", ours.main_rss, MOST_RSS, " MB"))
    print(judged(f"RSS of appd's supervisor after {RELOADS} reloads", ours.reloaded, MOST_RSS, " MB"))
    if "gunicorn" in middle:
        ratio = ours.connection / middle["gunicorn"].connection
        print(judged("a connection, against gunicorn's", ratio, MOST_RATIO, " x"))


if __name__ == "__main__":
    main()
