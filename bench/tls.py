"""What TLS costs: handshakes and requests, one certificate against a thousand, and other servers beside appd.

usage: python bench/tls.py [--seconds S] [--turns N] [--certificates N] [--peers VENV] [--only NAME,…]

Every candidate serves the same small page with the same P-256 certificate. All of them run, and have the load by turns
of some seconds, in alternating order, the load on one processor and the servers on another: who waits costs nothing,
and what the machine does besides meets all alike. Printed: medians of the rates by the second of the server's processor
time (of its threads, by schedstat: what the load can do does not count), minimum, maximum, what one takes of that time,
and ratios, which are medians of those of each turn; and what came out by the clock, which depends on the load.
`--peers` is a virtual environment with uvicorn, granian and gunicorn; without it there is twisted.web alone.

start: from the first instruction to the first answer. handshakes: full ones, a new connection each, with a random one
of the names where there are many; 16 are under way at a time, so that the server seldom waits. resumed: the same with
a ticket. requests: on 64 keep-alive connections, by wrk. 100 KB: the same with an answer of that size. KB a
connection: the memory (PSS) of 500 idle ones that have asked once, in a server that has served nothing else.
`appd factory` is the same twisted.web Site as `twisted.web`, behind a tls-address. Nobody writes an access log; under
`twisted.web` nothing would take it, while a worker writes it to the journal.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import random
import re
import select
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

_APPLICATION = """
LARGE = b"x" * 102400
def application(environ, start_response):
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "102400")])
        return [LARGE]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\\n"]
async def asgi(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/large":
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"102400")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": LARGE})
    elif scope["type"] == "http":
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"6")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello\\n"})
def site():
    from twisted.web import resource, server
    class Hello(resource.Resource):
        isLeaf = True
        def render_GET(self, request):
            request.setHeader("content-type", "text/plain")
            return LARGE if request.path == b"/large" else b"hello\\n"
    class Quiet(server.Site):
        def log(self, request):
            pass
    return Quiet(Hello())
"""
_TWISTED = """
import sys
from twisted.internet import endpoints, reactor
from benchapp import site
port, pem = sys.argv[1:]
endpoints.serverFromString(reactor, f"ssl:{port}:interface=127.0.0.1:privateKey={pem}").listen(site())
reactor.run()
"""


# Figure, who, beside whom, the least ratio of medians, and the ambition.
TARGETS = (
    ("handshakes/s", "appd", "uvicorn", 1.1, 1.4),
    ("requests/s", "appd", "uvicorn", 1.6, 1.9),
    ("handshakes/s", "appd factory", "twisted.web", 1.0, 1.0),
    ("requests/s", "appd factory", "twisted.web", 1.0, 1.0),
    # A thousand names beside one.
    ("handshakes/s", "appd 1000", "appd", 0.9, 1.0),
)
# How many handshakes are under way at a time.
AT_ONCE = 16
# How much longer a start with the thousand may take, in seconds.
LATER = 1.0


def make_certificates(folder: Path, count: int) -> None:
    """One authority's certificates for n0.example to n(count-1).example, a PEM file each."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    root_key, root = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    root = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Bench")])
    folder.mkdir()
    for number in range(count):
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"n{number}.example"
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(root)
            .public_key(key.public_key())
            .serial_number(number + 1)
            .not_valid_before(now - day)
            .not_valid_after(now + 90 * day)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        file = folder / f"{number:04}.pem"
        file.touch(mode=0o600)
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(port: int, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), 20)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname=name, session=session)


_GET = b"GET / HTTP/1.1\r\nHost: n0.example\r\n\r\n"


def get(client: ssl.SSLSocket) -> None:
    client.sendall(_GET)
    said = b""
    while not said.endswith(b"hello\n"):
        data = client.recv(65536)
        if not data:
            raise ConnectionError(said)
        said += data


class Server:
    """A candidate that runs on processor 0.

    Args:
        command: Its command, with `PORT` for the port.
        folder: Where it runs.
    """

    def __init__(self, command: list[str], folder: Path) -> None:
        self.port = free_port()
        environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        command = ["taskset", "--cpu-list", "0", *(one.replace("PORT", str(self.port)) for one in command)]
        config = folder / f"{self.port}.conf"
        if any(one.endswith(".conf") for one in command):
            template = Path(next(one for one in command if one.endswith(".conf"))).read_text()
            config.write_text(template.replace("PORT", str(self.port)))
            command = [str(config) if one.endswith(".conf") else one for one in command]
        began = time.perf_counter()
        self.process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while True:
            try:
                with connect(self.port, client_context(), "n0.example") as client:
                    get(client)
                break
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - began > 60:
                    raise RuntimeError(f"{command} does not serve") from None
                time.sleep(0.01)
        self.started = time.perf_counter() - began
        self.start_cpu = self.cpu()

    def cpu(self) -> float:
        """The processor time of it and its children, in seconds."""
        return sum(_ran(task) for pid in _tree(self.process.pid) for task in _tasks(pid)) / 1e9

    def memory(self) -> float:
        """The PSS of it and its children, in KB."""
        total = 0.0
        for pid in _tree(self.process.pid):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(text.partition("\nPss:")[2].split()[0])
        return total

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _ran(task: Path) -> int:
    """How long a thread has run, in nanoseconds; utime and stime count ticks of the clock."""
    try:
        return int((task / "schedstat").read_text().split()[0])
    except OSError:
        return 0


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in _tasks(pid):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))


class Shaking:
    """Handshakes of many clients at a time, in one thread: of a client with a thread of its own half is Python's.

    Each connection is closed as soon as the client is done, without a word, as most clients do.

    Args:
        port: Where the server is.
        name: Called for the name to ask for.
        context: The client's.
        session: What is resumed; None for full handshakes.
    """

    def __init__(
        self,
        port: int,
        name: Callable[[], str],
        context: ssl.SSLContext,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._address = ("127.0.0.1", port)
        self._name, self._context, self._session = name, context, session
        self._poller = select.epoll()
        self._open: dict[int, tuple[socket.socket, ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]] = {}
        self.done = 0

    def run(self, seconds: float) -> None:
        """Shakes hands for a time.

        Args:
            seconds: How long.
        """
        ends = time.perf_counter() + seconds
        for _ in range(AT_ONCE):
            self._begin()
        while self._open:
            for fd, _event in self._poller.poll(20):
                self._go_on(fd)
                if time.perf_counter() < ends:
                    self._begin()
        self._poller.close()

    def _begin(self) -> None:
        if len(self._open) >= AT_ONCE:
            return
        plain = socket.create_connection(self._address, 20)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = self._context.wrap_bio(coming, going, server_hostname=self._name(), session=self._session)
        with contextlib.suppress(ssl.SSLWantReadError):
            made.do_handshake()
        plain.sendall(going.read())
        self._open[plain.fileno()] = plain, made, coming, going
        self._poller.register(plain.fileno(), select.EPOLLIN)

    def _go_on(self, fd: int) -> None:
        plain, made, coming, going = self._open[fd]
        data = plain.recv(65536)
        if not data:
            raise ConnectionError("the server has ended a handshake")
        coming.write(data)
        done = False
        with contextlib.suppress(ssl.SSLWantReadError):
            made.do_handshake()
            done = True
        if going.pending:
            plain.sendall(going.read())
        if not done:
            return
        self.done += 1
        del self._open[fd]
        plain.close()


def load(server: Server, seconds: float, shaking: Shaking) -> tuple[float, float]:
    """Shakes hands for a time.

    Returns:
        How many handshakes there were for a second of the server's processor time, and for a second of the clock.
    """
    before, began = server.cpu(), time.perf_counter()
    shaking.run(seconds)
    taken = time.perf_counter() - began
    return shaking.done / max(server.cpu() - before, 0.01), shaking.done / taken


def by_wrk(server: Server, seconds: float, path: str) -> tuple[float, float]:
    """As `load`, by wrk on 64 connections."""
    url = f"https://127.0.0.1:{server.port}{path}"
    command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), "wrk", "-t1", "-c64"]
    before, began = server.cpu(), time.perf_counter()
    done = subprocess.run(
        [*command, f"-d{max(1, round(seconds))}s", url], capture_output=True, text=True, check=True, timeout=120
    )
    count = int(re.findall(r"(\d+) requests in", done.stdout)[0])
    return count / max(server.cpu() - before, 0.01), count / (time.perf_counter() - began)


Load = Callable[[float], tuple[float, float]]


def loads(server: Server, names: int) -> dict[str, Load]:
    """Figure → what loads a server that runs for some seconds; see `load`."""
    context = client_context()
    shaking = partial(Shaking, server.port, lambda: f"n{random.randrange(names)}.example", context)
    found: dict[str, Load] = {"handshakes": lambda seconds: load(server, seconds, shaking())}
    if names > 1:  # every name once: the first connection for one makes its context
        for number in range(names):
            connect(server.port, context, f"n{number}.example").close()
        return found
    older = client_context()
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    with connect(server.port, older, "n0.example") as client:
        get(client)
        session = client.session
    resuming = partial(Shaking, server.port, lambda: "n0.example", older, session)
    found["resumed"] = lambda seconds: load(server, seconds, resuming())
    found["requests"] = lambda seconds: by_wrk(server, seconds, "/")
    found["100 KB"] = lambda seconds: by_wrk(server, seconds, "/large")
    return found


def connection_memory(server: Server, count: int = 500) -> float:
    """What an idle connection takes, in KB. Of a server that has served nobody else: what others gave back would do."""
    context = client_context()

    def open_idle(count: int) -> list[ssl.SSLSocket]:
        made = []
        for _ in range(count):
            made.append(connect(server.port, context, "n0.example"))
            get(made[-1])
        return made

    # What is made once, for the first connections: threads' stacks, arenas, imports.
    first = open_idle(50)
    time.sleep(1.0)
    before = server.memory()
    made = open_idle(count)
    time.sleep(0.5)
    taken = (server.memory() - before) / count
    for one in first + made:
        one.close()
    return taken


def candidates(folder: Path, count: int, peers: str | None) -> dict[str, tuple[list[str], int]]:
    """Name → command and how many names it serves."""
    (folder / "benchapp.py").write_text(_APPLICATION)
    (folder / "twistedweb.py").write_text(_TWISTED)
    one = folder / "one.pem"
    one.touch(mode=0o600)
    one.write_bytes((folder / "many" / "0000.pem").read_bytes())
    (folder / "key.pem").write_bytes(one.read_bytes()[one.read_bytes().index(b"-----BEGIN PRIVATE") :])
    text = (
        f"python-path {folder}\n<http bench>\n  tls-address 127.0.0.1:PORT\n  <tls>\n    certificate {{}}\n  </tls>\n"
        "  <wsgi>\n    application benchapp:application\n  </wsgi>\n</http>\n"
    )
    for name, certificate in (("one", one), ("many", folder / "many")):
        (folder / f"{name}.conf").write_text(text.format(certificate))
    (folder / "factory.conf").write_text(
        f"python-path {folder}\n<server>\n  type benchapp:site\n  tls-address 127.0.0.1:PORT\n"
        f"  <tls>\n    certificate {one}\n  </tls>\n</server>\n"
    )
    appd = str(Path(sys.executable).with_name("appd"))
    ours = {"appd": ("one", 1), f"appd {count}": ("many", count), "appd factory": ("factory", 1)}
    found = {
        **{
            name: ([appd, "run", str(folder / f"{file}.conf"), "--control", str(folder / f"{file}.control")], names)
            for name, (file, names) in ours.items()
        },
        "twisted.web": ([sys.executable, str(folder / "twistedweb.py"), "PORT", str(one)], 1),
    }
    if peers:
        tls = ["--ssl-certfile", str(one), "--ssl-keyfile", str(one)]
        found["uvicorn"] = (
            [
                f"{peers}/bin/uvicorn",
                "benchapp:asgi",
                "--port",
                "PORT",
                "--no-access-log",
                "--log-level",
                "error",
                *tls,
            ],
            1,
        )
        tls = ["--ssl-certificate", str(one), "--ssl-keyfile", str(folder / "key.pem")]
        granian = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", "PORT", "--no-ws", "--http", "1"]
        granian += ["--ssl-protocol-min", "tls1.2"]
        found["granian"] = ([f"{peers}/bin/granian", *granian, *tls, "benchapp:application"], 1)
        tls = ["--certfile", str(one), "--keyfile", str(one)]
        gthread = ["--worker-class", "gthread", "--threads", "8", "--bind", "127.0.0.1:PORT", *tls]
        found["gunicorn"] = ([f"{peers}/bin/gunicorn", "benchapp:application", *gthread], 1)
    return found


def ratio_of(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of each turn."""
    return statistics.median(one / max(other, 1e-9) for one, other in zip(ours, theirs, strict=True))


def main() -> None:
    """Loads the candidates by turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--certificates", type=int, default=1000)
    parser.add_argument("--peers", type=os.path.abspath)
    parser.add_argument("--only", help="candidates, by commas")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    taken: dict[str, dict[str, list[float]]] = {}

    def take(figure: str, one: str, value: float) -> None:
        taken.setdefault(figure, {}).setdefault(one, []).append(value)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_certificates(folder / "many", options.certificates)
        those = candidates(folder, options.certificates, options.peers)
        if options.only:
            those = {name: those[name] for name in options.only.split(",")}
        with contextlib.ExitStack() as running:
            work: dict[str, dict[str, Load]] = {}
            for one, (command, names) in those.items():
                server = running.enter_context(contextlib.closing(Server(command, folder)))
                take("start ms", one, server.started * 1000)
                take("start, processor ms", one, server.start_cpu * 1000)
                for figure, act in loads(server, names).items():
                    work.setdefault(figure, {})[one] = act
            for figure, acts in work.items():
                for turn in range(options.turns):
                    for one in list(acts)[:: -1 if turn % 2 else 1]:
                        rate, by_clock = acts[one](options.seconds)
                        take(f"{figure}/s", one, rate)
                        take(f"{figure}, by the clock", one, by_clock)
        for one, (command, names) in those.items():
            if names == 1:
                with contextlib.closing(Server(command, folder)) as server:
                    take("KB a connection", one, connection_memory(server))
    for figure, rows in taken.items():
        print(f"{figure}, {len(next(iter(rows.values())))} turns, rates by the second of the server's processor time")
        first = rows.get("appd") or next(iter(rows.values()))
        for one, values in rows.items():
            middle = statistics.median(values)
            each = f"  {1e6 / middle:6.1f} µs each" if figure.endswith("/s") else ""
            print(
                f"  {one:12} median {middle:9.1f}  min {min(values):9.1f}  max {max(values):9.1f}  "
                f"appd / this {ratio_of(first, values):6.2f}{each}"
            )
    for figure, ours, theirs, least, ambition in TARGETS:
        rows = taken.get(figure, {})
        if ours in rows and theirs in rows:
            ratio = ratio_of(rows[ours], rows[theirs])
            verdict = "reached" if ratio >= least else "MISSED"
            print(f"{figure}: {ours} {ratio:.2f} x {theirs} (to reach: {least}, ambition {ambition})  {verdict}")

    starts = taken.get("start ms", {})
    if "appd" in starts and "appd 1000" in starts:
        more = (statistics.median(starts["appd 1000"]) - statistics.median(starts["appd"])) / 1000
        verdict = "reached" if more <= LATER else "MISSED"
        print(f"a thousand names: the start takes {more:.2f} s more (to reach: {LATER})  {verdict}")


if __name__ == "__main__":
    main()
