"""A real appd in a process of its own, with descriptors passed as systemd passes them and a manager that listens."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

APPD = str(Path(sys.executable).with_name("appd"))
TWISTD = str(Path(sys.executable).with_name("twistd"))
_ACTIVATE = str(Path(__file__).with_name("activate.py"))

# How long a test waits for what has to come, in seconds: long on a machine that does much else, and shorter than the
# drain-timeout that a file has by itself, so that a stop that waits for it is found out.
PATIENCE = 25.0

# What systemd would set for a service; nothing of it may leak in from whoever runs the tests.
_CLEARED = (
    "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM",
    "INVOCATION_ID", "PYTHONPATH",
)  # fmt: skip


class Manager:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self.messages: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        os.chmod(self.path, 0o777)  # the process may give up root

    def read(self, timeout: float) -> dict[str, str] | None:
        """The next message, None when none comes in time."""
        self._socket.settimeout(max(timeout, 0.001))
        try:
            text = self._socket.recv(65536).decode()
        except TimeoutError:
            return None
        message = dict(line.split("=", 1) for line in text.splitlines())
        self.messages.append(message)
        return message

    def read_all(self) -> list[dict[str, str]]:
        """Every message so far."""
        while self.read(0) is not None:
            pass
        return self.messages

    def told(self) -> list[dict[str, str]]:
        """Every message so far that says more than that a start takes its time, as it may on a busy machine."""
        return [one for one in self.read_all() if set(one) != {"EXTEND_TIMEOUT_USEC"}]

    def close(self) -> None:
        self._socket.close()


class Running:
    """One process.

    Args:
        arguments: The command line.
        folder: Where its sockets and files go.
        passed: Name → socket, or a list of (name, socket) when one name has several.
        environ: Further environment variables.
        names: Whether LISTEN_FDNAMES is set.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        passed: Sequence[tuple[str, Any]] = (),
        environ: dict[str, str] | None = None,
        names: bool = True,
    ) -> None:
        self.manager = Manager(folder)
        fds = [one if isinstance(one, int) else one.fileno() for _name, one in passed]
        named = ":".join(name for name, _one in passed) if names else "-"
        surroundings = {key: value for key, value in os.environ.items() if key not in _CLEARED}
        surroundings |= {"NOTIFY_SOCKET": self.manager.path, **(environ or {})}
        command = [sys.executable, _ACTIVATE, ":".join(map(str, fds)), named, *arguments]
        # A session of its own, so that a test may send a signal to the whole of it, as a terminal does.
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=surroundings,
            pass_fds=fds,
            cwd=folder,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.err: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.err.append(line.decode(errors="replace").rstrip("\n"))

    @property
    def errors(self) -> str:
        """What it has said on standard error."""
        return "\n".join(self.err)

    def wait_ready(self, timeout: float = 60.0) -> Running:
        """Waits for READY=1."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            message = self.manager.read(0.05)
            if message is not None and message.get("READY") == "1":
                return self
            if message is None and self.process.poll() is not None:
                self._reader.join(5)
                raise AssertionError(f"it ended with {self.process.returncode} before READY=1:\n{self.errors}")
        raise AssertionError(f"no READY=1 in {timeout} s:\n{self.errors}")

    def wait_said(self, text: str, timeout: float = PATIENCE) -> str:
        """Waits for a line on standard error that contains a text, and returns it."""
        return wait_until(lambda: next((line for line in self.err if text in line), None), timeout, lambda: self.errors)

    def wait_exit(self, timeout: float = PATIENCE) -> int:
        """Waits for the end and returns the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(5)
        return code

    def stop(self, number: int = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.wait_exit(timeout)

    def close(self) -> None:
        # Workers of a supervisor that has gone, stopped ones too, would keep its pipes open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.manager.close()


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[Running, int]]:
    """One appd for all tests of a file: it serves `systemd:name=web` of appd.conf, stops well, and has no traceback to tell.

    Args:
        folder: Holds appd.conf.

    Returns:
        It, and its port.
    """
    with socket.create_server(("127.0.0.1", 0)) as sock:
        running = Running([APPD, "run", str(folder / "appd.conf")], folder, [("web", sock)])
        try:
            running.wait_ready().wait_said("ready: ")
            yield running, sock.getsockname()[1]
            assert running.stop() == 0
            assert "Traceback" not in running.errors
        finally:
            running.close()


def wait_until(predicate: Any, timeout: float = PATIENCE, explain: Any = lambda: "") -> Any:
    """Calls a predicate until it is true, and returns what it returned."""
    ends = time.monotonic() + timeout
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() > ends:
            raise AssertionError(f"not within {timeout} s. {explain()}")
        time.sleep(0.01)


MADE: list[socket.socket] = []
"""What `listening` and `datagram` made; a fixture closes them after each test."""


def listening(family: int = socket.AF_INET, address: Any = ("127.0.0.1", 0), backlog: int = 77) -> socket.socket:
    """A bound, listening stream socket, as a .socket unit would have made it."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    MADE.append(sock)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.listen(backlog)
    return sock


def datagram(family: int = socket.AF_INET, address: Any = ("127.0.0.1", 0)) -> socket.socket:
    """A bound datagram socket."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    MADE.append(sock)
    sock.bind(address)
    return sock


def read_to(client: Any, text: bytes) -> bytes:
    """Reads until a text has come: a stream may be cut anywhere, and what was sent at once may come in pieces."""
    data = b""
    while text not in data:
        more = client.recv(65536)
        assert more, f"the end after {data!r}, and no {text!r}"
        data += more
    return data


def read_exactly(client: Any, size: int) -> bytes:
    """So many bytes, and fewer at the end."""
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


def spare_port(below: int = 0) -> int:
    """A TCP and UDP port of 127.0.0.1 that nobody has, for what is to bind it later.

    The kernel gives none of them to whoever asks for any, as tests do that run beside this one.

    Args:
        below: It has to be below that one.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    top = below or (first if first > 12_000 else 65_536)
    for port in random.SystemRandom().sample(range(top // 2, top), 50):
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        ):
            stream.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port is free below {top}")


def refusing_port() -> int:
    """A port of 127.0.0.1 that refuses connections until the test is over: it is bound, and does not listen."""
    sock = socket.socket()
    MADE.append(sock)
    sock.bind(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    return port


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Allows this process and what it starts so many open files, if anybody may; what was allowed before comes back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ask(sock_or_address: Any, data: bytes, family: int | None = None, timeout: float = PATIENCE) -> bytes:
    """Connects, sends, ends its side, and reads to the end."""
    if isinstance(sock_or_address, socket.socket):
        family, address = sock_or_address.family, sock_or_address.getsockname()
    else:
        address = sock_or_address
    with socket.socket(family or socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        client.connect(address)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))
