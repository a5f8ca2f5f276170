"""What stands for parts of the library until the first answer is out."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
from support.running import wait_until

from appd.startup import barethread
from appd.startup.bare import suppress
from appd.startup.barethread import BareThread

# The main thread is asked for by a thread that imports `threading` first.
_WRONG_MAIN = """
import _thread, time
done = _thread.allocate_lock()
done.acquire()
go_on = _thread.allocate_lock()
go_on.acquire()
def import_it():
    import threading
    done.release()
    go_on.acquire()
_thread.start_new_thread(import_it, ())
done.acquire()
from appd.startup.barethread import claim_main_thread
claim_main_thread()
claim_main_thread()
import threading
assert threading.main_thread() is threading.current_thread(), threading.main_thread()
assert threading.main_thread().ident == _thread.get_ident()
assert [one.name for one in threading.enumerate()] == ["MainThread"]
thread = threading.Thread(target=go_on.release)
thread.start()
thread.join()
print("fine")
"""


def test_a_thread_runs_and_ends() -> None:
    """It has a name meanwhile, and can be waited for."""
    release = threading.Event()

    def task() -> None:
        release.wait(10)

    thread = BareThread(task, "bare")
    assert not thread.is_alive()
    thread.start()
    wait_until(lambda: "bare" in barethread.names.values())
    assert thread.is_alive()
    assert thread.native_id
    thread.join(0.01)
    assert thread.is_alive()
    release.set()
    thread.join(10)
    assert not thread.is_alive()
    assert "bare" not in barethread.names.values()


def test_a_thread_that_fails_ends(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And Python says why."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    def task() -> None:
        raise ZeroDivisionError

    thread = BareThread(task, "bare")
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    wait_until(lambda: bool(told))
    assert told[0].exc_type is ZeroDivisionError


def test_a_thread_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not run."""

    def refuse(*_arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(barethread, "start_new_thread", refuse)
    thread = BareThread(lambda: None, "bare")
    with pytest.raises(RuntimeError):
        thread.start()
    assert not thread.is_alive()


def test_the_main_thread_is_claimed() -> None:
    """And everything goes on as ever, the end of the interpreter too."""
    done = subprocess.run([sys.executable, "-c", _WRONG_MAIN], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_suppress() -> None:
    """As the one of contextlib."""
    with suppress(ValueError, OSError):
        raise FileNotFoundError
    with suppress(ValueError):
        pass
    with pytest.raises(KeyError), suppress(ValueError):
        raise KeyError
