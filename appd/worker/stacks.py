"""Where a worker writes the stacks of its threads when it hangs. Its supervisor tells of them: `supervisor.dumps`."""

from __future__ import annotations

import faulthandler
import os

from appd.startup.bare import partial, signal
from appd.supervisor.spawn import ASKS, INSISTS

__all__ = ["write_stacks"]


def write_stacks(stacks: str) -> None:
    """Has the stacks written when the process is aborted, and when the supervisor asks for them.

    Frames are read safely by who holds the interpreter lock, or while they stand still. So the supervisor asks first,
    which Python answers between two instructions, and insists when no answer comes: the main thread is in C then.

    Args:
        stacks: The descriptor that a supervisor reads them from; "" without one: standard error, and only at the end.
    """
    if not stacks:
        faulthandler.enable(2)
        return
    file = int(stacks)
    os.set_inheritable(file, False)
    faulthandler.enable(file)
    signal.signal(ASKS, partial(_answer, file))
    signal.siginterrupt(ASKS, False)
    faulthandler.register(INSISTS, file=file, all_threads=False)


def _answer(file: int, _number: int, _frame: object) -> None:
    faulthandler.dump_traceback(file)
