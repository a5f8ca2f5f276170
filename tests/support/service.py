"""A service of `appd run` whose answers say which process gave them, and clients that count what becomes of them."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from support.running import APPD, Running, ask, listening, wait_until

# /slow takes a while, /wait until there is a file `go`; `begun` is there when either has begun, beside the code.
PID_APPLICATION = """
import os, time
HERE = os.path.dirname(os.path.abspath(__file__))
def app(environ, start_response):
    if environ["PATH_INFO"] in ("/slow", "/wait"):
        open(os.path.join(HERE, "begun"), "w").close()
    if environ["PATH_INFO"] == "/slow":
        time.sleep(1.5)
    while environ["PATH_INFO"] == "/wait" and not os.path.exists(os.path.join(HERE, "go")):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
PID_FACTORY = """
import os, time
from twisted.internet.protocol import Factory, Protocol
class Says(Protocol):
    def dataReceived(self, data):
        if data == b"hang":
            time.sleep(60)
        self.transport.write(str(os.getpid()).encode())
        self.transport.loseConnection()
def factory():
    return Factory.forProtocol(Says)
"""
# Before the code of a module: its import takes until there is a file `go` beside it; it has begun when there is `begun`.
GATE = """
import os, time
open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "begun"), "w").close()
while not os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), "go")):
    time.sleep(0.01)
"""
HTTP = "<http h>\n address systemd:name=h\n <wsgi>\n  application hosted:app\n </wsgi>\n</http>\n"


def gone(pid: int) -> bool:
    """Whether a process has ended. Who has lost its parent stays a zombie for as long as the first process does not look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Service:
    """One service with a socket `h` and a control socket.

    Args:
        start: The fixture of that name.
        folder: Where hosted code and the control socket go.
        before: Keys of the process.
        servers: The sections; without them an application that answers with its PID.
        more: Names and sockets beside `h`.
    """

    def __init__(
        self,
        start: Callable[..., Running],
        folder: Path,
        before: str = "",
        servers: str = "",
        more: Sequence[tuple[str, Any]] = (),
    ) -> None:
        for name, text in (("hosted", PID_APPLICATION), ("theirs", PID_FACTORY)):
            if not (folder / f"{name}.py").exists():
                (folder / f"{name}.py").write_text(text)
        self.passed = listening()
        self.control = str(folder / "control")
        self.servers = servers or HTTP
        self.text = f"python-path {folder}\n{before}{self.servers}"
        passed = [("h", self.passed), *more]
        self.running = start(self.text, *passed, arguments=("--control", self.control)).wait_ready()
        self.file = Path(self.running.manager.path).with_name("appd.conf")

    def pid(self, path: str = "/") -> int:
        """Which process answers."""
        answer = ask(self.passed, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 ")
        return int(answer.rpartition(b"\n")[2])

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of `appd` that uses the control socket."""
        command = [APPD, *arguments, "--socket", self.control]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def reload(self) -> subprocess.CompletedProcess[str]:
        return self.call("reload")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call("status", "--json").stdout)
        return found

    def workers(self) -> set[int]:
        """The processes that serve."""
        return {one["pid"] for one in self.status()["workers"] if one["state"] == "serving"}


# How long a connection is silent before a server that drains, or a worker that is recycled, ends it, in seconds.
LINGER = 0.2


class Load:
    """Requests from some threads until it is left; `results` says what became of them.

    On a kept connection no request is expected to be answered that was sent later than LINGER after the one before: whoever
    is as slow as that, on a busy machine, may find that the server has ended the connection in peace (RFC 9112, 9.3.1).

    Args:
        address: The socket.
        threads: How many clients.
        keep: Whether they keep their connections until they are told to close them; else each request has its own.
    """

    def __init__(self, address: Any, threads: int = 6, keep: bool = False) -> None:
        self.address = address
        self.results: Counter[str] = Counter()
        self.connections = 0
        self._end = threading.Event()
        loop = self._loop_kept if keep else self._loop
        self._threads = [threading.Thread(target=loop) for _ in range(threads)]

    def _loop(self) -> None:
        while not self._end.is_set():
            try:
                answer = ask(self.address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", timeout=30)
                self.results["ok" if re.search(rb"\r\n\r\n\d+$", answer) else f"bad {answer[:40]!r}"] += 1
            except OSError as error:
                self.results[type(error).__name__] += 1

    def _loop_kept(self) -> None:
        while not self._end.is_set():
            connection = http.client.HTTPConnection(*self.address.getsockname(), timeout=30)
            self.connections += 1
            try:
                self._use(connection)
            except (OSError, http.client.HTTPException) as error:
                self.results[type(error).__name__] += 1
            finally:
                connection.close()

    def _use(self, connection: http.client.HTTPConnection) -> None:
        last, before = False, None
        while not last and not self._end.is_set():
            begins, asked = time.monotonic(), None
            try:
                connection.request("GET", "/")
                asked = time.monotonic()
                answer = connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                if before is None or (asked or time.monotonic()) - before < LINGER:
                    raise
                return
            before = begins
            last = answer.getheader("Connection") == "close"
            self.results["ok" if answer.status == 200 and answer.read().isdigit() else f"bad {answer.status}"] += 1

    def __enter__(self) -> Load:
        for one in self._threads:
            one.start()
        wait_until(lambda: self.results["ok"] > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for one in self._threads:
            one.join()
