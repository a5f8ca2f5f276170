"""Signals before the reactor runs: where they raise, and where that would be lost."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest

from appd.signals import Stopped, StopSignals


def made() -> tuple[StopSignals, dict[int, Any]]:
    """Signals whose handlers go into a dict."""
    handlers: dict[int, Any] = {}
    signals = StopSignals(handlers.__setitem__)
    signals.raise_when_told()
    return signals, handlers


def test_it_raises_out_of_whatever_runs():
    """With the exit code of a stop."""
    signals, handlers = made()
    with pytest.raises(Stopped) as raised:
        handlers[signal.SIGTERM](signal.SIGTERM, sys._getframe())
    assert raised.value.code == 0
    assert signals.received == signal.SIGTERM


@pytest.mark.parametrize(
    ("file", "function"), [("<frozen importlib._bootstrap>", "cb"), ("/some/where/hosted.py", "__del__")]
)
def test_where_it_would_be_lost_it_waits_for_the_next_check(file, function):
    """Python prints what a destructor raises, and goes on."""
    signals, handlers = made()
    frames: list[Any] = []
    exec(
        compile(f"def {function}(): frames.append(getframe())\n{function}()", file, "exec"),
        {"frames": frames, "getframe": sys._getframe},
    )
    handlers[signal.SIGTERM](signal.SIGTERM, frames[0])
    with pytest.raises(Stopped):
        signals.check()


def test_what_comes_when_nothing_can_be_done_is_noted():
    """A reload that is asked for in the moment before the supervisor takes signals is not lost."""
    signals, handlers = made()
    signals.note()
    for number in (signal.SIGHUP, signal.SIGTERM):
        handlers[number](number, None)
    assert signals.noted == [signal.SIGHUP, signal.SIGTERM] and not signals.hung_up


def test_a_hangup_before_the_reactor_runs():
    """It is answered when that runs."""
    signals, handlers = made()
    handlers[signal.SIGHUP](signal.SIGHUP, None)
    told: list[str] = []
    signals.call_when_told(
        lambda call: call(), lambda: told.append("drain"), lambda: told.append("leave"), lambda: told.append("reload")
    )
    assert told == ["reload"]
    handlers[signal.SIGHUP](signal.SIGHUP, None)
    assert told == ["reload", "reload"]
