"""Processes that hosted code forks, by multiprocessing or itself."""

from __future__ import annotations

import os
import sys

from appd.startup.bare import signal

__all__ = ["leave_forks_alone"]


def leave_forks_alone() -> None:
    """A fork that hosted code makes has no writer thread and no reactor: it prints and dies as any process does."""
    os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    if "logging" in sys.modules:
        sys.modules["logging"].getLogger().handlers.clear()
