"""The end of a process of appd's."""

from __future__ import annotations

import os
import sys

from appd.errors import EX_IOERR
from appd.signals import StopSignals
from appd.startup.bare import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["leave", "leave_fork"]


def leave(code: int, signals: StopSignals) -> NoReturn:
    """Ends the process, whatever threads of hosted code have not returned.

    Args:
        code: The exit code.
        signals: The ending signals; from here on one of them ends the process at once.
    """
    import atexit

    # What hosted code registered for the exit still runs, unless somebody loses patience.
    signals.exit_when_told(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or EX_IOERR
    os._exit(code)


def leave_fork(error: BaseException) -> NoReturn:
    """Ends a process that hosted code has forked, as Python ends one: nothing else of appd's is its to do.

    Args:
        error: What it has raised: SystemExit has its exit code, all else is shown and ends it with 1.
    """
    import atexit

    code = 1
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    elif error.code is None or isinstance(error.code, int):
        code = error.code or 0
    else:
        print(error.code, file=sys.stderr)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code & 0xFF)
