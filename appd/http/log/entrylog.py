"""What the engine needs of a log."""

from __future__ import annotations

from appd.journal import ERROR, INFO
from appd.journal.entry import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

__all__ = ["EntryLog", "tell_failure"]


class EntryLog(Protocol):
    """Takes entries from any thread and never waits. `appd.journal.Log` is one."""

    def write(self, message: str, priority: int = INFO, **fields: Value) -> None:
        """Logs a line; see `appd.journal.Log.write`."""

    def enabled(self, namespace: str, priority: int) -> bool:
        """Whether an entry is wanted; see `appd.journal.Log.enabled`."""


def tell_failure(log: EntryLog, message: str, error: BaseException, **fields: Value) -> None:
    """Logs an exception: one entry with the traceback, its type and its place.

    Args:
        log: The log.
        message: What failed; the first line of the entry.
        error: The exception.
        **fields: Further fields.
    """
    # Late: what formats tracebacks takes its time to import, and nothing has failed yet.
    from appd.journal.tracebacks import code_fields, exception_text, type_name

    place = code_fields(error.__traceback__)
    kind = type_name(type(error))
    log.write(f"{message}\n{exception_text(error)}", ERROR, **{**place, "EXCEPTION_TYPE": kind, **fields})
