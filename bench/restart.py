"""What clients notice when the server is restarted, reloaded, changed or killed under them: appd against gunicorn.

usage: python bench/restart.py [--rounds N] [--times N] [--clients N] [--pause MS] [--only WHAT] [--alone] [--quick]

The listening socket is held here, as a .socket unit holds it; the servers find it in LISTEN_FDS. The clients run on one
core and the server with all its processes on the other, but for the bursts, which two workers share on both. Each round
runs every candidate, in alternating order. Where several things are done to one server, what is printed of its gaps is
the median over all of them, and the longest.

* restart: SIGTERM, the end of the process, the same command again; `systemctl restart` does no more.
* reload: `appd reload` as ExecReload= runs it; SIGHUP for gunicorn.
* swap: the same after the application's source changed. stale: answers of the old code on connections that were made
  after `appd reload` had returned; gunicorn does not say when, so there it is when the old worker has gone.
* kill: SIGKILL for one of two workers.
* burst: 64 connections at once to two workers that have nothing else to do; the share of the busier one.

Requests are attempts that clients made; `bench/load.py` says how what became of them is told apart. Raced and
idle-closed are kept connections that the server closed; a client repeats what it asked on them. Gap: no client at all
got an answer. Wait: of one client for one answer. Both in milliseconds, from the beginning of what is done to the first
answer after it.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from candidates import Candidate, Gunicorn, Kept, installed
from figures import (
    Window,
    counts,
    judged,
    longest_gap,
    longest_wait,
    median,
    percentile,
    surroundings,
    table,
    within,
)
from load import Generator, Request, Tally

LOAD_CORE, SERVER_CORE = 0, 1
MODES = {"new connections": False, "keep-alive": True}
LOST = ("refused", "reset", "truncated", "wrong", "silent")
BURST = 64


class Run(NamedTuple):
    """One load on one server, and when something was done to it."""

    tally: Tally
    steady: Window
    windows: list[Window]
    stale: int


class Plan(NamedTuple):
    """How much is done."""

    clients: int
    pause: float
    times: int
    settle: float
    bursts: int


def loaded(server: Candidate, keep_alive: bool, plan: Plan, act: Callable[[], float], times: int) -> Run:
    """Does something to a server some times, under load.

    Args:
        server: It runs.
        keep_alive: Whether the clients keep their connections.
        plan: How much.
        act: What is done, to its end; returns when it was said to be done.
        times: How often.
    """
    windows: list[Window] = []
    with Generator(server.port, keep_alive, plan.clients, plan.pause, LOAD_CORE) as generator:
        time.sleep(0.3)  # until the clients and the server are warm
        began = time.monotonic()
        time.sleep(plan.settle * 4)
        steady = Window(began, time.monotonic())
        versions: list[tuple[float, int]] = []
        for _ in range(times):
            began = time.monotonic()
            versions.append((act(), server.version))
            windows.append(Window(began, time.monotonic()))
            time.sleep(plan.settle)
        tally = generator.finish()
    return Run(tally, steady, windows, _stale(tally.requests, versions))


def _stale(requests: list[Request], versions: list[tuple[float, int]]) -> int:
    """Answers of an older version than the one that was said to serve before the connection was made."""
    return sum(
        any(one.version < version for since, version in versions if one.connected > since)
        for one in requests
        if one.outcome == "ok"
    )


def restarts(kind: type[Candidate], keep_alive: bool, plan: Plan) -> Run:
    """Restarts under load."""
    with kind(SERVER_CORE) as server:
        return loaded(server, keep_alive, plan, server.restart, plan.times)


def reloads(kind: type[Candidate], keep_alive: bool, plan: Plan) -> Run:
    """Reloads under load."""
    with kind(SERVER_CORE) as server:
        return loaded(server, keep_alive, plan, server.reload, plan.times)


def swaps(kind: type[Candidate], keep_alive: bool, plan: Plan) -> Run:
    """Reloads under load, each with new code."""
    with kind(SERVER_CORE) as server:

        def swap() -> float:
            server.swap()
            return server.reload()

        return loaded(server, keep_alive, plan, swap, max(1, plan.times // 3))


def kills(kind: type[Candidate], keep_alive: bool, plan: Plan) -> Run:
    """The end of one of two workers under load; once, since appd is slower to replace one that dies again and again."""
    with kind(SERVER_CORE, workers=2) as server:
        server.wait_workers()

        def kill() -> float:
            before = server.workers()
            os.kill(min(before), signal.SIGKILL)
            server.wait_answer(lambda pid: pid not in before)
            return time.monotonic()

        return loaded(server, keep_alive, plan, kill, 1)


ACTS: dict[str, Callable[[type[Candidate], bool, Plan], Run]] = {
    "restart": restarts,
    "reload": reloads,
    "swap": swaps,
    "kill": kills,
}


def burst(port: int) -> list[int]:
    """Opens connections all at once. Returns the process that answered each."""
    answers: list[int] = []
    clients = [socket.socket() for _ in range(BURST)]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            selector.register(client, selectors.EVENT_WRITE, client)
        received = dict.fromkeys(clients, b"")
        while len(answers) < BURST:
            for key, events in selector.select(10.0):
                one = key.data
                if events & selectors.EVENT_WRITE:
                    one.send(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                    selector.modify(one, selectors.EVENT_READ, one)
                elif data := one.recv(65536):
                    received[one] += data
                else:
                    selector.unregister(one)
                    answers.append(int(received[one].partition(b"\r\n\r\n")[2].split(None, 1)[0]))
                    one.close()
    return answers


def shares(kind: type[Candidate], plan: Plan) -> list[float]:
    """The busier worker's share of each burst."""
    with kind(None, workers=2) as server:
        server.wait_workers()
        found = []
        for _ in range(plan.bursts):
            answers = burst(server.port)
            found.append(max(answers.count(pid) for pid in set(answers)) / BURST)
            time.sleep(0.05)
        return found


def row(name: str, runs: list[Run]) -> list[object]:
    """One line of the table of an act."""
    total = counts(run.tally for run in runs)
    gaps = [longest_gap(run.tally.requests, window) for run in runs for window in run.windows]
    waits = [longest_wait(run.tally.requests, window) for run in runs for window in run.windows]
    return [
        name, total["requests"], *(total[one] for one in LOST), total["raced"], total["idle-closed"],
        sum(run.stale for run in runs),
        *(f"{one * 1000:.0f}" for one in (median(gaps), max(gaps), median(waits), max(waits))),
        *(f"{one * 1000:.1f}" for one in p99(runs)),
    ]  # fmt: skip


def p99(runs: list[Run]) -> tuple[float, float]:
    """The 99th percentile in seconds, in the steady state and while something was done: medians of the rounds."""
    steady = median(percentile(within(run.tally.requests, run.steady), 0.99) for run in runs)
    during = [[one for window in run.windows for one in within(run.tally.requests, window)] for run in runs]
    return steady, median(percentile(those, 0.99) for those in during)


def verdicts(taken: dict[tuple[str, str, str], list[Run]], bursts: dict[str, list[float]]) -> list[str]:
    """What was to be reached, and whether it was."""
    lines = []
    for mode in MODES:
        runs = [run for act in ("restart", "reload", "swap") for run in taken["appd", act, mode]]
        total = counts(run.tally for run in runs)
        lines.append(judged(f"{mode}: lost in restarts and reloads", sum(total[one] for one in LOST), 0, ""))
        if ("gunicorn", "restart", mode) in taken:
            ratio = _gap(taken["appd", "restart", mode]) / _gap(taken["gunicorn", "restart", mode])
            lines.append(judged(f"{mode}: restart gap against gunicorn's", ratio, 0.2, " x"))
        steady, during = p99(taken["appd", "reload", mode])
        lines.append(judged(f"{mode}: a reload adds to the 99th percentile", (during - steady) * 1000, 30, " ms"))
    lines.append(judged("share of the busier of two workers in a burst", median(bursts["appd"]), 0.8, ""))
    return lines


def _gap(runs: list[Run]) -> float:
    return median(longest_gap(run.tally.requests, window) for run in runs for window in run.windows)


def main() -> None:
    """Runs the rounds and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=10, help="restarts, and reloads, of each server in each round")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pause", type=float, default=5.0, help="milliseconds from an answer to the next request")
    parser.add_argument("--only", choices=[*ACTS, "burst"], help="one kind alone; nothing is judged then")
    parser.add_argument("--alone", action="store_true", help="appd without the other servers")
    parser.add_argument("--quick", action="store_true", help="see that it runs; the figures mean nothing")
    options = parser.parse_args()
    rounds, times, settle, number = options.rounds, options.times, 0.5, 20
    if options.quick:
        rounds, times, settle, number = 1, 1, 0.1, 2
    os.sched_setaffinity(0, {LOAD_CORE})
    plan = Plan(options.clients, options.pause / 1000, times, settle, number)
    print(f"{surroundings()}; {plan.clients} clients, {options.pause:g} ms between requests, {rounds} rounds")

    kinds = [Kept] if options.alone else installed([Kept, Gunicorn])
    acts = [one for one in ACTS if options.only in (None, one)]
    taken: dict[tuple[str, str, str], list[Run]] = {}
    bursts: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    for turn in range(rounds):
        for act in acts:
            for mode, keep_alive in MODES.items():
                for kind in kinds[:: -1 if turn % 2 else 1]:
                    run = ACTS[act](kind, keep_alive, plan)
                    taken.setdefault((kind.name, act, mode), []).append(run)
        for kind in kinds[:: -1 if turn % 2 else 1]:
            if options.only in (None, "burst"):
                bursts[kind.name] += shares(kind, plan)
    show(taken, bursts, acts, [kind.name for kind in kinds])
    if options.only is None:
        print("\n".join(["", *verdicts(taken, bursts)]))


def show(
    taken: dict[tuple[str, str, str], list[Run]], bursts: dict[str, list[float]], acts: list[str], names: list[str]
) -> None:
    """Prints the tables."""
    figures = ["gap", "longest", "wait", "longest", "p99", "during"]
    heads = ["requests", *LOST, "raced", "idle-closed", "stale", *figures]
    for act in acts:
        rows = [row(f"{name}, {mode}", taken[name, act, mode]) for mode in MODES for name in names]
        print(f"\n{table([act, *heads], rows)}")
    for name, those in bursts.items():
        if those:
            print(f"\nburst, {name}: busier worker's share, median {median(those):.2f} max {max(those):.2f}", end="")
    busiest = max((run.tally.busy for runs in taken.values() for run in runs), default=0.0)
    print(f"\nthe clients were computing for at most {busiest:.0%} of the time{' TOO MUCH' if busiest > 0.7 else ''}")


if __name__ == "__main__":
    main()
