"""Twisted's log events as entries."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.logger import ILogObserver, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from appd.journal.entry import CRITICAL, DEBUG, ERROR, INFO, WARNING, Entry, Value
from appd.journal.tracebacks import code_fields, exception_text, type_name

if TYPE_CHECKING:
    from appd.journal.log import Log

__all__ = ["EventObserver", "event_entry", "event_priority"]

_PRIORITIES: Mapping[str, int] = {
    "debug": DEBUG,
    "info": INFO,
    "warn": WARNING,
    "error": ERROR,
    "critical": CRITICAL,
}

_FIELDS: Mapping[str, str] = {
    "message_id": "MESSAGE_ID",
    "appd_server": "APPD_SERVER",
    "appd_type": "APPD_TYPE",
    "appd_socket": "APPD_SOCKET",
    "appd_peer": "APPD_PEER",
    "http_method": "HTTP_METHOD",
    "http_path": "HTTP_PATH",
    "http_status": "HTTP_STATUS",
    "http_bytes": "HTTP_BYTES",
    "duration_usec": "DURATION_USEC",
}


@implementer(ILogObserver)
class EventObserver:
    """Gives Twisted's events to a log. Any thread may call it, it never waits and never raises."""

    def __init__(self, log: Log) -> None:
        """Make an observer.

        Args:
            log: Takes the entries; says which are wanted, before anything is formatted.
        """
        self._log = log

    def __call__(self, event: dict[str, Any]) -> None:
        """Log an event.

        Args:
            event: As `ILogObserver` has it; not changed.
        """
        try:
            priority = event_priority(event)
            if not self._log.enabled(event.get("log_namespace") or "", priority):
                return
            entry = event_entry(event, priority)
        except Exception as error:
            entry = _unconvertible(event, error)
        self._log.put(entry)


def event_priority(event: Mapping[str, Any]) -> int:
    """Give the priority of an event.

    Three are not Twisted's own:

    * A failure is an error (3). Twisted calls any caught one critical, but the process lives on, and who watches the
      journal for "critical" wants to hear of what does not. One that was logged at a lower level keeps that.
    * The same for ``twisted.python.log.err`` and ``isError``.
    * What a program prints to stderr is a warning (4), where Twisted says error: progress, hints and complaints all go
      there, nobody called it an error, and ``journalctl -p err`` is to show errors.

    Args:
        event: The event.

    Returns:
        The priority; `INFO` for an event without level.
    """
    level = event.get("log_level")
    priority = _PRIORITIES.get(level.name, INFO) if level is not None else INFO
    namespace = event.get("log_namespace")
    if priority == CRITICAL and ("log_failure" in event or namespace == "log_legacy"):
        return ERROR
    if priority == ERROR and namespace == "stderr" and "log_io" in event:
        return WARNING
    return priority


def event_entry(event: dict[str, Any], priority: int) -> Entry:
    """Turn an event into an entry; everything that the event refers to is made text here.

    Args:
        event: The event.
        priority: As `event_priority` gives it.

    Returns:
        The entry. The traceback of a failure is part of its message.
    """
    fields: dict[str, Value] = {}
    namespace = event.get("log_namespace")
    if namespace:
        fields["LOGGER"] = str(namespace)
    for key, name in _FIELDS.items():
        value = event.get(key)
        if value is not None:
            fields[name] = value if isinstance(value, (str, bytes, int)) else str(value)
    message = formatEvent(event)
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        text = _failure_text(failure)
        message = f"{message}\n{text}" if message else text
    else:
        # The text of a twisted.python.log event already ends with its traceback.
        failure = event.get("failure")
    if isinstance(failure, Failure):
        fields.update(_failure_fields(failure))
    elif "warning" in event and "filename" in event and "lineno" in event:
        # twisted.logger's replacement of warnings.showwarning
        fields.update(CODE_FILE=str(event["filename"]), CODE_LINE=int(event["lineno"]))
    return Entry(message, priority, fields, event.get("log_time") or time.time())


def _failure_text(failure: Failure) -> str:
    """Python's traceback, since it has causes and notes; Twisted's own once the failure was cleaned of the real one."""
    error = failure.value
    if isinstance(error, BaseException) and error.__traceback__ is not None:
        return exception_text(error)
    try:
        return failure.getTraceback().rstrip("\n")
    except Exception as broken:
        return f"{type_name(failure.type)} (its traceback cannot be formatted: {type_name(type(broken))})"


def _failure_fields(failure: Failure) -> dict[str, Value]:
    """EXCEPTION_TYPE and the place where it was raised."""
    fields: dict[str, Value] = {"EXCEPTION_TYPE": type_name(failure.type)}
    place = code_fields(getattr(failure.value, "__traceback__", None))
    if not place and failure.frames:
        function, file, line = failure.frames[-1][:3]
        place = {"CODE_FILE": str(file), "CODE_LINE": int(line), "CODE_FUNC": str(function)}
    return {**fields, **place}


def _unconvertible(event: object, error: Exception) -> Entry:
    """What is left of an event that breaks when it is looked at: its format and its keys, which are plain text."""
    keys: list[str] = []
    template: object = None
    if isinstance(event, dict):
        keys = [str(key) for key in event if isinstance(key, str)]
        template = event.get("log_format")
    shown = template if isinstance(template, str) else ""
    message = f"a log event cannot be formatted ({type_name(type(error))}): {shown!r} with {', '.join(sorted(keys))}"
    return Entry(message, ERROR, {"LOGGER": "appd.journal", "EXCEPTION_TYPE": type_name(type(error))}, time.time())
