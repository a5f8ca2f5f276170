"""What could hurt the supervisor, and does not: control clients, hosted code that writes to NOTIFY_SOCKET, no descriptors."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from support.running import APPD, ask, listening, read_to, wait_until
from support.service import GATE

# What only a worker of appd's may say; hosted code runs in the same process and can say it too.
SPEAKS = """
import array, os, socket
def say(text, *fds):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sender.sendmsg([text if isinstance(text, bytes) else text.encode()], rights, 0, os.environ["NOTIFY_SOCKET"])
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


@pytest.fixture
def service(start, tmp_path):
    """Starts `appd run` on one WSGI application of which `make` is run first, in the worker."""

    class Service:
        def __init__(self, make="pass", before=""):
            (tmp_path / "speaks.py").write_text(f"{SPEAKS}def make():\n    {make}\n")
            self.passed = listening()
            self.control = str(tmp_path / "control")
            text = (
                f"python-path {tmp_path}\napplication-object speaks:make\n{before}"
                "<http h>\n address systemd:name=h\n <wsgi>\n  application speaks:app\n </wsgi>\n</http>\n"
            )
            arguments = ("--control", self.control)
            self.running = start(text, ("h", self.passed), arguments=arguments).wait_ready()
            self.process = self.running.process

        def pid(self):
            answer = ask(self.passed, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            return int(answer.rpartition(b"\n")[2])

        def call(self, *arguments):
            command = [APPD, *arguments, "--socket", self.control]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        def status(self):
            return json.loads(self.call("status", "--json").stdout)

        def connect(self):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(30)
            client.connect(self.control)
            return client

        def still_serves(self):
            """The same supervisor serves, reloads and stops."""
            assert self.process.poll() is None, self.running.errors
            assert self.pid()
            done = self.call("reload")
            assert done.returncode == 0, done.stderr + self.running.errors
            assert self.pid() and self.running.stop() == 0
            assert "Traceback" not in self.running.errors, self.running.errors

    return Service


def said(method, **parameters):
    return json.dumps({"method": method, "parameters": parameters}).encode() + b"\0"


def test_thousands_of_calls_in_one_write(service):
    """A client that does not wait for answers gets them all, in order."""
    made = service()
    with made.connect() as client:
        client.sendall(b'{"method":"x.y"}\0' * 3800)
        answers = b""
        while answers.count(b"\0") < 3800:
            data = client.recv(1 << 20)
            assert data, "it hung up"
            answers += data
    made.still_serves()


def test_a_client_that_talks_while_it_waits(service, tmp_path):
    """While its reload is under way nothing more is read from it: its memory stays that of one message."""
    made = service()
    (tmp_path / "speaks.py").write_text(GATE + SPEAKS + "def make():\n    pass\n")
    with made.connect() as client:
        client.sendall(said("io.appd.Reload"))
        wait_until(lambda: len(made.status()["workers"]) == 2)
        client.setblocking(False)
        sent, ends = 0, time.monotonic() + 1
        while time.monotonic() < ends and sent < 50_000_000:
            try:
                sent += client.send(b'{"method":"x.y"}\0' * 3000)
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < 5_000_000
    (tmp_path / "go").touch()
    wait_until(lambda: made.status()["reload"] is not None, 30)
    made.still_serves()


def test_a_namespace_that_is_no_text(service):
    """A lone surrogate, which JSON can say and UTF-8 cannot: refused."""
    made = service()
    with made.connect() as client:
        client.sendall(said("io.appd.SetLogLevel", level="debug", namespace="\ud800"))
        assert b"InvalidParameter" in read_to(client, b"\0")
        client.sendall(said("io.appd.SetLogLevel", level="debug", namespace="x" * 50_000))
        assert b"InvalidParameter" in read_to(client, b"\0")
        client.sendall(said("io.appd.\ud800", interface="\ud800"))
        assert b"MethodNotFound" in read_to(client, b"\0")
    made.still_serves()


def test_a_call_that_wants_no_answer(service):
    """`oneway`: it is done, a reload too, and the next answer is to the next call. No parameters may be `null`."""
    made = service()
    with made.connect() as client:
        for method in ("io.appd.Nothing", "io.appd.Status", "io.appd.Reload"):
            client.sendall(json.dumps({"method": method, "oneway": True}).encode() + b"\0")
        client.sendall(b'{"method": "io.appd.Status", "parameters": null}\0')
        assert json.loads(read_to(client, b"\0").rstrip(b"\0"))["parameters"]["generation"] == 2
    made.still_serves()


def test_two_reloads_of_one_client_in_one_write(service):
    """Both are answered."""
    made = service()
    with made.connect() as client:
        client.settimeout(30)
        client.sendall(said("io.appd.Reload") * 2)
        answers = b""
        while answers.count(b"\0") < 2:
            answers += client.recv(65536)
        assert answers == b'{"parameters": {"generation": 2}}\0{"parameters": {"generation": 3}}\0'
    made.still_serves()


def test_reloads_of_two_clients_where_the_first_has_more_to_ask(service, tmp_path):
    """The first is superseded, and its next reload, which waits behind, supersedes the second: all three are answered."""
    made = service()
    (tmp_path / "speaks.py").write_text(GATE + SPEAKS + "def make():\n    pass\n")
    with made.connect() as first, made.connect() as second:
        first.sendall(said("io.appd.Reload") * 2)
        wait_until(lambda: len(made.status()["workers"]) == 2)
        second.sendall(said("io.appd.Reload"))
        answers = read_to(first, b"\0")
        assert answers.startswith(b'{"error": "io.appd.ReloadFailed"')
        (tmp_path / "go").touch()
        if answers.count(b"\0") < 2:
            read_to(first, b"\0")
        assert second.recv(65536)
    made.still_serves()


SAID = {
    "a store that is no socket": 'say("{X}FDSTORE=1\\nFDNAME=appd-/tmp/x", 0)',
    "a store of a bad name": 'say("{X}FDSTORE=1\\nFDNAME=appd-a:b\\x00c", socket.socket().detach())',
    "a thousand workers": 'say("{X}X_APPD_WORKERS=999999999")',
    "no workers": 'say("{X}X_APPD_WORKERS=0\\nX_APPD_PREPARED=1")',
    "servers of odd names": 'say("{X}X_APPD_WORKERS=1\\nX_APPD_SERVERS=" + "[" * 50000)',
    "huge numbers": 'say("{X}ERRNO=" + "9" * 5000 + "\\nX_APPD_WATCHDOG=0\\nEXTEND_TIMEOUT_USEC=99999999999999999999")',
    "rubbish": 'say(b"{X}READY\\xff\\x00=\\n=\\n==1\\nX_APPD_KEEPS=\\x00\\n" * 100)',
    "the end": 'say("STOPPING=1")',
    "the beginning": 'say("READY=1"); say("READY=1")',
    "many descriptors": 'say("FDSTORE=1", *[0] * 250)',
    "an empty message": 'say("")',
    "a child": 'os.fork() or (say("{X}STOPPING=1\\nFDSTORE=1\\nFDNAME=appd-x", 0), os._exit(0))',
}


@pytest.mark.parametrize("what", SAID)
@pytest.mark.parametrize("marked", [False, True], ids=["as anybody", "as a worker"])
def test_hosted_code_says(service, what, marked):
    """Whatever a worker says, in whoever's name: the supervisor serves, or ends with one line and no traceback of its own."""
    make = SAID[what].replace("{X}", "X_APPD=1\\n" if marked else "")
    if marked and what in ("a thousand workers", "no workers", "servers of odd names"):
        pytest.skip("the first word on the workers of a file is the worker's own")
    service(make).still_serves()


def test_a_hosted_watchdog_does_not_hide_a_hang(service):
    """A thread of hosted code says WATCHDOG=1 for itself; the reactor that hangs is found all the same."""
    made = service("pass", "watchdog 3s\n")
    first = made.pid()
    speaks = (
        "import os, threading, time\n"
        "def beats():\n    while True:\n        say('WATCHDOG=1'); time.sleep(0.1)\n"
        "def hang():\n    from twisted.internet import reactor\n"
        "    if os.path.exists(os.path.join(os.path.dirname(__file__), 'go')):\n        time.sleep(60)\n"
        "    reactor.callLater(0.05, hang)\n"
        "def make():\n    from twisted.internet import reactor\n"
        "    threading.Thread(target=beats, daemon=True).start(); reactor.callLater(0.05, hang)\n"
    )
    path = Path(made.control).with_name("speaks.py")
    path.write_text(SPEAKS + speaks)
    assert made.call("reload").returncode == 0
    path.write_text(SPEAKS + "def make():\n    pass\n")
    path.with_name("go").touch()
    made.running.wait_said("has not answered for 3 s: it is killed")
    wait_until(lambda: made.status()["restarts"] == 1)
    assert first


def fds(pid):
    return sorted(os.listdir(f"/proc/{pid}/fd"), key=int)


def limit(pid, number):
    """Allows a process so many descriptors more than it has."""
    _soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most = int(fds(pid)[-1]) + 1 + number
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))
    return hard


def processor_time(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_no_descriptors_for_a_reload(service):
    """69 and one line; what serves goes on; nothing is left open; with descriptors again the next reload works."""
    made = service()
    before = fds(made.process.pid)
    with made.connect() as client:
        client.sendall(said("org.varlink.service.GetInfo"))
        read_to(client, b"\0")
        hard = limit(made.process.pid, 0)
        client.sendall(said("io.appd.Reload"))
        answer = json.loads(read_to(client, b"\0").rstrip(b"\0"))
        assert answer["error"] == "io.appd.ReloadFailed" and answer["parameters"]["exit"] == 69
        assert "no further process" in answer["parameters"]["reason"]
    resource.prlimit(made.process.pid, resource.RLIMIT_NOFILE, (1024, hard))
    assert made.pid()
    # A control connection of the test's own may have been counted before.
    wait_until(lambda: len(fds(made.process.pid)) <= len(before), explain=lambda: f"{before} {fds(made.process.pid)}")
    made.still_serves()


def test_no_descriptors_for_a_replacement(service):
    """A line, the other worker serves, and it is tried again until there is one."""
    made = service(before="workers 2\n")
    before = len(fds(made.process.pid))
    workers = {one["number"]: one["pid"] for one in made.status()["workers"]}
    # Until that client has gone.
    wait_until(lambda: len(fds(made.process.pid)) <= before)
    # Two of its descriptors go with the worker; the pair of a channel takes them, and the memfd has none.
    hard = limit(made.process.pid, 0)
    with made.connect():
        os.kill(workers[2], signal.SIGKILL)
        made.running.wait_said("worker 2 cannot be started: Too many open files")
        assert made.pid() == workers[1]
    resource.prlimit(made.process.pid, resource.RLIMIT_NOFILE, (1024, hard))
    wait_until(lambda: [one["state"] for one in made.status()["workers"]] == ["serving"] * 2, 30)
    made.still_serves()


def test_no_descriptors_for_a_control_client(service):
    """It waits in the queue; the supervisor does not spin."""
    made = service()
    hard = limit(made.process.pid, 0)
    with made.connect() as client:
        client.sendall(said("org.varlink.service.GetInfo"))
        used = processor_time(made.process.pid)
        time.sleep(2)
        assert processor_time(made.process.pid) - used < 0.5
        resource.prlimit(made.process.pid, resource.RLIMIT_NOFILE, (1024, hard))
        assert b"io.appd" in read_to(client, b"\0")
    made.still_serves()


def test_names_of_servers_with_signs(start, tmp_path):
    """A server's name may hold `=`, `|` and blanks: status tells it as it is."""
    control = str(tmp_path / "control")
    text = "<echo>\n address tcp:0:interface=127.0.0.1\n</echo>\n"
    running = start(text, arguments=("--control", control)).wait_ready()
    done = subprocess.run([APPD, "status", "--json", "--socket", control], capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout)["servers"] == ["echo:tcp:0:interface=127.0.0.1"]
    assert running.stop() == 0


def test_many_servers(start, tmp_path):
    """What a worker says of three hundred servers is one message, and what status says of them too."""
    control = str(tmp_path / "control")
    text = "".join(f"<echo {'long-' * 50}{n}>\n address 127.0.0.1:0\n</echo>\n" for n in range(300))
    running = start(text, arguments=("--control", control))
    running.wait_ready(60)
    done = subprocess.run([APPD, "status", "--json", "--socket", control], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["servers"]) == 300


def test_the_folder_has_gone(service):
    """Somebody removed the supervisor's folder: it serves, and its stop is still 0."""
    made = service()
    (mailbox,) = [
        line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()
        if f"/appd-{made.process.pid}-" in line and line.endswith("/notify")
    ]  # fmt: skip
    os.unlink(mailbox)
    os.rmdir(os.path.dirname(mailbox))
    assert made.pid()
    assert made.running.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a stranger")
def test_a_member_of_the_group_may_control(service):
    """Another user who has the group of the service among his."""
    made = service()
    os.chmod(made.control, 0o666)
    for parent in Path(made.control).parents:
        if "pytest" in str(parent):
            parent.chmod(0o755)
    command = ["setpriv", "--reuid=65534", "--regid=65534", f"--groups={os.getegid()}", APPD, "reload"]
    done = subprocess.run([*command, "--socket", made.control], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("alone", [False, True], ids=["supervised", "single"])
def test_no_further_thread(start, tmp_path, alone):
    """69 and a line that names what bounds them. A stack larger than the address space is one that no thread gets."""
    file = tmp_path / "appd.conf"
    file.write_text("<http h>\n address 127.0.0.1:0\n <redirect>\n  to https://x/\n </redirect>\n</http>\n")
    prlimit = shutil.which("prlimit")
    assert prlimit
    running = start("", command=[prlimit, f"--stack={1 << 47}", APPD, "run", str(file), *["--single"] * alone])
    assert running.wait_exit() == 69
    assert "TasksMax=" in running.errors and "fault" not in running.errors and "Traceback" not in running.errors
