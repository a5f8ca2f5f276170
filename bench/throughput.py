"""How much work an HTTP request is, beside other servers.

usage: python bench/throughput.py [--seconds S] [--rounds N] [--alone] [--quick]

One worker each, with 8 threads where it has threads, bound to one processor; wrk on the other asks on 64 keep-alive
connections. Each round runs every candidate for every kind of request, one after the other. Printed are medians over
the rounds: requests a second, and the processor time of all processes of the server for a request, which other load on
the machine disturbs less. uvicorn answers through ASGI and only the first kind.

    hello    13 bytes
    fields   the same with 10 header fields
    large    100 KB
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path

from candidates import Appd, Candidate, Granian, Gunicorn, TwistedWeb, Uvicorn, Waitress, installed
from figures import judged, median, surroundings, table

KINDS = ("hello", "fields", "large")
CONNECTIONS = 64
# Of gunicorn's rate, granian's, waitress', twisted.web's: to reach, for hello.
TARGETS = {"gunicorn": 8.0, "granian": 1.0, "waitress": 5.0, "twisted.web": 10.0}
_TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pids: list[int]) -> float:
    """The time that processes have spent computing: utime and stime of proc_pid_stat(5)."""
    spent = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent += int(fields[11]) + int(fields[12])
    return spent / _TICKS


def ask(port: int, path: str, seconds: float, core: int) -> tuple[int, float]:
    """Has wrk ask for a while.

    Returns:
        How many requests were answered, and how many a second.

    Raises:
        ValueError: Some were not answered as they should be.
    """
    url = f"http://127.0.0.1:{port}/{path}"
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
        for path in KINDS if kind is not Uvicorn else KINDS[:1]:
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
        parser.exit(0, "bench/throughput.py is left out: there is no wrk (apt-get install wrk)\n")
    rounds, seconds = (1, 1.0) if options.quick else (options.rounds, options.seconds)
    available = sorted(os.sched_getaffinity(0))
    cores = (available[0], available[-1])
    print(f"{surroundings()}; {CONNECTIONS} connections, {rounds} rounds of {seconds:.0f} s")
    kinds = [Appd] if options.alone else installed([Appd, Gunicorn, Granian, Waitress, Uvicorn, TwistedWeb])
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
    for name, target in TARGETS.items():
        if name in rates:
            # The verdict wants what is to be small.
            ratio = rates[name]["hello"] / rates["appd"]["hello"]
            print(judged(f"hello: {name}'s rate against appd's ({1 / ratio:.2f} x)", ratio, 1 / target, " x"))


if __name__ == "__main__":
    main()
