"""The first lines of appd: a stop is answered from here on, before anything that takes time is imported."""

from __future__ import annotations

import sys
from typing import NoReturn

from appd.signals import Stopped, StopSignals

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the command of sys.argv and exits with its code."""
    signals = StopSignals()
    try:
        if sys.argv[1:2] == ["run"]:
            signals.raise_when_told()
        from appd import cli

        code = cli.main(sys.argv[1:], signals)
    except Stopped:
        code = 0
    sys.exit(code)


if __name__ == "__main__":
    main()
