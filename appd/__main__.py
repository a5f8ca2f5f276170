"""The first lines of appd and the last: a stop is answered from here on, and the end waits for nobody."""

from __future__ import annotations

import gc
import os
import sys

from appd.signals import RESUME, Stopped, StopSignals
from appd.startup.codecache import CodeCache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the command of sys.argv and exits with its code."""
    signals = StopSignals()
    try:
        if sys.argv[1:2] == ["run"] and RESUME not in os.environ:
            # What is imported stays; looking through it for garbage again and again took a tenth of the start.
            gc.disable()
            signals.raise_when_told()
            CodeCache().install()
        _open_standard_streams()
        from appd.startup.vendored import append_vendored

        append_vendored()
        from appd import cli

        code = cli.main(sys.argv[1:], signals)
    except Stopped:
        code = 0
    except SystemExit as error:  # argparse's
        code = error.code if isinstance(error.code, int) else 0
    from appd.ending import leave

    leave(code, signals)


def _open_standard_streams() -> None:
    """Closed ones become /dev/null: or a socket would land on their numbers, and get what is meant for people."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


if __name__ == "__main__":
    main()
