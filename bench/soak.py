"""Mixed clients against one appd for minutes, with reloads: does it leak descriptors, threads or memory?

    .venv/bin/python bench/soak.py [--seconds 600] [--reload 30]

Before each reload the clients pause, and the worker is looked at when it is quiet: descriptors and threads must be
what they were after the first round, and memory (Pss) at the end within 5 % of what it was then. With `--reload 0` one
worker has to last for the whole time. Requests that are lost count too: a reload loses none.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

APPLICATION = """
import time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    size = len(environ["wsgi.input"].read())
    if path == "/fail":
        raise ValueError("on purpose")
    if path == "/sleep":
        time.sleep(0.02)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/large":
        return [b"x" * 3_000_000]
    if path == "/stream":
        return (b"y" * 65536 for _ in range(60))
    return [b"%d" % size]
"""
CONFIGURATION = """
python-path {folder}
threads 4
<log>
  level critical
</log>
<http soak>
  address 127.0.0.1:{port}
  address {folder}/sock
  <limits>
    response-spool 1MB
    upload-memory 10KB
  </limits>
  <wsgi>
    application soaked:application
  </wsgi>
  <static>
    path /static
    root {folder}/files
  </static>
</http>
"""
ROUND_WITHOUT_RELOAD = 20.0


class Clients:
    """Threads that ask, each in its manner, while they are allowed to."""

    def __init__(self, port: int, path: str) -> None:
        self.counts: Counter[str] = Counter()
        self._address = ("127.0.0.1", port)
        self._path = path
        self._allowed = threading.Event()
        self._busy: set[int] = set()
        self._end = False
        manners = [self.quick, self.quick, self.unix, self.upload, self.slow_reader, self.slow_writer, self.leaver]
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in manners * 2]
        for one in self._threads:
            one.start()

    def resume(self) -> None:
        self._allowed.set()

    def pause(self) -> None:
        """Returns when nobody asks any more."""
        self._allowed.clear()
        while self._busy:
            time.sleep(0.02)

    def close(self) -> None:
        self.pause()
        self._end = True
        self._allowed.set()
        for one in self._threads:
            one.join(20)

    def _run(self, manner) -> None:
        me = threading.get_ident()
        while True:
            self._allowed.wait()
            if self._end:
                return
            self._busy.add(me)
            try:
                if self._allowed.is_set():
                    manner()
                    self.counts[manner.__name__] += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.counts[f"LOST {manner.__name__}: {error!r}"] += 1
            finally:
                self._busy.discard(me)

    def _connect(self) -> socket.socket:
        return socket.create_connection(self._address, 20)

    def quick(self) -> None:
        """Some requests on a connection that stays."""
        connection = http.client.HTTPConnection(*self._address, timeout=20)
        try:
            for _ in range(10):
                path = random.choice(["/", "/sleep", "/fail", "/static/small", "/static/large", "/nowhere"])
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                assert response.status == (500 if path == "/fail" else 200), (path, response.status)
                # What a drain closes is opened again, as every client does.
        finally:
            connection.close()

    def unix(self) -> None:
        """Pipelined requests over the UNIX socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(self._path)
            request = b"GET / HTTP/1.1\r\nHost: x\r\n"
            client.sendall((request + b"\r\n") * 4 + request + b"Connection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
            assert answer.count(b"HTTP/1.1 200") == 5, answer[:200]

    def upload(self) -> None:
        """In chunks, through a file."""
        connection = http.client.HTTPConnection(*self._address, timeout=20)
        try:
            connection.request("POST", "/", body=iter([b"z" * 40_000] * 5), encode_chunked=True)
            assert connection.getresponse().read() == b"200000"
        finally:
            connection.close()

    def slow_reader(self) -> None:
        with self._connect() as client:
            path = random.choice([b"/large", b"/stream", b"/static/large"])
            client.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
            count = 0
            while part := client.recv(262144):
                count += len(part)
                time.sleep(0.005)
            assert count > 2_000_000, count

    def slow_writer(self) -> None:
        with self._connect() as client:
            for part in (
                b"POST / HT",
                b"TP/1.1\r\nHost: x\r\nConnection: close\r\n",
                b"Content-Length: 6\r\n\r\nab",
                b"cd",
                b"ef",
            ):
                client.sendall(part)
                time.sleep(0.02)
            assert b"\r\n\r\n6" in b"".join(iter(lambda: client.recv(65536), b""))

    def leaver(self) -> None:
        """Goes away, in the middle of anything, politely or not."""
        with self._connect() as client:
            start = random.choice(
                [
                    b"",
                    b"GET /lar",
                    b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nabc",
                ]
            )
            client.sendall(start)
            if random.random() < 0.5:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.01)


class State:
    """What a process has: descriptors, threads, memory in KB."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        self.threads = len(os.listdir(f"/proc/{pid}/task"))
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        self.memory = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))

    def __str__(self) -> str:
        return f"pid {self.pid}: {self.descriptors} descriptors, {self.threads} threads, {self.memory} KB"


def worker_of(supervisor: int) -> int:
    """The newest child of a process."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children")
    if children.exists():
        return max(map(int, children.read_text().split()))
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(supervisor)], capture_output=True, text=True, check=True)
    return max(map(int, found.stdout.split()))


def soak(appd: str, folder: Path, seconds: float, reload: float) -> bool:
    """Runs, and says whether nothing has leaked."""
    (folder / "files").mkdir()
    (folder / "files" / "small").write_bytes(b"s" * 100)
    (folder / "files" / "large").write_bytes(b"l" * 2_500_000)
    (folder / "files" / "nowhere").write_bytes(b"")
    (folder / "soaked.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = folder / "appd.conf"
    file.write_text(CONFIGURATION.format(folder=folder, port=port))
    process = subprocess.Popen([appd, "run", str(file), "--control", str(folder / "control")], stderr=sys.stderr)
    clients = None
    try:
        ends = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < ends and process.poll() is None, "it does not start"
                time.sleep(0.05)
        clients = Clients(port, str(folder / "sock"))
        return rounds(process, clients, appd, folder, seconds, reload)
    finally:
        if clients is not None:
            clients.close()
        process.send_signal(signal.SIGTERM)
        print("exit code", process.wait(60))


def rounds(process, clients: Clients, appd: str, folder: Path, seconds: float, reload: float) -> bool:
    """Lets the clients run, looks, reloads, again and again."""
    states: list[tuple[State, State]] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        clients.resume()
        if reload:
            # One in the middle, under load, and one at the end, when all is quiet.
            time.sleep(reload / 2)
            subprocess.run([appd, "reload", "--socket", str(folder / "control")], check=True)
            time.sleep(reload / 2)
        else:
            time.sleep(ROUND_WITHOUT_RELOAD)
        clients.pause()
        time.sleep(3)
        state = State(process.pid), State(worker_of(process.pid))
        states.append(state)
        print(f"supervisor {state[0]}\n    worker {state[1]}", flush=True)
    print(*(f"{count:8} {name}" for name, count in sorted(clients.counts.items())), sep="\n")
    good = not any(name.startswith("LOST") for name in clients.counts)
    # The first round warms up.
    first, last = states[min(1, len(states) - 1)], states[-1]
    for before, after in zip(first, last, strict=True):
        good &= after.descriptors <= before.descriptors and after.threads <= before.threads
        good &= after.memory <= before.memory * 1.05
    print("nothing has leaked" if good else "SOMETHING HAS LEAKED OR WAS LOST")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--reload", type=float, default=30, help="seconds between reloads; 0 for none")
    arguments = parser.parse_args()
    appd = str(Path(sys.executable).with_name("appd"))
    with tempfile.TemporaryDirectory() as folder:
        return not soak(appd, Path(folder), arguments.seconds, arguments.reload)


if __name__ == "__main__":
    sys.exit(main())
