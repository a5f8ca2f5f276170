"""<process>: children of other houses with the sockets of their addresses, kept running, and ended."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from support.running import APPD, ask, datagram, listening, wait_until
from support.service import Service, gone

GUNICORN = str(Path(sys.executable).with_name("gunicorn"))
# Uses the protocol by the letter of sd_listen_fds(3), and says what it found.
AWARE = """
import os, select, signal, socket, sys, time
from systemd import daemon
names = daemon.listen_fds_with_names()
found = {fd: name for fd, name in names.items()}
print("pid", os.environ["LISTEN_PID"] == str(os.getpid()), "names", sorted(found.items()), flush=True)
print("leaked", sorted(k for k in os.environ if k in ("NOTIFY_SOCKET", "APPD_CHANNEL", "WATCHDOG_USEC")), flush=True)
print("open", sorted(int(one) for one in os.listdir("/proc/self/fd") if int(one) > 2)[:-1], flush=True)
print("<3>an error of mine", flush=True)
print("to standard error", file=sys.stderr, flush=True)
print("mine", os.environ.get("Mine"), os.getcwd(), sys.argv[1:], flush=True)
stubborn = "stubborn" in sys.argv
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
if "child" in sys.argv and os.fork() == 0:
    time.sleep(600)
if "ends" in sys.argv:
    sys.exit(3)
first = socket.socket(fileno=min(found))
first.setblocking(False)
while stubborn or signal.sigtimedwait([signal.SIGTERM], 0) is None:
    if select.select([first], [], [], 0.05)[0]:
        try:
            client, _peer = first.accept()
        except BlockingIOError:
            continue
        client.sendall(str(os.getpid()).encode())
        client.close()
"""


@pytest.fixture
def kept(start, tmp_path):
    (tmp_path / "aware.py").write_text(AWARE)
    return partial(Service, start, tmp_path)


def section(tmp_path, arguments="", more="", addresses=("systemd:name=h",)):
    lines = "".join(f" address {one}\n" for one in addresses)
    command = f" command {sys.executable} {tmp_path}/aware.py {arguments}\n"
    return f"<process p>\n{lines}{command}{more}</process>\n"


def served(made, path="/"):
    """Which process of an HTTP server answers."""
    answer = ask(made.passed, f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode(), timeout=60)
    assert answer.startswith(b"HTTP/1.0 200 ")
    return int(answer.rpartition(b"\n")[2])


def pid_of(made):
    return int(ask(made.passed, b""))


def test_what_a_child_is_given(kept, tmp_path):
    """Sockets on 3 and up in the order of the file, their names, its own PID; nothing that is appd's."""
    udp, unix = datagram(), listening(socket.AF_UNIX, str(tmp_path / "u.sock"))
    text = section(
        tmp_path,
        "'two words' $$HOME",
        f" directory {tmp_path}\n <environment>\n  Mine  it is\n </environment>\n",
        ("systemd:name=h", "systemd:name=u", "systemd:name=d", "127.0.0.1:0"),
    )
    made = kept("", text, [("u", unix), ("d", udp)])
    said = made.running.wait_said
    said("pid True names [(3, 'h'), (4, 'u'), (5, 'd'), (6, 'p')]")
    said("leaked []")
    said("open [3, 4, 5, 6]")
    said("to standard error")
    said(f"mine it is {tmp_path} ['two words', '$HOME']")
    assert said("an error of mine").startswith("<3>")
    assert not gone(pid_of(made))
    child = pid_of(made)
    assert made.running.stop() == 0
    assert gone(child)
    made.running.wait_said("has ended with 0")


def test_gunicorn(kept, tmp_path):
    """A server that knows socket activation, with workers of its own: serves, is reloaded under load, is stopped."""
    text = (
        "<process shop>\n address systemd:name=h\n"
        f" command {GUNICORN} --workers 2 --threads 2 --graceful-timeout 10 hosted:app\n directory {tmp_path}\n</process>\n"
    )
    made = kept("", text)
    first = served(made)
    made.running.wait_said("Listening at: ")
    answers, stop = [], threading.Event()

    def clients():
        while not stop.is_set():
            answers.append(served(made))

    client = threading.Thread(target=clients)
    client.start()
    try:
        assert made.reload().returncode == 0
        wait_until(lambda: made.running.errors.count("Listening at: ") >= 2, 30)
        seen = len(answers)
        wait_until(lambda: len(answers) >= seen + 5)
    finally:
        stop.set()
        client.join()
    assert gone(first) and answers[-1] != first
    slow = threading.Thread(target=lambda: answers.append(served(made, "/slow")))
    slow.start()
    wait_until((tmp_path / "begun").exists)
    before = len(answers)
    assert made.running.stop() == 0
    slow.join()
    assert len(answers) == before + 1, "what is in flight is answered"


def test_it_is_started_again(kept, tmp_path):
    """A killed child at once after the pause; the pauses grow while it does not live."""
    made = kept("", section(tmp_path, "", " restart-after 100ms\n"))
    first = pid_of(made)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: gone(first))
    assert wait_until(lambda: pid_of(made)) != first
    made.running.wait_said("was ended by SIGKILL")
    made.running.stop()
    made = kept("", section(tmp_path, "ends", " restart-after 100ms\n"))
    for pause in "0.1", "0.2", "0.4", "0.8":
        made.running.wait_said(f"s; it is started again in {pause} s")
    assert "has ended with 3 after" in made.running.errors
    assert made.running.stop() == 0


def test_a_reload_changes_the_child(kept, tmp_path):
    """One at a time: the next is started when that before has gone, and who connects meanwhile waits."""
    made = kept("workers 2\n", section(tmp_path))
    first = pid_of(made)
    made.file.write_text(made.text.replace("aware.py", "aware.py changed"))
    assert made.reload().returncode == 0
    wait_until(lambda: gone(first))
    second = pid_of(made)
    # Of `processes all` each worker has one.
    made.file.write_text(made.text.replace(" command", " processes all\n command"))
    assert made.reload().returncode == 0
    wait_until(lambda: gone(second))
    seen = set()
    wait_until(lambda: seen.add(pid_of(made)) or len(seen) == 2)


def test_a_rollback(kept, tmp_path):
    """The child of the generation before serves again."""
    made = kept("", section(tmp_path))
    pid_of(made)
    (tmp_path / "late.py").write_text(
        "from twisted.internet.protocol import Factory\n"
        "class F(Factory):\n    def startFactory(self):\n        raise RuntimeError('late')\ndef factory():\n    return F()\n"
    )
    made.file.write_text(made.text + f"<server s>\n type late:factory\n address {tmp_path}/late.sock\n</server>\n")
    assert made.reload().returncode != 0
    assert not gone(pid_of(made))
    assert made.status()["generation"] == 1


def test_who_does_not_end_is_killed(kept, tmp_path):
    """After stop-timeout, and with what it has started."""
    made = kept("", section(tmp_path, "stubborn child", " stop-timeout 300ms\n"))
    child = pid_of(made)
    session = subprocess.run(["ps", "-o", "pid=", "-s", str(child)], capture_output=True, text=True, check=True)
    everyone = [int(one) for one in session.stdout.split()]
    assert len(everyone) == 2
    assert made.running.stop() == 0
    assert all(gone(one) for one in everyone)
    made.running.wait_said("has not ended after SIGTERM and is killed")


def test_it_dies_with_its_worker(kept, tmp_path):
    """A worker that is killed leaves no second child behind."""
    made = kept("", section(tmp_path))
    child = pid_of(made)
    (worker,) = made.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: gone(child))
    assert wait_until(lambda: pid_of(made)) != child


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("command no-such-program -x", "appd.conf:3: command: there is no program 'no-such-program' that can be run in PATH ("),
        ("command ./nothing", "appd.conf:3: command: there is no program '"),
        ("command sh 'x", "no closing quotation"),
        ("command sh\n directory /no/such", "appd.conf:4: directory /no/such: there is no such folder"),
        ("command sh\n <limits>\n  connections 1\n </limits>", "connections is no limit of <process>"),
        ("command sh\n tls-address 81\n <tls>\n  certificate x.pem\n </tls>", "x.pem"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, said):
    file = tmp_path / "appd.conf"
    file.write_text(f"<process p>\n address systemd:name=x\n {text}\n</process>\n")
    done = subprocess.run([APPD, "check", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78 and re.search(re.escape(said), done.stderr), done.stderr
