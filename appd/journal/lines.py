"""Entries as lines for a terminal, a pipe or a program. Pure."""

from __future__ import annotations

import time

from appd.journal.entry import Entry, Value, to_bytes, to_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["json_line", "prefixed", "readable"]

_LEVELS = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")

# A line from the network must not move the cursor or recolour the terminal of the person who reads it (CWE-150).
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


def _priority(entry: Entry) -> int:
    """The priority, forced into the range of syslog(3)."""
    return min(max(entry.priority, 0), 7)


def _clock(zone: Callable[[float], time.struct_time], seconds: float, digits: int) -> str:
    """Date and time of day with so many digits of the second; a time that no calendar has loses no entry."""
    try:
        fraction = int(seconds % 1 * 10**digits)
        return f"{time.strftime('%Y-%m-%d %H:%M:%S', zone(seconds))}.{fraction:0{digits}d}"
    except (ValueError, OverflowError, OSError):
        return "-"


def _json_value(value: Value) -> str | int:
    """A number where readers of JSON keep it exact (RFC 8259, section 6, speaks of 2**53), else text."""
    return value if isinstance(value, int) and abs(value) < 2**53 else to_text(value)


def prefixed(entry: Entry, fields: Mapping[str, Value]) -> bytes:
    """Give an entry as sd-daemon(3) has it: every line begins with ``<N>``.

    Args:
        entry: The entry.
        fields: Fields of the process; there is no room for any.

    Returns:
        The lines.
    """
    # journald also ends a line at NUL: what follows would be a line whose prefix a stranger may choose.
    message = to_bytes(entry.message).replace(b"\0", b"\\x00").rstrip(b"\n")
    prefix = b"<%d>" % _priority(entry)
    return prefix + message.replace(b"\n", b"\n" + prefix) + b"\n"


def readable(entry: Entry, fields: Mapping[str, Value]) -> bytes:
    """Give an entry for a person at a terminal.

    Args:
        entry: The entry.
        fields: Fields of the process; not shown.

    Returns:
        Local time, level, logger and message; further lines are indented.
    """
    stamp = _clock(time.localtime, entry.time, 3)
    message = to_text(entry.message).rstrip("\n").translate(_VISIBLE).replace("\n", "\n    ")
    logger = to_text(entry.fields.get("LOGGER", "appd")).translate(_VISIBLE)
    return f"{stamp} {_LEVELS[_priority(entry)]} {logger}: {message}\n".encode()


def json_line(entry: Entry, fields: Mapping[str, Value]) -> bytes:
    """Give an entry as one line of JSON.

    Args:
        entry: The entry.
        fields: Fields of the process; the entry's own win.

    Returns:
        An object with the journal's field names as keys, numbers as numbers, and TIMESTAMP (RFC 3339, UTC).
    """
    import json

    document: dict[str, str | int] = {
        "TIMESTAMP": _clock(time.gmtime, entry.time, 6).replace(" ", "T") + "Z",
        "PRIORITY": entry.priority,
        "MESSAGE": to_text(entry.message),
    }
    for name, value in {**fields, **entry.fields}.items():
        document.setdefault(to_text(name), _json_value(value))
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"
