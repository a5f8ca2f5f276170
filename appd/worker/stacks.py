"""Where a worker writes the stacks of its threads when it hangs. Its supervisor tells of them: `supervisor.dumps`."""

from __future__ import annotations

import faulthandler
import os

from appd.startup.bare import suppress
from appd.supervisor.spawn import LOADS_LONG

__all__ = ["begin", "has_loaded"]

# Where to, while the process loads.
_loading: list[int] = []


def begin(stacks: str) -> None:
    """Has the stacks written when the process is aborted, and while it loads for very long.

    Args:
        stacks: The descriptor that a supervisor reads them from; "" without one: standard error, and only at the end.
    """
    if not stacks:
        faulthandler.enable(2)
        return
    os.set_inheritable(int(stacks), False)
    faulthandler.enable(int(stacks))
    _loading.append(int(stacks))
    _go_on()
    # A fork has the timer without its thread, for the end of which Python would wait at its own, and for ever.
    os.register_at_fork(before=_pause, after_in_parent=_go_on, after_in_child=_loading.clear)


def has_loaded() -> None:
    """The reactor runs, or the end has come: from here on the watchdog looks after it."""
    _pause()
    _loading.clear()


def _go_on() -> None:
    for stacks in _loading:
        # This needs neither the interpreter lock nor an import: hosted code may keep both for ever.
        with suppress(RuntimeError):  # no further thread: the start itself says so, if it needs one
            faulthandler.dump_traceback_later(LOADS_LONG, repeat=True, file=stacks)


def _pause() -> None:
    if _loading:
        faulthandler.cancel_dump_traceback_later()
