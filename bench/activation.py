"""The first answer of a service that a connection wakes: appd beside gunicorn, waitress, uvicorn and twistd web.

usage: python bench/activation.py [--rounds N] [--alone] [--quick]

The socket listens here, as a .socket unit has it. A client connects and asks, and only then the server is started, as
systemd does it: with the socket on descriptor 3 and LISTEN_FDS. What is measured ends with the last byte of the answer.
The candidates run by turns, each time in a process of its own, on one core; the client waits on the other.

* appd: as its unit runs it, with the supervisor. warm: the validated file is in the cache; cold: it is read by ZConfig.
* appd --single: the same without the supervisor, warm.
* gunicorn and twistd take LISTEN_FDS by themselves. waitress and uvicorn are given the socket by a few lines of Python
  that call what their commands call: with `--fd` uvicorn would be measured without TCP_NODELAY.

CPU: what all processes and threads of the server had used of the processor when the answer was there. On a machine that
does other things too it is the steadier of the two. All times in milliseconds.

Root has no cache, so that root is somebody else, in a user namespace that all of them share: to make one takes 0.5 ms.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from candidates import (
    PEERS,
    THREADS,
    Appd,
    Candidate,
    Gunicorn,
    Kept,
    TwistedWeb,
    Uvicorn,
    Waitress,
    become_somebody,
    installed,
)
from figures import judged, median, surroundings, table

CLIENT_CORE, SERVER_CORE = 0, 1
REQUEST = b"GET /hello HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
ANSWER = b"Hello, world!\n"
_PATIENCE = 15.0

_WAITRESS = """
import socket, sys
from waitress import serve
sys.path.insert(0, ".")
from application import application
serve(application, sockets=[socket.socket(fileno=3)], threads={threads}, clear_untrusted_proxy_headers=True)
"""
_UVICORN = """
import socket, sys, uvicorn
sys.path.insert(0, ".")
server = uvicorn.Server(uvicorn.Config("application:asgi", access_log=False))
server.run(sockets=[socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=3)])
"""


class First(NamedTuple):
    """One start.

    Attributes:
        wall: From the connection to the end of the answer, in seconds.
        cpu: Of the processor, in seconds.
    """

    wall: float
    cpu: float


class Warm(Kept):
    """appd with the file in the cache of an earlier start."""

    name = "appd, warm"


class Single(Warm):
    """The same without a supervisor."""

    name = "appd --single, warm"
    options = ("--single",)


class Cold(Appd):
    """appd that reads its file."""

    name = "appd, cold"


class WokenWaitress(Waitress):
    """waitress, as a program that is given the socket."""

    inherits = True

    def command(self) -> Sequence[str | Path]:
        return [PEERS / "python", "-c", _WAITRESS.format(threads=THREADS)]


class WokenUvicorn(Uvicorn):
    """uvicorn, as a program that is given the socket."""

    inherits = True

    def command(self) -> Sequence[str | Path]:
        return [PEERS / "python", "-c", _UVICORN]


class WokenTwisted(TwistedWeb):
    """twistd web on the socket."""

    name = "twistd web"
    inherits = True

    def command(self) -> Sequence[str | Path]:
        return [
            PEERS / self.program, "--nodaemon", "--pidfile=", "web", "--listen=systemd:domain=INET:index=0",
            "--wsgi=application.application",
        ]  # fmt: skip


KINDS: tuple[type[Candidate], ...] = (Warm, Single, Cold, Gunicorn, WokenWaitress, WokenUvicorn, WokenTwisted)


def used(pids: Sequence[int]) -> float:
    """What processes have used of the processor, in seconds: the first number of /proc/PID/task/TID/schedstat."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                total += int(task.read_text().split()[0])
    return total / 1e9


def wake(server: Candidate) -> First:
    """Connects, starts the server, and waits for the answer."""
    whole = b""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", server.port), timeout=_PATIENCE) as client:
        client.sendall(REQUEST)
        server.launch()
        with suppress(TimeoutError):
            whole = b"".join(iter(lambda: client.recv(65536), b""))
        wall = time.perf_counter() - began
        cpu = used(server.processes())
    if not whole.endswith(ANSWER):
        raise ValueError(f"{server.name} answered {whole!r}; it said:\n{(server.folder / 'said').read_text()}")
    return First(wall, cpu)


def warm_up(server: Candidate) -> bool:
    """Lets a server start once: its code is compiled then, and appd keeps its file.

    Returns:
        Whether it may be measured.
    """
    wake(server)
    if isinstance(server, Kept):
        server.wait_kept()
    end(server)
    return not isinstance(server, Kept) or server.is_kept


def end(server: Candidate) -> None:
    """Kills what runs, and keeps socket and folder for the next start."""
    for pid in server.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    os.waitpid(server.pid, 0)
    server.pid = 0


def run(rounds: int, kinds: Sequence[type[Candidate]]) -> dict[str, list[First]]:
    """Wakes each in turn."""
    os.sched_setaffinity(0, {CLIENT_CORE})
    become_somebody()
    servers = [kind(SERVER_CORE) for kind in kinds]
    taken: dict[str, list[First]] = {}
    try:
        for server in list(servers):
            if not warm_up(server):
                print(f"{server.name} is left out: it keeps no file here (root, and no user namespaces)")
                server.__exit__()
                servers.remove(server)
        for number in range(rounds):
            for server in servers if number % 2 else reversed(servers):
                taken.setdefault(server.name, []).append(wake(server))
                end(server)
    finally:
        for server in servers:
            server.__exit__()
    return {server.name: taken[server.name] for server in servers}


def verdicts(taken: Mapping[str, Sequence[First]]) -> list[str]:
    """What was to be reached, by time and by processor time."""
    lines = []
    for name, other, most in (
        (Warm.name, Gunicorn.name, 0.33),
        (Warm.name, WokenTwisted.name, 0.10),
        (Cold.name, Gunicorn.name, 0.9),
    ):
        if name in taken and other in taken:
            for what in First._fields:
                ratio = _middle(taken[name], what) / _middle(taken[other], what)
                lines.append(judged(f"{name}: {what} against {other}", ratio, most, " x"))
    return lines


def _middle(those: Sequence[First], what: str) -> float:
    return median(getattr(one, what) for one in those)


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=31, help="how often each is woken")
    parser.add_argument("--alone", action="store_true", help="appd alone")
    parser.add_argument("--quick", action="store_true", help="only to see that it runs")
    options = parser.parse_args()
    print(surroundings())
    kinds = [kind for kind in KINDS if issubclass(kind, Appd)]
    kinds += [] if options.alone else installed([kind for kind in KINDS if not issubclass(kind, Appd)])
    taken = run(1 if options.quick else options.rounds, kinds)
    rows = [
        [name, *(f"{one * 1000:.1f}" for one in (
            _middle(those, "wall"), min(those).wall, max(those).wall, _middle(those, "cpu"),
        ))]
        for name, those in taken.items()
    ]  # fmt: skip
    print(table(["", "first answer", "min", "max", "CPU"], rows))
    print("\n".join(verdicts(taken)))


if __name__ == "__main__":
    sys.exit(main())
