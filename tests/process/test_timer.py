"""<timer> in a real appd: once across workers, reloads, a rollback and a killed worker."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from functools import partial
from itertools import pairwise

import pytest
from support.running import APPD, wait_until
from support.service import Service

HOSTED = """
import os, time
def note(file: str, gate: str = ""):
    began = time.time()
    open(file + ".begun", "w").close()
    while gate and not os.path.exists(gate):
        time.sleep(0.01)
    with open(file, "a") as out:
        out.write(f"{began} {time.time()} {os.getpid()}\\n")
async def later(file: str):
    from twisted.internet import reactor, threads
    from twisted.python.threadable import isInIOThread
    on = isInIOThread()
    await threads.deferToThread(time.sleep, 0.01)
    note(file + str(on))
def fails():
    raise RuntimeError("no luck")
"""
PID = "<http h>\n address systemd:name=h\n <wsgi>\n  application hosted:app\n </wsgi>\n</http>\n"


def section(file, more="", options=""):
    return (
        f"<timer clock>\n call clockwork:note\n every 1s\n {more}\n"
        f" <options>\n  file {file}\n  {options}\n </options>\n</timer>\n"
    )


def calls(file):
    """Begin, end and process of each call."""
    if not file.exists():
        return []
    rows = [line.split() for line in file.read_text().splitlines()]
    return [(float(begin), float(end), int(pid)) for begin, end, pid in rows]


@pytest.fixture
def timed(start, tmp_path):
    (tmp_path / "clockwork.py").write_text(HOSTED)
    return partial(Service, start, tmp_path)


def places(rows):
    """How many calls there are for each place of the grid, the first being 0. A late one still has its place."""
    first = rows[0][0]
    return Counter(int(begin - first + 0.05) for begin, _end, _pid in rows)


def test_once_across_workers_a_reload_and_a_rollback(timed, tmp_path):
    """Three workers, two reloads, one that is rolled back late, a killed worker: at each time one call, and no two at once."""
    file = tmp_path / "calls"
    made = timed("workers 3\n", PID + section(file, "at-start on"))
    wait_until(lambda: len(calls(file)) >= 2)
    for _ in range(2):
        assert made.reload().returncode == 0
        seen = len(calls(file))
        wait_until(lambda seen=seen: len(calls(file)) >= seen + 2)
    pids = {pid for _begin, _end, pid in calls(file)}
    assert len(pids) == 3, "one a generation"
    # What fails at its last step, when the timer before has been paused and the new one may have begun.
    (tmp_path / "clockwork2.py").write_text(
        "from twisted.internet.protocol import Factory\n"
        "class F(Factory):\n    def startFactory(self):\n        raise RuntimeError('late')\ndef factory():\n    return F()\n"
    )
    made.file.write_text(
        made.text + f"<server s>\n type clockwork2:factory\n address {tmp_path}/late.sock\n processes one\n</server>\n"
    )
    done = made.reload()
    assert done.returncode != 0 and "late" in done.stderr
    seen = len(calls(file))
    wait_until(lambda: len(calls(file)) >= seen + 2)
    made.file.write_text(made.text)
    first = calls(file)[-1][2]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: calls(file)[-1][2] != first, 30)
    made.running.stop()
    rows = calls(file)
    assert max(places(rows).values()) == 1, "twice at one time"
    assert all(end <= begin for (_b, end, _p), (begin, _e, _q) in pairwise(rows)), "two at once"


def test_no_overlap_across_a_reload(timed, tmp_path):
    """A long call of the old generation is finished before the new one begins its own."""
    file = tmp_path / "calls"
    made = timed("", section(file, "at-start on", f"gate {tmp_path}/go"))
    wait_until((tmp_path / "calls.begun").exists)
    assert made.reload().returncode == 0
    time.sleep(1.2)  # longer than from one call to the next: nothing is to happen
    assert calls(file) == []
    (tmp_path / "go").touch()
    wait_until(lambda: len(calls(file)) >= 3, 30)
    rows = calls(file)
    assert rows[0][2] != rows[1][2] == rows[2][2]
    assert all(end <= begin for (_b, end, _p), (begin, _e, _q) in pairwise(rows))
    made.running.wait_said("clockwork:note took ")


def test_a_coroutine_and_an_error(timed, tmp_path):
    """The one runs on the reactor; the other is an entry with its traceback, again and again."""
    text = (
        f"<timer a>\n call clockwork:later\n every 100ms\n <options>\n  file {tmp_path}/at-\n </options>\n</timer>\n"
        "<timer b>\n call clockwork:fails\n every 100ms\n</timer>\n"
    )
    made = timed("", text)
    wait_until(lambda: len(calls(tmp_path / "at-True")) >= 2)
    made.running.wait_said("b: clockwork:fails failed")
    wait_until(lambda: made.running.errors.count("RuntimeError: no luck") >= 2)
    assert made.running.stop() == 0


def test_a_stop_waits_for_a_call(timed, tmp_path):
    """And drain-timeout ends the waiting."""
    file = tmp_path / "calls"
    begun, gate = tmp_path / "calls.begun", tmp_path / "go"
    made = timed("drain-timeout 60s\n", section(file, "at-start on", f"gate {gate}"))
    wait_until(begun.exists)
    made.running.process.send_signal(signal.SIGTERM)
    wait_until(lambda: any("STOPPING" in one for one in made.running.manager.read_all()))
    gate.touch()
    assert made.running.wait_exit() == 0
    assert len(calls(file)) == 1
    begun.unlink()
    gate.unlink()
    made = timed("drain-timeout 500ms\n", section(file, "at-start on", f"gate {gate}"))
    wait_until(begun.exists)
    made.running.stop()
    assert "clock: clockwork:note still runs after " in made.running.errors


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("call clockwork:nobody\n every 1s", "appd.conf:2: clockwork:nobody: clockwork ("),
        ("call clockwork:fails\n every 1s\n jitter 1s", "appd.conf:4: jitter must be less than every"),
        ("call clockwork:note\n every 1s", "appd.conf:2: clockwork:note needs <options> file"),
        ("call clockwork:fails\n every 0", "'0' is no time at all"),
        ("call clockwork:fails\n every 1s\n address 80", "<timer> has no key 'address'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, said):
    (tmp_path / "clockwork.py").write_text(HOSTED)
    file = tmp_path / "appd.conf"
    file.write_text(f"<timer t>\n {text}\n</timer>\npython-path {tmp_path}\n")
    done = subprocess.run([APPD, "check", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78 and said in done.stderr


def test_a_timer_keeps_a_service_from_resting(tmp_path):
    """idle-exit would end it between two calls."""
    (tmp_path / "clockwork.py").write_text(HOSTED)
    file = tmp_path / "appd.conf"
    file.write_text(f"idle-exit 10s\npython-path {tmp_path}\n<timer t>\n call clockwork:fails\n every 1h\n</timer>\n")
    done = subprocess.run([APPD, "check", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78 and "server 't': idle-exit is for servers that appd counts" in done.stderr
