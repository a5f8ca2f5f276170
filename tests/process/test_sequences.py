"""Whatever happens in whatever order: one generation serves in the end, and nothing is left behind.

Random sequences against a real service: reloads that succeed, fail and overtake each other, workers that are killed,
stopped and worn. A failure names its seed; APPD_TEST_SEED runs that one again, APPD_TEST_SECONDS gives more time.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from support.running import APPD, ask, listening, wait_until
from support.service import HTTP, Service

SECONDS = float(os.environ.get("APPD_TEST_SECONDS", "15"))
SEEDS = [int(os.environ["APPD_TEST_SEED"])] if "APPD_TEST_SEED" in os.environ else range(10**6)
KEYS = "workers 2\nwatchdog 3s\nmax-requests 40\ndrain-timeout 5s\nreload-drain-timeout 5s\n"
SERVERS = (
    HTTP + "<server s>\n type theirs:factory\n address systemd:name=s\n</server>\n<echo e>\n address {}\n</echo>\n"
)


class Life:
    """What can happen to a service.

    Args:
        made: The service.
        folder: Where its hosted code is.
        one: The socket of the server that runs in one process only.
    """

    def __init__(self, made, folder, one):
        self.made, self.folder, self.one = made, folder, one
        self.code = (folder / "hosted.py").read_text()
        self.askers = []
        self.kills = 0
        self.random = random.Random()

    def reload(self):
        """A good one, waited for."""
        done = self.made.reload()
        # A worker that was killed in the middle of it is a reason to fail.
        assert done.returncode in (0, 70, 75), done
        if done.returncode == 0:
            self.kills = 0

    def reload_and_go_on(self):
        """One that the next thing may meet, another reload too."""
        command = [APPD, "reload", "--socket", self.made.control]
        self.askers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def bad_file(self):
        """It is refused."""
        self.settle()
        self.made.file.write_text(self.made.text + "no such key\n")
        assert self.made.reload().returncode == 78
        self.made.file.write_text(self.made.text)

    def bad_code(self):
        """An application that does not import is refused."""
        self.settle()
        (self.folder / "hosted.py").write_text("raise RuntimeError('broken release')\n")
        assert self.made.reload().returncode == 78
        (self.folder / "hosted.py").write_text(self.code)

    def kill(self, number=signal.SIGKILL, states=("loading", "prepared", "starting", "serving", "draining")):
        """Any worker of any generation; not so often that the pauses before a replacement grow long."""
        workers = [one for one in self.made.status()["workers"] if one["state"] in states]
        if self.kills < 3 and workers:
            self.kills += 1
            try:
                os.kill(self.random.choice(workers)["pid"], number)
            except ProcessLookupError:
                self.kills -= 1

    def terminate(self):
        """As above, by a signal that it can obey."""
        self.kill(signal.SIGTERM)

    def freeze(self):
        """It does not answer any more: the watchdog kills it. One that loads may take any time, as imports do."""
        self.kill(signal.SIGSTOP, ("prepared", "starting", "serving", "draining"))

    def wear(self):
        """Requests until both have asked to be recycled; a worker that is killed takes some of them with it."""
        for _ in range(60):
            try:
                ask(self.made.passed, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", timeout=5)
            except OSError:
                continue

    def settle(self):
        """Waits until nothing is on its way; then exactly one generation serves, with what it should have."""
        for asker in self.askers:
            assert asker.wait(30) in (0, 70, 75)
        self.askers.clear()
        if self.kills >= 3:
            self.reload()

        def settled():
            status = self.made.status()
            states = [(one["generation"], one["state"]) for one in status["workers"]]
            return not status["draining"] and states == [(status["generation"], "serving")] * 2 and status

        status = wait_until(settled, 60, lambda: f"{self.made.status()}\n{self.made.running.errors[-3000:]}")
        pids = {one["pid"] for one in status["workers"]}
        assert ask(self.made.passed, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(
            b"HTTP/1.1 200"
        )
        assert len({ask(self.one, b"pid") for _ in range(5)}) == 1
        assert ask(str(self.folder / "e.sock"), b"x", socket.AF_UNIX) == b"x"
        return pids

    def children(self):
        """Every child of the supervisor, zombies too."""
        pid = self.made.running.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def descriptors(self):
        """How many descriptors the supervisor has open."""
        return len(os.listdir(f"/proc/{self.made.running.process.pid}/fd"))


THINGS = (
    *(Life.reload, Life.reload_and_go_on, Life.reload_and_go_on, Life.bad_file, Life.bad_code),
    *(Life.kill, Life.kill, Life.terminate, Life.freeze, Life.wear),
)


@pytest.fixture
def life(start, tmp_path):
    """A service with several kinds of socket, in a RuntimeDirectory of its own."""
    one, runtime = listening(), tmp_path / "runtime"
    runtime.mkdir()
    made = Service(
        partial(start, environ={"RUNTIME_DIRECTORY": str(runtime)}),
        tmp_path,
        KEYS,
        SERVERS.format(tmp_path / "e.sock"),
        more=[("s", one)],
    )
    yield Life(made, tmp_path, one)
    assert made.running.stop(timeout=60) == 0, "it did not leave in peace"
    assert in_session(made.running.process.pid) == [], "a process is left"
    assert list(runtime.iterdir()) == [] and not Path(made.control).exists(), "a socket or a folder is left"
    assert not (tmp_path / "e.sock").exists(), "the path of a socket is left"


def in_session(leader):
    """The processes of a session; the tests start each service in its own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            found.append(path.parent.name)
    return found


def test_random_sequences(life):
    """After each: one generation, as many workers as the file wants, no zombie, no descriptor more than before."""
    life.settle()
    descriptors = life.descriptors()
    ends = time.monotonic() + SECONDS
    for seed in SEEDS:
        life.random.seed(seed)
        things = [life.random.choice(THINGS) for _ in range(life.random.randint(2, 5))]
        words = f"APPD_TEST_SEED={seed}: {', '.join(one.__name__ for one in things)}"
        try:
            for one in things:
                one(life)
                if life.random.random() < 0.3:
                    life.settle()
            wait_until(lambda: life.children() == life.settle(), 30, lambda: f"children: {life.children()}")
            wait_until(lambda: life.descriptors() == descriptors, 10, life.descriptors)
        except AssertionError as error:
            raise AssertionError(f"{words}\n{error}\n{life.made.running.errors[-4000:]}") from error
        if time.monotonic() > ends:
            return
