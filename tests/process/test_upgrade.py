"""The installed package is replaced while it serves: a reload brings new workers, and then a new supervisor in its place."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import threading
from collections import Counter
from pathlib import Path

import pytest
from support.running import APPD, listening, wait_until

INSTALLED = Path(sysconfig.get_path("purelib")) / "appd"
APPLICATION = """
import appd, os
from twisted.internet.protocol import Factory, Protocol
class Says(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)
def factory():
    return Factory.forProtocol(Says)
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "40")])
    return [f"{appd.__version__} {os.getpid()}".ljust(40).encode()]
"""


class Load:
    """Requests from some threads, half of them on connections that are kept; `results` says what became of them."""

    def __init__(self, passed, threads=6):
        self.address, self.results, self._end = passed.getsockname(), Counter(), threading.Event()
        self._threads = [threading.Thread(target=self._loop, args=(number % 2 == 0,)) for number in range(threads)]

    def _loop(self, keeps):
        client = None
        while not self._end.is_set():
            try:
                fresh = client is None
                client = client or socket.create_connection(self.address, timeout=30)
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"Connection: close\r\n" * (not keeps) + b"\r\n")
                answer = b""
                while not re.search(rb"\r\n\r\n[^\n]{40}$", answer):
                    data = client.recv(65536)
                    if not data:
                        break
                    answer += data
                if not answer and not fresh:
                    # RFC 9112, 9.3.1: an idle connection may be closed at any time, and the request is sent again.
                    self.results["idle"] += 1
                    client.close()
                    client = None
                    continue
                self.results["ok" if answer.startswith(b"HTTP/1.1 200 ") else f"bad {answer[:40]!r}"] += 1
                if not keeps or b"connection: close" in answer.lower():
                    client.close()
                    client = None
            except (BrokenPipeError, ConnectionResetError) as error:
                self.results["idle" if not fresh else type(error).__name__] += 1
                client = None
            except OSError as error:
                self.results[type(error).__name__] += 1
                client = None
        if client is not None:
            client.close()

    def __enter__(self):
        for one in self._threads:
            one.start()
        wait_until(lambda: self.results["ok"] > 20)
        return self

    def __exit__(self, *_):
        self._end.set()
        for one in self._threads:
            one.join()


@pytest.fixture
def service(start, tmp_path):
    """`appd run` from a copy of the installed package, on two workers."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    package = tmp_path / "lib" / "appd"
    shutil.copytree(INSTALLED, package)

    class Service:
        def __init__(self):
            self.package = package
            self.passed, self.control = listening(), str(tmp_path / "control")
            text = (
                f"python-path {tmp_path}\nworkers 2\n"
                "<http h>\n address systemd:name=h\n <wsgi>\n  application hosted:app\n </wsgi>\n</http>\n"
                f"<server e>\n type hosted:factory\n address {tmp_path}/e.sock\n</server>\n"
            )
            self.environ = {
                "PYTHONPATH": str(tmp_path / "lib"),
                "PYTHONDONTWRITEBYTECODE": "1",
                "WATCHDOG_USEC": "4000000",
            }
            arguments = ("--control", self.control)
            self.running = start(text, ("h", self.passed), arguments=arguments, environ=self.environ).wait_ready()
            self.pid = self.running.process.pid

        def call(self, *arguments):
            command = [APPD, *arguments, "--socket", self.control]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        def reload(self):
            done = self.call("reload")
            assert done.returncode == 0, done.stderr + self.running.errors
            return done

        def status(self):
            done = self.call("status", "--json")
            assert done.returncode == 0, f"{done.stderr}\n{self.running.errors}"
            return json.loads(done.stdout)

        def serving(self):
            return {one["number"]: one["pid"] for one in self.status()["workers"] if one["state"] == "serving"}

        def children(self):
            return {int(one) for one in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()}

        def descriptors(self):
            """What each descriptor is, without the numbers that tell sockets apart; one is that of who asks."""
            found = []
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(30)
                client.connect(self.control)
                # When the second is answered, the ends of earlier clients and of workers have been seen.
                for _ in range(2):
                    client.sendall(b'{"method": "org.varlink.service.GetInfo"}\0')
                    while not (data := client.recv(65536)).endswith(b"\0"):
                        assert data
                for one in Path(f"/proc/{self.pid}/fd").iterdir():
                    try:
                        found.append(re.sub(r"\d+", "", os.readlink(one)))
                    except FileNotFoundError:
                        continue
            return sorted(found)

        def settled(self):
            """Only the serving workers are there."""
            wait_until(lambda: self.children() == set(self.serving().values()), 40)

        def write(self, path, *changes):
            """Puts a changed module in its place, as an installation does."""
            file = self.package / path
            text = file.read_text()
            for before, after in changes:
                assert before in text
                text = text.replace(before, after)
            fresh = file.with_suffix(".new")
            fresh.write_text(text)
            os.replace(fresh, file)

        def rename(self, before, after):
            """Renames a module, and every use of it."""
            os.rename(self.package / f"{before}.py", self.package / f"{after}.py")
            old, new = (f"appd.{one.replace('/', '.')}" for one in (before, after))
            for file in self.package.rglob("*.py"):
                if f"{old} import" in file.read_text():
                    self.write(file.relative_to(self.package), (f"{old} import", f"{new} import"))

        def upgrade(self, version):
            self.write("__init__.py", ("0.1.0", version))

    return Service


def serves_on(made, version):
    """The new program does everything: a reload, a worker that is killed, a stop, and leaves nobody."""
    pids = made.serving()
    os.kill(pids[2], signal.SIGKILL)
    wait_until(lambda: made.serving().get(2) not in (None, pids[2]), 30)
    made.reload()
    assert made.status()["version"] == version
    made.settled()
    children = made.children()
    assert made.running.stop(timeout=60) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert "Traceback" not in made.running.errors
    assert not Path(made.control).exists() and not (made.package.parents[1] / "e.sock").exists()


def test_an_upgrade_under_load(service):
    """Modules renamed, the supervisor's own too: same PID, no request lost, new code everywhere, no descriptor more."""
    made = service()
    made.reload()
    made.settled()
    before, workers, generation = made.descriptors(), made.serving(), made.status()["generation"]
    with Load(made.passed) as load:
        made.rename("worker/channel", "worker/wire")
        made.rename("supervisor/overview", "supervisor/account")
        made.rename("worker/lifecycle", "worker/life")
        made.upgrade("0.2.0")
        assert made.reload().stdout == f"generation {generation + 1} serves\n"
        status = made.status()
        count = load.results["ok"]
        wait_until(lambda: load.results["ok"] > count + 50)
    assert set(load.results) <= {"ok", "idle"}, load.results
    assert (status["version"], status["pid"]) == ("0.2.0", made.pid)
    assert status["reload"]["exit"] == 0 and status["generation"] == generation + 1
    assert "the supervisor goes on as appd 0.2.0" in made.running.errors
    assert not set(made.serving().values()) & set(workers.values())
    made.settled()
    assert made.descriptors() == before
    with socket.create_connection(made.passed.getsockname(), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"0.2.0 " in b"".join(iter(lambda: client.recv(65536), b""))
    manager = made.running.manager
    manager.read_all()
    assert wait_until(lambda: (manager.read(3) or {}).get("WATCHDOG") == "1")
    serves_on(made, "0.2.0")


def test_only_workers_code_has_changed(service):
    """The supervisor stays what it is, and the workers are new."""
    made = service()
    made.rename("worker/channel", "worker/wire")
    made.reload()
    assert "goes on as" not in made.running.errors
    serves_on(made, "0.1.0")


BROKEN = {
    "does not compile": ("from __future__", "nonsense from __future__", "SyntaxError"),
    "other format": ("FORMAT = 1", "FORMAT = 99", "the state has format 1, this version knows 99"),
    "misses a fact": ('state["folder"]', 'state["nowhere"]', "the state cannot be used: KeyError 'nowhere'"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_new_code_that_cannot_go_on(service, what):
    """The reload is done, the supervisor stays with one line, and takes the next version."""
    made = service()
    before, after, said = BROKEN[what]
    made.write("supervisor/renewal.py", (before, after))
    made.upgrade("0.2.0")
    made.reload()
    made.running.wait_said("this supervisor stays as it was")
    lines = [line for line in made.running.err if "this supervisor stays as it was" in line]
    assert len(lines) == 1 and said in lines[0]
    assert made.status()["version"] == "0.1.0"
    made.write("supervisor/renewal.py", (after, before))
    made.reload()
    serves_on(made, "0.2.0")


def test_a_program_without_renewal(service):
    """A version that does not know what is asked of it, as after a downgrade: nothing of it is run."""
    made = service()
    made.write("commands/arguments.py", ('"resumable"', '"something-else"'))
    made.upgrade("0.2.0")
    made.reload()
    made.running.wait_said("this supervisor stays as it was: it ended with 64 when it was tried")
    serves_on(made, "0.1.0")


def test_signals_and_deaths_on_the_way(service):
    """A new program that takes long to begin: who died meanwhile is replaced, who was told to stop stops."""
    made = service()
    made.write(
        "supervisor/root.py", ("    state = read_state(", "    import time; time.sleep(3)\n    state = read_state(")
    )
    made.upgrade("0.2.0")
    asker = subprocess.Popen([APPD, "reload", "--socket", made.control], stdout=subprocess.PIPE, text=True)
    # It is executed when it has opened the state, which the earlier one has not got open.
    wait_until(lambda: b"\0run\0" in Path(f"/proc/{made.pid}/cmdline").read_bytes() and blocks_signals(made.pid), 30)
    with socket.create_connection(made.passed.getsockname(), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"0.2.0 " in b"".join(iter(lambda: client.recv(65536), b""))
    victim = max(made.children())
    os.kill(victim, signal.SIGKILL)
    out, _ = asker.communicate(timeout=60)
    assert (asker.returncode, out) == (0, "generation 2 serves\n")
    made.running.wait_said("was killed by SIGKILL")
    wait_until(lambda: len(made.serving()) == 2 and victim not in made.serving().values(), 30)
    assert not [pid for pid in made.children() if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()]
    made.write("__init__.py", ("0.2.0", "0.3.0"))
    os.kill(made.pid, signal.SIGHUP)
    wait_until(lambda: blocks_signals(made.pid), 30)
    assert made.running.stop(timeout=60) == 0


def blocks_signals(pid):
    """Whether SIGTERM is blocked, as over the execution, and longer than in a fork."""
    mask = re.search(r"SigBlk:\s+(\w+)", Path(f"/proc/{pid}/status").read_text()).group(1)
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1) and b"\0APPD_RESUME=" in b"\0" + environ


def test_workers_outlive_the_execution(service):
    """PR_SET_PDEATHSIG is of the thread that forked, which goes on: workers that serve an old connection are not told."""
    made = service()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(made.package.parents[1] / "e.sock"))
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        made.upgrade("0.2.0")
        made.reload()
        assert made.status()["version"] == "0.2.0"
        wait_until(lambda: "generation 1 drains 1 connection" in made.status()["status"])
        client.sendall(b"two")
        assert client.recv(10) == b"two"
    made.settled()
    serves_on(made, "0.2.0")
    with pytest.raises(FileNotFoundError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(made.package.parents[1] / "e.sock"))


def test_a_killed_new_supervisor_takes_its_workers_along(service):
    """kill -9 after the execution: the workers leave by themselves."""
    made = service()
    made.upgrade("0.2.0")
    made.reload()
    made.settled()
    children = made.children()
    made.running.process.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 30)
