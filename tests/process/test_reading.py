"""A generation is one reading of its file: what somebody does to the file counts from the next reload on."""

from __future__ import annotations

import os
import shutil
import signal
from functools import partial

import pytest
from support.running import wait_until
from support.service import HTTP, Service


@pytest.fixture
def service(start, tmp_path):
    """Starts a server of two workers, the section of which is in a folder of its own."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "h.conf").write_text(HTTP)
    servers = f"%include {tmp_path}/conf/h.conf\n"
    return partial(Service, start, tmp_path, "workers 2\n", servers)


def spoil(made, tmp_path):
    (tmp_path / "conf" / "h.conf").write_text(
        HTTP.replace("application hosted:app", "application hosted:app\n  rubbish")
    )


def cut(made, tmp_path):
    made.file.write_text(made.text[:20])


def remove(made, tmp_path):
    shutil.rmtree(tmp_path / "conf")
    made.file.unlink()


def close(made, tmp_path):
    made.file.write_text("workers 1\n<echo e>\n address 127.0.0.1:0\n</echo>\n")


@pytest.mark.parametrize("edit", [spoil, cut, remove, close])
def test_a_worker_that_is_replaced(service, tmp_path, edit):
    """Every worker is killed after the file was spoilt, cut short, removed or changed: the service is what it was."""
    made = service()
    before = made.status()
    edit(made, tmp_path)
    for pid in made.workers():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: made.status()["restarts"] == 2 and len(made.workers()) == 2, 30, lambda: made.running.errors)
    assert made.pid() in made.workers()
    after = made.status()
    assert after["listening"] == before["listening"] and after["sockets"] == before["sockets"]
    made.running.wait_said("this worker goes on with what they said")
    assert made.reload().returncode == (0 if edit is close else 78)


def test_a_worker_that_is_recycled(start, tmp_path):
    """It is replaced by one of the same reading; a reload brings the new one."""
    made = Service(start, tmp_path, "max-requests 10\n")
    first = made.pid()
    made.file.write_text(made.text.replace("max-requests 10", "rubbish"))
    wait_until(lambda: made.pid() != first, 30)
    assert "cannot be recycled" not in made.running.errors
    made.file.write_text(made.text.replace("max-requests 10\n", ""))
    assert made.reload().returncode == 0
    assert "goes on with what they said" in made.running.errors


def test_nothing_is_left_open(service, tmp_path):
    """The supervisor has one descriptor for the reading of the generation that serves, and none for those before."""
    made = service()

    def readings():
        folder = f"/proc/{made.running.process.pid}/fd"
        names = [os.readlink(f"{folder}/{one}") for one in os.listdir(folder)]
        return sum("memfd:reading" in name for name in names)

    wait_until(lambda: readings() == 1)
    for _ in range(2):
        assert made.reload().returncode == 0
    spoil(made, tmp_path)
    assert made.reload().returncode == 78
    wait_until(lambda: readings() == 1 and not made.status()["draining"], 20)
