"""Where the threads of a process are, for people."""

from __future__ import annotations

import sys

from appd.startup.barethread import names

__all__ = ["stacks"]


def stacks() -> str:
    """The stack of every thread, under its name."""
    # Late: who says that a call is slow has time.
    import threading
    import traceback

    called = {one.ident: one.name for one in threading.enumerate()} | names
    parts = []
    for ident, frame in sys._current_frames().items():
        lines = "".join(traceback.format_stack(frame)).rstrip()
        parts.append(f"{called.get(ident, ident)}:\n{lines}")
    return "\n".join(parts)
