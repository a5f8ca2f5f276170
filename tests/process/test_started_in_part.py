"""A generation that does not come to serve, though some of it has begun: whom it has accepted, it answers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from support.running import APPD, listening, wait_until
from support.service import HTTP, PID_APPLICATION, Service

WAIT = b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# Starts when there is a file, and then as it says there.
LATE = """
import os, time
from twisted.internet.protocol import Factory
class Late(Factory):
    def doStart(self):
        while not os.path.exists("late"):
            time.sleep(0.01)
        if open("late").read():
            raise RuntimeError("too late")
"""
TWO = HTTP + "<server late>\n type late:Late\n address 127.0.0.1:0\n</server>\n"
# The second worker cannot import it, as soon as there is a file.
SECOND_FAILS = PID_APPLICATION + (
    "while os.environ['APPD_WORKER'] == '2':\n"
    "    if os.path.exists(os.path.join(HERE, 'fail')):\n"
    "        raise RuntimeError('of the second')\n"
    "    time.sleep(0.01)\n"
)


@pytest.fixture
def service(start, tmp_path):
    """Starts a server that answers with its PID."""
    return partial(Service, start, tmp_path)


def stop(pid):
    """Stops all threads of a process."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    wait_until(lambda: all((one / "stat").read_text().rpartition(")")[2].split()[0] == "T" for one in tasks.iterdir()))


@pytest.mark.parametrize("why", ["superseded", "failed"])
def test_a_reload_that_has_begun_to_accept(service, tmp_path, why):
    """All was prepared, and one of the servers is slow to start: what the others have accepted is answered."""
    (tmp_path / "late.py").write_text(LATE)
    made = service()
    (first,) = made.workers()
    made.file.write_text(made.text + TWO.removeprefix(HTTP))
    command = [APPD, "reload", "--socket", made.control]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as reload:
        (second,) = wait_until(lambda: {w["pid"] for w in made.status()["workers"] if w["state"] == "starting"})
        stop(first)  # so that the other one accepts
        with socket.create_connection(made.passed.getsockname(), 30) as client:
            client.sendall(WAIT)
            wait_until((tmp_path / "begun").exists)
            os.kill(first, signal.SIGCONT)
            if why == "superseded":
                made.file.write_text(made.text)
                assert made.reload().returncode == 0
            made.file.with_name("late").write_text("fails" * (why == "failed"))
            _out, said = reload.communicate(timeout=30)
            assert reload.returncode == (75 if why == "superseded" else 78), said
            (tmp_path / "go").touch()
            assert client.recv(65536).endswith(str(second).encode())
    # It is told to go in the moment of the verdict, and may have accepted until then.
    wait_until(lambda: made.pid() != second)
    wait_until(lambda: len(made.status()["workers"]) == 1)


def test_a_start_of_which_the_second_worker_fails(start, tmp_path):
    """The first has answered early: it ends what it has begun, and the exit code and STATUS= are of what was wrong."""
    (tmp_path / "hosted.py").write_text(SECOND_FAILS)
    passed = listening()
    running = start(f"workers 2\npython-path {tmp_path}\n{HTTP}", ("h", passed))
    with socket.create_connection(passed.getsockname(), 30) as client:
        client.sendall(WAIT)
        wait_until((tmp_path / "begun").exists)
        (tmp_path / "fail").touch()
        running.wait_said("of the second")
        time.sleep(0.3)
        (tmp_path / "go").touch()
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert running.wait_exit() == 78
    said = [one["STATUS"] for one in running.manager.read_all() if "STATUS" in one]
    assert said[-1].startswith("cannot start: ") and "RuntimeError: of the second" in said[-1]
    assert not any("READY" in one for one in running.manager.messages)


def test_nothing_can_serve_any_more(service, tmp_path):
    """Code that is broken by now, and a worker that dies: what an earlier generation still answers is answered."""
    made = service()
    with socket.create_connection(made.passed.getsockname(), 30) as client:
        client.sendall(WAIT)
        wait_until((tmp_path / "begun").exists)
        assert made.reload().returncode == 0
        (tmp_path / "hosted.py").write_text("raise RuntimeError('broken by now')\n")
        os.utime(tmp_path / "hosted.py", (1, 1))
        os.kill(made.workers().pop(), signal.SIGKILL)
        made.running.wait_said("RuntimeError: broken by now")
        time.sleep(0.3)
        (tmp_path / "go").touch()
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert made.running.wait_exit() == 78
    said = [one["STATUS"] for one in made.running.manager.read_all() if "STATUS" in one]
    assert said[-1].startswith("cannot start: ") and "broken by now" in said[-1]
