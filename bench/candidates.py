"""The servers that are compared, each started as systemd would start it: with a socket that somebody else holds."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = [
    "Appd",
    "Candidate",
    "Ceiling",
    "Granian",
    "Gunicorn",
    "GunicornSync",
    "Kept",
    "TwistedWeb",
    "Uvicorn",
    "Waitress",
    "become_somebody",
    "installed",
]

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-bench" / "bin"
THREADS = 8
# Longer than any run: what is counted as closed was not closed for its age.
KEEP = 900
# Listening sockets wait in a queue of this length, as in the shipped unit.
BACKLOG = 4096
_PATIENCE = 30.0
# appd keeps its file some seconds after it has begun to serve.
_UNTIL_KEPT = 10.0
_CLONE_NEWUSER = 0x10000000
_SOMEBODY = 1000
# Before whoever measures binds itself to one.
ALL_CORES = os.sched_getaffinity(0)

# The body says who answered and which version of the code; load.BODY_END ends it.
APPLICATION = '''"""What every candidate serves."""
import os

VERSION = {version}
FILLING = b"x" * 63 + b"\\n"


LARGE = b"x" * 102400
MANY = [("X-Field-%d" % number, "a value of some length") for number in range(8)]


def application(environ, start_response):
    path, fields = environ["PATH_INFO"], [("Content-Type", "text/plain")]
    if path == "/hello":
        body = b"Hello, world!\\n"
    elif path == "/fields":
        body, fields = b"Hello, world!\\n", fields + MANY
    elif path == "/large":
        body = LARGE
    else:
        body = b"%d %d\\n" % (os.getpid(), VERSION) + FILLING * 16 + b"end\\n"
    start_response("200 OK", [*fields, ("Content-Length", str(len(body)))])
    return [body]


FILES = []


def files():
    if not FILES:
        from starlette.staticfiles import StaticFiles

        FILES.append(StaticFiles(directory="."))
    return FILES[0]


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        path, fields = scope["path"], [(b"content-type", b"text/plain")]
        body = b"%d %d\\n" % (os.getpid(), VERSION) + FILLING * 16 + b"end\\n"
        if path == "/hello":
            body = b"Hello, world!\\n"
        elif path == "/fields":
            body, fields = b"Hello, world!\\n", fields + [(one.encode(), two.encode()) for one, two in MANY]
        elif path == "/large":
            body = LARGE
        elif path == "/static/file":
            return await files()(scope, receive, send)
        headers = [*fields, (b"content-length", str(len(body)).encode())]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        await send({{"type": "http.response.body", "body": body}})
'''


class Candidate:
    """One server in a folder of its own.

    Args:
        core: The processor it runs on; None for any.
        workers: How many processes are to serve.

    Attributes:
        name: What the tables call it.
        port: Where it serves, on 127.0.0.1.
        pid: Its main process.

    Resource handling: a context manager; the end kills the processes and removes the folder and the socket.
    """

    name = ""
    program = ""
    # Whether it takes LISTEN_FDS; otherwise it binds the port itself.
    inherits = True
    # Whether its reload returns when the new code serves, not when the signal is sent.
    tells_when_reloaded = False
    # Further environment variables.
    environ: Mapping[str, str] = {}
    # The kinds of request that it answers.
    serves: Sequence[str] = ("hello", "fields", "large")

    def __init__(self, core: int | None = None, workers: int = 1) -> None:
        self._core = core
        self._workers = workers
        self.folder = Path(tempfile.mkdtemp(prefix="appd-bench-"))
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.port = self._socket.getsockname()[1]
        if not self.inherits:
            self._socket.close()
        self.pid = 0
        self.version = 0
        (self.folder / "static").mkdir()
        (self.folder / "static" / "file").write_bytes(b"x" * 102400)
        self.swap()

    def __enter__(self) -> Candidate:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.pid:
            os.waitpid(self.pid, 0)
        self._socket.close()
        shutil.rmtree(self.folder)

    def command(self) -> Sequence[str | Path]:
        """Its command line."""
        raise NotImplementedError

    def swap(self) -> None:
        """Writes the next version of the application."""
        self.version += 1
        file = self.folder / "application.py"
        fresh = file.with_suffix(".new")
        fresh.write_text(APPLICATION.format(version=self.version))
        # Python takes a cached file for the source of the same size and second.
        os.utime(fresh, (self.version, self.version))
        os.replace(fresh, file)

    def start(self) -> None:
        """Starts it and waits for its first answer."""
        self.launch()
        self.wait_answer(lambda _pid: True)

    def launch(self) -> None:
        """Starts it."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LISTEN_"))}
        for key in ("NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG_USEC", "RUNTIME_DIRECTORY", "INVOCATION_ID"):
            environ.pop(key, None)
        environ |= self.environ
        command = [os.fspath(one) for one in self.command()]
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._become(command, environ)
            finally:
                os._exit(127)

    def _become(self, command: list[str], environ: dict[str, str]) -> None:
        """In the child: what systemd does before execve(2)."""
        os.sched_setaffinity(0, {self._core} if self._core is not None else ALL_CORES)
        os.chdir(self.folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(said, 1)
        os.dup2(said, 2)
        if self.inherits:
            held = os.dup(self._socket.fileno())
            os.dup2(held, 3)
            environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
        os.closerange(4 if self.inherits else 3, 4096)
        os.execve(command[0], command, environ)

    def stop(self) -> None:
        """SIGTERM to the main process, and waits for its end: `systemctl stop` with KillMode=mixed."""
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)
        self.pid = 0

    def restart(self) -> float:
        """`systemctl restart`, to the first answer of the new process. Returns when that was, in monotonic seconds."""
        before = set(self.processes())
        self.stop()
        self.launch()
        self.wait_answer(lambda pid: pid not in before)
        return time.monotonic()

    def reload(self) -> float:
        """Its reload, until no process of before is left to answer.

        Returns:
            When it was said to be done, in monotonic seconds; where nobody says so, when it was.
        """
        before = self.workers()
        self.order_reload()
        said = time.monotonic()
        self.wait_answer(lambda pid: pid not in before)
        self._wait(lambda: not before & set(self.processes()), "the workers of before stay")
        return said if self.tells_when_reloaded else time.monotonic()

    def order_reload(self) -> None:
        """What the unit has as ExecReload=."""
        os.kill(self.pid, signal.SIGHUP)

    def processes(self) -> list[int]:
        """The main process and its descendants, all of which are children of a main thread.

        Other threads are not looked up: of a process whose /proc/PID/task/TID somebody has read, who waits for its end
        may spin in wait4(2) for as long as the kernel leaves a dying thread no processor (Linux before 7.1).
        """
        found = [self.pid] if self.pid else []
        for pid in found:
            try:
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
        return found

    def workers(self) -> set[int]:
        """The processes that serve; the main one where it serves itself."""
        return set(self.processes()[1:]) or {self.pid}

    def wait_workers(self) -> None:
        """Waits until as many different processes have answered as it has workers."""
        seen: set[int] = set()

        def all_answered(pid: int) -> bool:
            seen.add(pid)
            return len(seen & self.workers()) >= self._workers

        self.wait_answer(all_answered)

    def wait_answer(self, good: Callable[[int], bool]) -> None:
        """Asks until the process that answers is a good one."""
        self._wait(lambda: (pid := ask(self.port)) is not None and good(pid), "no answer")

    def _wait(self, predicate: Callable[[], bool], what: str) -> None:
        ends = time.monotonic() + _PATIENCE
        while not predicate():
            if time.monotonic() > ends:
                said = (self.folder / "said").read_text()[-2000:]
                raise TimeoutError(f"{self.name}: {what} in {_PATIENCE:.0f} s; it said:\n{said}")
            time.sleep(0.005)


def ask(port: int) -> int | None:
    """One request on a new connection. Returns who answered; None when it was not answered."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            whole = b"".join(iter(lambda: client.recv(65536), b""))
    except OSError:
        return None
    body = whole.partition(b"\r\n\r\n")[2]
    return int(body.split(None, 1)[0]) if body else None


class Appd(Candidate):
    """appd with its supervisor, from the environment that runs this, or another: $APPD_PROGRAM."""

    name = "appd"
    program = "appd"
    serves = ("hello", "fields", "large", "static")
    tells_when_reloaded = True

    def command(self) -> Sequence[str | Path]:
        return self.serve(
            "access-log off",
            "<wsgi>\n    application application:application\n  </wsgi>",
            f"<static>\n    path /static\n    root {self.folder}/static\n  </static>",
        )

    def serve(self, *parts: str) -> Sequence[str | Path]:
        """Writes the file of a server.

        Args:
            parts: Keys and sections of its `<http>`.

        Returns:
            The command that serves it.
        """
        file = self.folder / "appd.conf"
        lines = "".join(f"  {part}\n" for part in ("address systemd:name=http", *parts))
        file.write_text(
            f"workers {self._workers}\nthreads {THREADS}\npython-path {self.folder}\n<http bench>\n{lines}</http>\n"
        )
        return [self._path, "run", file, "--control", self.folder / "control"]

    @property
    def _path(self) -> Path:
        return Path(os.environ.get("APPD_PROGRAM") or Path(sys.executable).with_name(self.program))

    def order_reload(self) -> None:
        command: list[str | Path] = [self._path, "reload", "--socket", self.folder / "control"]
        # Where systemd would run it: beside the service, not beside the clients.
        pin = ["taskset", "-c", str(self._core)] if self._core is not None else []
        environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        subprocess.run([*pin, *command], check=True, capture_output=True, timeout=_PATIENCE, env=environ)


def become_somebody() -> None:
    """Has root be somebody else in a user namespace, and still the owner of what root owns: user_namespaces(7)."""
    if os.geteuid() == 0 and ctypes.CDLL(None).unshare(_CLONE_NEWUSER) == 0:
        Path("/proc/self/uid_map").write_text(f"{_SOMEBODY} 0 1")


class Kept(Appd):
    """appd as its unit has it: with a cache, and not as root, who has none.

    Who is root is somebody else then: `become_somebody`.
    """

    options: Sequence[str] = ()
    _made: Sequence[str | Path] = ()

    def command(self) -> Sequence[str | Path]:
        # Written once: a file of a later time would not be the one that is kept.
        if not self._made:
            self._made = [*super().command(), *self.options]
        return self._made

    def start(self) -> None:
        super().start()
        self.wait_kept()

    @property
    def is_kept(self) -> bool:
        """Whether the next start finds the file in the cache."""
        return any((self.folder / "cache").glob("*.json"))

    def wait_kept(self) -> None:
        """Waits until it is, for as long as that takes where there can be a cache."""
        ends = time.monotonic() + _UNTIL_KEPT
        while not self.is_kept and time.monotonic() < ends:
            time.sleep(0.1)

    def _become(self, command: list[str], environ: dict[str, str]) -> None:
        become_somebody()
        cache = self.folder / "cache"
        cache.mkdir(exist_ok=True)
        super()._become(command, environ | {"CACHE_DIRECTORY": str(cache)})


class Gunicorn(Candidate):
    """gunicorn with threads."""

    name = "gunicorn"
    program = "gunicorn"

    def command(self) -> Sequence[str | Path]:
        return [
            PEERS / self.program, "--worker-class", "gthread", "--threads", str(THREADS),
            "--workers", str(self._workers), "--worker-connections", "20000", "--keep-alive", str(KEEP),
            "--backlog", str(BACKLOG), "--no-control-socket", "application:application",
        ]  # fmt: skip


class GunicornSync(Gunicorn):
    """gunicorn without threads, which closes each connection."""

    name = "gunicorn sync"

    def command(self) -> Sequence[str | Path]:
        return [
            PEERS / self.program, "--worker-class", "sync", "--workers", str(self._workers), "--backlog", str(BACKLOG),
            "--no-control-socket", "application:application",
        ]  # fmt: skip


class Granian(Candidate):
    """granian's WSGI, in Rust but for the application."""

    name = "granian"
    program = "granian"
    inherits = False
    serves = ("hello", "fields", "large", "static")

    def command(self) -> Sequence[str | Path]:
        return [
            PEERS / self.program, "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", str(self._workers), "--blocking-threads", str(THREADS), "--backlog", str(BACKLOG),
            "--static-path-route", "/static", "--static-path-mount", self.folder / "static",
            "--no-access-log", "application:application",
        ]  # fmt: skip


class Uvicorn(Candidate):
    """uvicorn with uvloop and httptools; an ASGI application. On a port of its own: `--fd` misses TCP_NODELAY."""

    name = "uvicorn"
    program = "uvicorn"
    inherits = False
    serves = ("hello", "fields", "large", "static")

    def command(self) -> Sequence[str | Path]:
        return [
            PEERS / self.program, "--port", str(self.port), "--workers", str(self._workers), "--no-access-log",
            "--timeout-keep-alive", str(KEEP), "--backlog", str(BACKLOG), "application:asgi",
        ]  # fmt: skip


class Waitress(Candidate):
    """waitress."""

    name = "waitress"
    program = "waitress-serve"
    inherits = False

    def command(self) -> Sequence[str | Path]:
        return [
            PEERS / self.program, f"--listen=127.0.0.1:{self.port}", f"--threads={THREADS}",
            "--connection-limit=20000", f"--channel-timeout={KEEP}", "--asyncore-use-poll", "application:application",
        ]  # fmt: skip


class TwistedWeb(Candidate):
    """twisted.web's WSGI resource under twistd."""

    name = "twisted.web"
    program = "twistd"
    inherits = False
    environ: Mapping[str, str] = {"PYTHONPATH": "."}  # twistd does not look in the folder where it is started

    def command(self) -> Sequence[str | Path]:
        return [
            PEERS / self.program, "--nodaemon", "--pidfile=", "web", f"--listen=tcp:{self.port}:interface=127.0.0.1",
            "--wsgi=application.application",
        ]  # fmt: skip


class Ceiling(Candidate):
    """A loop in C that does nothing but answer: what is left is the kernel's, and wrk's."""

    name = "ceiling"
    program = "cc"
    serves = ("hello", "fields", "large", "static")

    def command(self) -> Sequence[str | Path]:
        program = self.folder / "ceiling"
        subprocess.run(["cc", "-O2", "-o", program, Path(__file__).with_name("ceiling.c")], check=True)
        return [program, self.folder / "static" / "file"]


def installed(kinds: Sequence[type[Candidate]]) -> list[type[Candidate]]:
    """Those that are there; the others are named."""
    there = [
        kind
        for kind in kinds
        if issubclass(kind, Appd) or (PEERS / kind.program).exists() or (kind is Ceiling and shutil.which(kind.program))
    ]
    for kind in kinds:
        if kind not in there:
            where = PEERS / kind.program if kind is not Ceiling else kind.program
            print(f"{kind.name} is left out: there is no {where}; `make bench` installs it")
    return there
