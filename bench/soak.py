"""Mixed clients against one appd for minutes, with reloads: does it leak descriptors, threads or memory?

HTTP/1.1 and 2, plain and over TLS, WebSockets, uploads, slow ones and those that leave, for every kind of mount.

    .venv/bin/python bench/soak.py [--seconds 600] [--reload 30]

Now and then the clients pause, and both processes are looked at when they are quiet: descriptors and threads must be
what they were in the first rounds, and the memory (Pss) of a process that lasts for the whole time must not have grown
by more than 5 %, in the median of the second half. With reloads that is the supervisor, as each round has a worker of
its own; with `--reload 0` it is the worker too. Requests that are lost count: a reload loses none.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from soak_clients import Clients
from tls import free_port, make_certificates

APPLICATION = """
import time
from twisted.web.resource import Resource

def application(environ, start_response):
    path = environ["PATH_INFO"]
    size = len(environ["wsgi.input"].read())
    if path == "/fail":
        raise ValueError("on purpose")
    if path == "/sleep":
        time.sleep(0.02)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path.endswith("/large"):
        return [b"x" * 3_000_000]
    if path == "/stream":
        return (b"y" * 65536 for _ in range(60))
    return [b"%d" % size]

class Shelf(Resource):
    isLeaf = True
    def render_GET(self, request):
        return b"0" if b"large" not in request.path else b"w" * 2_500_000
    def render_POST(self, request):
        return b"%d" % len(request.content.read())

shelf = Shelf()

async def live(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": event["bytes"]})
        return
    assert scope["type"] == "http"
    size, more = 0, True
    while more:
        event = await receive()
        size, more = size + len(event.get("body", b"")), event.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"].endswith("large"):
        for _ in range(40):
            await send({"type": "http.response.body", "body": b"v" * 65536, "more_body": True})
    await send({"type": "http.response.body", "body": b"%d" % size})
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
  tls-address 127.0.0.1:{tls}
  <tls>
    certificate {certificate}
  </tls>
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
<http live>
  address 127.0.0.1:{live}
  tls-address 127.0.0.1:{live_tls}
  http2 on
  <tls>
    certificate {certificate}
  </tls>
  <wsgi>
    application soaked:application
  </wsgi>
  <asgi>
    path /live
    application soaked:live
  </asgi>
  <resource>
    path /shelf
    resource soaked:shelf
  </resource>
  <proxy>
    path /static
    upstream {folder}/sock
    # What is kept for later requests has gone when the worker is looked at.
    keep-alive 1s
  </proxy>
  <proxy>
    path /up
    upstream 127.0.0.1:{port}
    keep-alive 1s
  </proxy>
</http>
"""
ROUND_WITHOUT_RELOAD = 20.0


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
    make_certificates(folder / "certificates", 1)
    ports = {name: free_port() for name in ("port", "tls", "live", "live_tls")}
    certificate = folder / "certificates" / "0000.pem"
    file = folder / "appd.conf"
    file.write_text(CONFIGURATION.format(folder=folder, certificate=certificate, **ports))
    process = subprocess.Popen([appd, "run", str(file), "--control", str(folder / "control")], stderr=sys.stderr)
    clients = None
    try:
        ends = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", ports["live_tls"]), 1).close()
                break
            except OSError:
                assert time.monotonic() < ends and process.poll() is None, "it does not start"
                time.sleep(0.05)
        clients = Clients(ports, str(folder / "sock"))
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
    early, late = states[1 : len(states) // 2 + 1] or states, states[len(states) // 2 + 1 :] or states
    for place in (0, 1):
        before, after = [one[place] for one in early], [one[place] for one in late]
        good &= max(one.descriptors for one in after) <= max(one.descriptors for one in before)
        good &= max(one.threads for one in after) <= max(one.threads for one in before)
        if after[-1].pid == before[0].pid:
            good &= median(one.memory for one in after) <= median(one.memory for one in before) * 1.05
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
