"""The end of a process of appd's."""

from __future__ import annotations

import os
import sys

from appd.errors import EX_IOERR
from appd.signals import StopSignals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["leave"]


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
