"""Records of the ``logging`` module as entries."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING

from appd.journal.entry import CRITICAL, DEBUG, ERROR, INFO, NOTICE, WARNING, Entry, Value, is_field_name
from appd.journal.levels import Levels
from appd.journal.tracebacks import code_fields, exception_text, type_name

if TYPE_CHECKING:
    from appd.journal.log import Log

__all__ = ["RecordHandler", "record_entry", "record_priority"]

_LEVELS = {
    DEBUG: logging.DEBUG,
    INFO: logging.INFO,
    WARNING: logging.WARNING,
    ERROR: logging.ERROR,
    CRITICAL: logging.CRITICAL,
}

# From the least number of a level to its priority; 25 is where many a program has a NOTICE of its own.
_STEPS = (
    (logging.CRITICAL, CRITICAL),
    (logging.ERROR, ERROR),
    (logging.WARNING, WARNING),
    (25, NOTICE),
    (logging.INFO, INFO),
)


class RecordHandler(logging.Handler):
    """Gives the records that reach the root logger to a log."""

    def __init__(self, log: Log) -> None:
        """Make a handler; `install` makes it effective.

        Args:
            log: Takes the entries.
        """
        super().__init__()
        self._log = log
        self._named: set[str] = set()

    def install(self, levels: Levels) -> None:
        """Add this to the root logger and have warnings logged too, and exceptions that nobody catches in a thread
        or a finalizer: Python would print those line by line.

        Args:
            levels: The levels to set.
        """
        self.apply(levels)
        logging.getLogger().addHandler(self)
        logging.captureWarnings(True)
        threading.excepthook = _thread_failed
        sys.unraisablehook = _cannot_be_raised

    def apply(self, levels: Levels) -> None:
        """Set the levels of loggers, so that unwanted records are not made.

        Args:
            levels: The new levels. A namespace that lost its level inherits again.
        """
        logging.getLogger().setLevel(_LEVELS[levels.default])
        for namespace in self._named - set(levels.thresholds):
            logging.getLogger(namespace).setLevel(logging.NOTSET)
        for namespace, priority in levels.thresholds.items():
            logging.getLogger(namespace).setLevel(_LEVELS[priority])
        self._named = set(levels.thresholds)

    def handle(self, record: logging.LogRecord) -> bool:
        """Log a record, without the lock of the base class: the queue needs none, and formatting may take long.

        Args:
            record: The record.

        Returns:
            Whether it passed the filters of this handler.
        """
        # A filter may replace the record (Python 3.12), hence no plain bool.
        passed: object = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record; never waits, never raises.

        Args:
            record: The record.
        """
        try:
            priority = record_priority(record.levelno)
            if not self._log.enabled(record.name, priority):
                return
            entry = record_entry(record, priority)
        except Exception as error:
            entry = _unconvertible(record, error)
        self._log.put(entry)


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """`threading.excepthook`: a thread that ends by SystemExit just ends."""
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        name = args.thread.name if args.thread is not None else "unknown"
        logging.getLogger("threading").error("thread %s has failed", name, exc_info=args.exc_value)


def _cannot_be_raised(args: sys.UnraisableHookArgs) -> None:
    """`sys.unraisablehook`: an exception in a finalizer or a callback from C."""
    error = args.exc_value
    if isinstance(error, UnicodeDecodeError) and type(args.object) is bytes and error.object == args.object:
        # So Python's ssl says that the name which a client asks for (SNI) is no text. Anybody may send anything, so
        # that it is not worth more.
        logging.getLogger("appd.tls").debug("no handshake: it asks for a name that is no text")
        return
    text = args.err_msg or "an exception was ignored in"
    logging.getLogger("sys").error("%s %r", text, args.object, exc_info=args.exc_value)


def record_priority(level: int) -> int:
    """Give the priority of a ``logging`` level.

    Args:
        level: Any number; programs have levels of their own between the named ones.

    Returns:
        That of the next named level below.
    """
    return next((priority for least, priority in _STEPS if level >= least), DEBUG)


def record_entry(record: logging.LogRecord, priority: int) -> Entry:
    """Turn a record into an entry.

    Args:
        record: The record.
        priority: As `record_priority` gives it.

    Returns:
        The entry, with traceback and stack in its message. Attributes in upper case, made by ``extra``, are fields.
    """
    fields: dict[str, Value] = {
        name: value if isinstance(value, (str, bytes, int)) else str(value)
        for name, value in record.__dict__.items()
        if is_field_name(name) and name not in ("MESSAGE", "PRIORITY")
    }
    fields["LOGGER"] = record.name
    parts = [record.getMessage().rstrip("\n")]
    if record.name != "py.warnings":  # there the caller is the warnings module; the text has the place
        fields.update(CODE_FILE=record.pathname, CODE_LINE=record.lineno, CODE_FUNC=record.funcName or "")
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        fields.update(code_fields(error.__traceback__), EXCEPTION_TYPE=type_name(type(error)))
        parts.append(exception_text(error))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return Entry("\n".join(part for part in parts if part), priority, fields, record.created)


def _unconvertible(record: logging.LogRecord, error: Exception) -> Entry:
    """What is left of a record whose arguments do not fit its message: everything else that it says."""
    template = record.msg if isinstance(record.msg, str) else type_name(type(record.msg))
    message = f"{template} (a log record cannot be formatted)\n{exception_text(error)}"
    fields: dict[str, Value] = {
        "LOGGER": str(record.name),
        "CODE_FILE": str(record.pathname),
        "CODE_LINE": record.lineno,
        "EXCEPTION_TYPE": type_name(type(error)),
    }
    return Entry(message, record_priority(record.levelno), fields, record.created)
