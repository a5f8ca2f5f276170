"""A debugger on the terminal where an application has failed.

For development: `debug on` and `--single` on a terminal. The request that failed waits while somebody looks at the
frames of its error; it is answered when they have seen enough. Other requests go on being served, and if one of them
fails too it waits for its turn: there is one terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from threading import Lock
from typing import IO, Any

__all__ = ["Debugger"]


class Debugger:
    """What `appd.http.log.report.Reports` is where nobody watches.

    Args:
        report: Keeps the report all the same.
        stdin: Where commands come from; the terminal's without it.
        stdout: Where the debugger writes to.
    """

    def __init__(
        self,
        report: Callable[[str, BaseException, Mapping[str, Any]], str],
        stdin: IO[str] | None = None,
        stdout: IO[str] | None = None,
    ) -> None:
        self._report = report
        # What is printed goes to the log; sys.stdout and sys.stderr stand for that by now.
        self._stdin = stdin or sys.__stdin__
        self._stdout = stdout or sys.__stderr__
        self._terminal = Lock()

    def __call__(self, what: str, error: BaseException, fields: Mapping[str, Any]) -> str:
        """Has a person look at an error, and keeps a report; see `Reports`."""
        told = self._report(what, error, fields)
        with self._terminal:
            self._look(f"{what}: {fields.get('HTTP_METHOD')} {fields.get('HTTP_PATH')}", error)
        return told

    def _look(self, what: str, error: BaseException) -> None:
        import pdb
        import traceback

        frames = error.__traceback__
        # The frame of appd's that made the call says nothing to whoever looks for a fault of their own.
        if frames is not None and frames.tb_next is not None:
            frames = frames.tb_next
        try:
            print(f"\n{what}", file=self._stdout)
            traceback.print_exception(type(error), error, frames, file=self._stdout)
            print("(q answers the request with 500 and goes on serving)", file=self._stdout, flush=True)
            if frames is None:
                return
            # A signal's handler can be set by the main thread only, and Ctrl-C is to end the server as ever.
            debugger = pdb.Pdb(stdin=self._stdin, stdout=self._stdout, nosigint=True)
            debugger.reset()
            debugger.interaction(None, frames)
        except (OSError, ValueError):
            return  # the terminal has gone
