"""One log entry as plain data, ready for any sink."""

from __future__ import annotations

from sys import getsizeof

from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CRITICAL",
    "DEBUG",
    "ERROR",
    "INFO",
    "NOTICE",
    "WARNING",
    "Entry",
    "Value",
    "is_field_name",
    "memory",
    "to_bytes",
    "to_text",
]

# syslog(3) priorities; appd itself never says "emergency" (0) or "alert" (1): those are about the host.
CRITICAL = 2
ERROR = 3
WARNING = 4
NOTICE = 5
INFO = 6
DEBUG = 7

Value = str | bytes | int


class Entry(NamedTuple):
    """One log entry.

    Attributes:
        message: The text, any number of lines; bytes need not be UTF-8.
        priority: 0 to 7 as in syslog(3).
        fields: Further journal fields, names in upper case.
        time: Seconds since the epoch.
    """

    message: str | bytes
    priority: int
    fields: Mapping[str, Value]
    time: float


# An entry's tuple, dict and place in the queue; measured on CPython 3.11, and only a bound's share.
_OVERHEAD = 400


def memory(entry: Entry) -> int:
    """Say about how many bytes an entry keeps in memory while it waits.

    Args:
        entry: The entry.

    Returns:
        A number of bytes.
    """
    total = _OVERHEAD + getsizeof(entry.message)
    for value in entry.fields.values():
        total += 64 if isinstance(value, int) else 64 + len(value)
    return total


def to_bytes(value: Value) -> bytes:
    """Give a value as bytes and never fail.

    Args:
        value: Text may hold the surrogates by which Python carries bytes that were not UTF-8 (PEP 383).

    Returns:
        UTF-8; such surrogates become the bytes they stand for, any other lone surrogate a backslash escape.
    """
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else _digits(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        pass
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace")


def _digits(value: int) -> str:
    """Decimal; hexadecimal where Python refuses decimal for its cost (more than 4300 digits)."""
    try:
        return str(value)
    except ValueError:
        return hex(value)


def to_text(value: Value) -> str:
    r"""Give a value as text that encodes to UTF-8, and never fail.

    Args:
        value: As for `to_bytes`.

    Returns:
        Text; bytes that are not UTF-8 appear as ``\xff``.
    """
    if isinstance(value, str) and value.isascii():
        return value
    return to_bytes(value).decode(errors="backslashreplace")


def is_field_name(name: str) -> bool:
    """Say whether the journal takes a field of this name from a client.

    Upper case letters, digits and underscores, at most 64, the first a letter: names with a leading underscore are
    journald's own (systemd.journal-fields(7)).

    Args:
        name: The name.

    Returns:
        Whether it may be sent.
    """
    return len(name) <= 64 and name.isascii() and name.isidentifier() and name.isupper() and name[0] != "_"
