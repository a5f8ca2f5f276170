"""`idle-exit`: the service ends when nobody uses it, and whoever comes at whatever moment is served, by it or the next."""

from __future__ import annotations

import random
import re
import select
import socket
import subprocess
import sys
import threading
import time

import pytest
from support.running import APPD, TWISTD, Running, ask, datagram, listening, wait_until

CONFIGURATION = "idle-exit 5s\nworkers 2\n<echo e>\n address systemd:name=e\n address systemd:name=d\n</echo>\n"


class Holder:
    """Holds sockets as systemd does, and starts the service whenever something waits in a queue and none runs."""

    def __init__(self, folder, text=CONFIGURATION, arguments=()):
        folder.mkdir()
        self.stream, self.datagram = listening(), datagram()
        self.folder, self.codes, self.running, self.errors = folder, [], None, []
        self.began = threading.Event()
        (folder / "appd.conf").write_text(text)
        self._command = [APPD, "run", str(folder / "appd.conf"), *arguments]
        self._end, self._thread = threading.Event(), threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self):
        poll = select.poll()
        for one in (self.stream, self.datagram):
            poll.register(one, select.POLLIN)
        while not self._end.is_set():
            if not poll.poll(50):
                continue
            folder = self.folder / str(len(self.codes))
            folder.mkdir()
            self.running = Running(self._command, folder, [("e", self.stream), ("d", self.datagram)])
            try:
                self.began.set()
                code = self.running.wait_exit(120)
                # Before the code: whoever sees that may look at these.
                self.errors += self.running.err
                self.codes.append(code)
            finally:
                self.running.close()

    def close(self):
        self._end.set()
        running = self.running
        if running is not None and running.process.poll() is None:
            running.process.terminate()
        self._thread.join(60)

    def ask(self, number):
        """A connection, or every third time a datagram, is answered."""
        data = f"number {number}".encode()
        if number % 3:
            return ask(self.stream, data, timeout=60) == data
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(30)
            client.connect(self.datagram.getsockname())
            client.send(data)
            return client.recv(100) == data


def arrivals(holder, seed, results):
    """Five arrivals, each about when the service makes up its mind, or the moment it says that it goes."""
    chance = random.Random(seed)
    for number in range(5):
        results.append(holder.ask(number))
        ended, ends = len(holder.codes), time.monotonic() + chance.uniform(5.0, 8.0)
        while time.monotonic() < ends and len(holder.codes) == ended:
            if number % 2 and any("nothing to do" in line for line in holder.running.err):
                break
            time.sleep(0.005)


def test_arrivals_at_any_moment(tmp_path):
    """Forty arrivals at eight instances: all are answered, and most instances ended with 0 in between."""
    holders = [Holder(tmp_path / str(number)) for number in range(8)]
    results = [[] for _ in holders]
    clients = [
        threading.Thread(target=arrivals, args=(holder, seed, results[seed])) for seed, holder in enumerate(holders)
    ]
    try:
        for one in clients:
            one.start()
        for one in clients:
            one.join()
    finally:
        for one in holders:
            one.close()
    assert results == [[True] * 5] * 8
    codes = [code for one in holders for code in one.codes]
    assert set(codes) == {0}
    assert sum("nothing to do" in line for one in holders for line in one.errors) >= 8, codes


def test_it_ends_and_is_woken(tmp_path):
    """0 with STOPPING=1 after five idle seconds, with one line; an open connection keeps it; the next one wakes it."""
    holder = Holder(tmp_path / "it")
    try:
        with socket.create_connection(holder.stream.getsockname(), timeout=30) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            time.sleep(8)
            assert holder.codes == []
            began = time.monotonic()
        wait_until(lambda: holder.codes == [0], 30)
        assert time.monotonic() - began > 4.5
        assert any("nothing to do: the service ends until somebody connects" in line for line in holder.errors)
        assert holder.ask(1) and len(holder.codes) == 1
    finally:
        holder.close()
    assert holder.codes == [0, 0]


@pytest.mark.parametrize("how", ["single", "twistd"])
def test_a_worker_alone(tmp_path, how):
    """The same without a supervisor."""
    holder = Holder(tmp_path / "it", CONFIGURATION.replace("workers 2\n", ""), ("--single",) * (how == "single"))
    if how == "twistd":
        holder._command = [TWISTD, "-n", "--pidfile=", "appd", "--config", str(tmp_path / "it" / "appd.conf")]
    try:
        assert holder.ask(0) and holder.ask(1)
        wait_until(lambda: holder.codes == [0], 30)
        assert holder.ask(3)
    finally:
        holder.close()
    assert holder.codes == [0, 0]


def test_a_reload_wakes(start, tmp_path):
    """A reload begins the wait anew, and what the file says then counts."""
    passed, udp, control = listening(), datagram(), str(tmp_path / "control")
    running = start(CONFIGURATION, ("e", passed), ("d", udp), arguments=("--control", control)).wait_ready()
    file = running.manager.path.replace("notify", "appd.conf")
    with open(file, "w") as out:
        out.write(CONFIGURATION.replace("5s", "never"))
    time.sleep(1)
    subprocess.run([APPD, "reload", "--socket", control], check=True, timeout=60)
    time.sleep(8)
    assert running.process.poll() is None and ask(passed, b"x") == b"x"
    assert running.stop() == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("idle-exit 4s\n", "'4s' is too short: never, or at least 5s"),
        ("idle-exit soon\n", "'soon' is not a length of time"),
        (
            "idle-exit 5s\n<echo>\n address 127.0.0.1:0\n</echo>\n",
            "idle-exit is for sockets that systemd keeps, and 127.0.0.1:0 is bound by appd",
        ),
    ],
)
def test_check_refuses(tmp_path, text, said):
    """78 and the reason, with the line."""
    (tmp_path / "appd.conf").write_text(text + "<echo e>\n address systemd:name=e\n</echo>\n")
    command = [sys.executable, "-m", "appd", "check", str(tmp_path / "appd.conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78 and done.stderr.count("\n") == 1
    assert said in done.stderr and re.match(r".*appd\.conf:\d+: ", done.stderr)


def test_run_refuses_what_it_would_bind(start):
    """A name that systemd has not passed and `--bind` stands in for: nobody would wake the service."""
    text = "idle-exit 5s\n<echo e>\n address systemd:name=e\n</echo>\n"
    running = start(text, arguments=("--bind", "e=127.0.0.1:0"))
    assert running.wait_exit() == 78
    assert "idle-exit is for sockets that systemd keeps, and systemd:name=e is bound by appd" in running.errors
