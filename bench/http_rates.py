"""How much work an HTTP request is, beside other servers. (A bench/http.py would stand in for the library's `http`.)

usage: python bench/http_rates.py [--seconds S] [--rounds N] [--alone] [--quick]

One worker each, with 8 threads where it has threads, bound to one processor; wrk on the other asks on 64 keep-alive
connections. Each round runs every candidate for every kind of request, one after the other. Printed are medians over
the rounds: requests a second, and the processor time of all processes of the server for a request, which other load on
the machine disturbs less. Where a server has no way of its own to serve files, that column is empty. The ceiling is a
loop in C that does nothing else (bench/ceiling.c, compiled with cc).

    hello    14 bytes
    fields   the same with 10 header fields
    large    100 KB
    static   100 KB of a file
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path

from candidates import (
    Appd,
    Candidate,
    Ceiling,
    Granian,
    Gunicorn,
    GunicornSync,
    TwistedWeb,
    Uvicorn,
    Waitress,
    installed,
)
from figures import median, surroundings, table

KINDS = ("hello", "fields", "large", "static")
CONNECTIONS = 64
# Times the rate of another: kind, whose, to reach, no less than.
TARGETS = [
    ("hello", "gunicorn", 8.0, 5.0),
    ("hello", "granian", 1.0, 0.75),
    ("hello", "waitress", 5.0, 3.5),
    ("hello", "twisted.web", 10.0, 6.0),
    ("static", "uvicorn", 1.0, 1.0),
    ("static", "granian", 1.0, 1.0),
    ("static", "ceiling", 1.0, 0.0),
]


def processor_seconds(pids: list[int]) -> float:
    """The time that processes have spent computing, in all of their threads.

    Of the scheduler's own count, in nanoseconds: utime and stime of proc_pid_stat(5) are samples, and of a server that
    sleeps between two requests they may be wrong by half.
    """
    spent = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            spent += int((thread / "schedstat").read_text().split()[0])
    return spent / 1e9


def ask(port: int, path: str, seconds: float, core: int) -> tuple[int, float]:
    """Has wrk ask for a while.

    Returns:
        How many requests were answered, and how many a second.

    Raises:
        ValueError: Some were not answered as they should be.
    """
    url = f"http://127.0.0.1:{port}/{'static/file' if path == 'static' else path}"
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise ValueError(f"{url}: {said}")
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    count = re.search(r"(\d+) requests in", said)
    assert rate is not None and count is not None, said
    return int(count[1]), float(rate[1])


def measure(kind: type[Candidate], seconds: float, cores: tuple[int, int]) -> dict[str, tuple[float, float]]:
    """Starts a server and asks it for each kind. Returns requests a second and processor microseconds for each."""
    found = {}
    with kind(core=cores[0]) as server:
        for path in kind.serves:
            ask(server.port, path, seconds / 4, cores[1])
            before = processor_seconds(server.processes())
            count, rate = ask(server.port, path, seconds, cores[1])
            found[path] = (rate, (processor_seconds(server.processes()) - before) * 1e6 / count)
    return found


def main() -> None:
    """Measures each candidate and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="appd without the other servers")
    parser.add_argument("--quick", action="store_true", help="see that it runs; the figures mean nothing")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.exit(0, "bench/http_rates.py is left out: there is no wrk (apt-get install wrk)\n")
    rounds, seconds = (1, 1.0) if options.quick else (options.rounds, options.seconds)
    available = sorted(os.sched_getaffinity(0))
    cores = (available[0], available[-1])
    print(f"{surroundings()}; {CONNECTIONS} connections, {rounds} rounds of {seconds:.0f} s")
    others = [Ceiling, Gunicorn, GunicornSync, Granian, Waitress, Uvicorn, TwistedWeb]
    kinds = [Appd] if options.alone else installed([Appd, *others])
    taken: dict[str, list[dict[str, tuple[float, float]]]] = {kind.name: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            taken[kind.name].append(measure(kind, seconds, cores))
    rates = {name: {path: median(one[path][0] for one in those) for path in those[0]} for name, those in taken.items()}
    costs = {name: {path: median(one[path][1] for one in those) for path in those[0]} for name, those in taken.items()}
    heads = ["", *(f"{path}/s" for path in KINDS), *(f"{path} µs" for path in KINDS)]
    rows = [
        [
            name,
            *(f"{rates[name][path]:.0f}" if path in rates[name] else "-" for path in KINDS),
            *(f"{costs[name][path]:.1f}" if path in costs[name] else "-" for path in KINDS),
        ]
        for name in rates
    ]
    print(f"\n{table(heads, rows)}\n")
    for path, name, target, least in TARGETS:
        if path in rates.get(name, {}):
            print(
                compared(
                    path,
                    name,
                    rates["appd"][path] / rates[name][path],
                    costs[name][path] / costs["appd"][path],
                    target,
                    least,
                )
            )


def compared(path: str, name: str, rate: float, work: float, target: float, least: float) -> str:
    """One line: how many times another's rate, and how many times less work, what is to be reached, the verdict."""
    verdict = "" if rate >= target else "  BELOW THE AMBITION" if rate >= least else "  MISSED"
    floor = f", no less than {least:g}" if least and least != target else ""
    return f"{path}: {rate:.2f} x the rate of {name}, {work:.2f} x by work  (to reach: {target:g}{floor}){verdict}"


if __name__ == "__main__":
    main()
