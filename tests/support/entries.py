"""A log that keeps its entries."""

from __future__ import annotations

import time

from appd.journal import INFO, Entry

__all__ = ["EntriesKept"]


class EntriesKept:
    """Takes what `appd.journal.Log.write` takes.

    Attributes:
        entries: What was logged.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def write(self, message: str, priority: int = INFO, **fields: str | bytes | int) -> None:
        """Keeps an entry."""
        self.entries.append(Entry(message, priority, fields, time.time()))

    def enabled(self, namespace: str, priority: int) -> bool:
        """Always."""
        return True
