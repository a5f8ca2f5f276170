"""The log of the engine as events of Twisted, where appd keeps none: twistd's own log, servers that no file made."""

from __future__ import annotations

import sys
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from appd.journal import ERROR, INFO, WARNING
from appd.journal.entry import Value

__all__ = ["EventLog"]

_LEVELS = {ERROR: LogLevel.error, WARNING: LogLevel.warn, INFO: LogLevel.info}


class EventLog:
    """An `EntryLog` of the engine that gives each entry to twisted.logger, its fields as keys in lower case."""

    def write(self, message: str, priority: int = INFO, **fields: Value) -> None:
        """Emits an event; a failure that is being handled goes along."""
        logger = Logger(namespace=str(fields.pop("LOGGER", "appd")))
        keys: dict[str, Any] = {name.lower(): value for name, value in fields.items()}
        if "EXCEPTION_TYPE" in fields and sys.exc_info()[1] is not None:
            first, _newline, _traceback = message.partition("\n")
            logger.failure("{entry}", Failure(), _LEVELS.get(priority, LogLevel.info), entry=first, **keys)
            return
        logger.emit(_LEVELS.get(priority, LogLevel.info), "{entry}", entry=message, **keys)

    def enabled(self, namespace: str, priority: int) -> bool:
        """Always: its observers decide."""
        return True
