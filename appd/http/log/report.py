"""Reports of errors: the frames of a traceback with their locals, secrets masked, kept in the state directory.

For finding a fault on a machine where nobody watches; `debug on` asks for it. A report is a file that its owner alone
can read, named after an identifier that stands in the log entry. The oldest go when there are too many.
"""

from __future__ import annotations

import os
import re
import secrets
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from appd.journal.tracebacks import exception_text

__all__ = ["Reports", "masked"]

_SECRET = re.compile(r"passw|passphrase|secret|token|cookie|authori[sz]ation|credential|api_?key|private|session", re.I)
_FOLDER = "errors"
_MOST = 100
_LONGEST_VALUE, _MOST_LOCALS, _MOST_ITEMS = 400, 100, 50
_MASK = "********"


class Reports:
    """The reports of one process.

    Args:
        state: The state directory; "" for none.
    """

    def __init__(self, state: str) -> None:
        self._folder = os.path.join(state, _FOLDER) if state else ""

    def __call__(self, what: str, error: BaseException, fields: Mapping[str, Any]) -> str:
        """Keeps a report.

        Args:
            what: What failed.
            error: The exception.
            fields: What is known of the request.

        Returns:
            `what` with where the report is, or why there is none. Raises nothing.
        """
        if not self._folder:
            return f"{what} (no report: there is no state directory, see StateDirectory= of the unit)"
        name = secrets.token_hex(6)
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._write(os.path.join(self._folder, f"{name}.txt"), text_of(what, error, fields))
            self._forget()
        except OSError as trouble:
            return f"{what} (no report: {trouble.strerror}: {self._folder})"
        return f"{what} (report {name})"

    def _write(self, path: str, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)

    def _forget(self) -> None:
        with os.scandir(self._folder) as entries:
            kept = sorted((one.stat().st_mtime, one.path) for one in entries if one.name.endswith(".txt"))
        for _time, path in kept[:-_MOST]:
            os.unlink(path)


def text_of(what: str, error: BaseException, fields: Mapping[str, Any]) -> str:
    """The text of a report."""
    lines = [what, *(f"{name}={value}" for name, value in fields.items()), "", exception_text(error)]
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        place = traceback.FrameSummary(frame.f_code.co_filename, trace.tb_lineno, frame.f_code.co_name)
        lines += ["", f"{place.filename}:{place.lineno} in {place.name}", f"    {place.line}"]
        for name, value in list(frame.f_locals.items())[:_MOST_LOCALS]:
            lines.append(f"        {name} = {masked(name, value)}")
        trace = trace.tb_next
    return "\n".join(lines) + "\n"


def masked(name: str, value: Any) -> str:
    """A value as text, unless its name sounds like a secret's; in mappings likewise.

    Args:
        name: What it is called.
        value: The value; what its `repr` raises is told in its place.
    """
    if _SECRET.search(name):
        return _MASK
    try:
        if isinstance(value, dict):
            items = list(value.items())[:_MOST_ITEMS]
            inner = ", ".join(f"{key!r}: {masked(str(key), one)}" for key, one in items)
            more = ", …" if len(value) > _MOST_ITEMS else ""
            return f"{{{inner}{more}}}"
        text = repr(value)
    except Exception as broken:
        return f"<{type(value).__name__} whose repr raises {type(broken).__name__}>"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}… ({len(text)} characters)"
