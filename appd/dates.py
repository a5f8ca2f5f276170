"""Times as people read them, of seconds since the epoch."""

from __future__ import annotations

import time

__all__ = ["day", "minute"]


def day(seconds: float) -> str:
    """A date: 2027-01-05."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def minute(seconds: float) -> str:
    """A time: 2027-01-05 10:30 UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
