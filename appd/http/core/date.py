"""Dates of HTTP (RFC 9110, 5.6.7), in both directions, and the part of a head that changes once a second."""

from __future__ import annotations

import time

from appd.startup.patterns import pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Origin", "format_date", "parse_date"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# By hand: strftime's names depend on the locale.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "|".join(_MONTHS)
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_FORMS = (
    # Sun, 06 Nov 1994 08:49:37 GMT
    pattern(rf"(?:{'|'.join(_DAYS)}), (?P<day>[0-9]{{2}}) (?P<month>{_MONTH}) (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    # Sunday, 06-Nov-94 08:49:37 GMT
    pattern(rf"[MTWFS][a-z]+day, (?P<day>[0-9]{{2}})-(?P<month>{_MONTH})-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    # Sun Nov  6 08:49:37 1994
    pattern(rf"(?:{'|'.join(_DAYS)}) (?P<month>{_MONTH}) (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


def format_date(seconds: float) -> str:
    """A time as IMF-fixdate.

    Args:
        seconds: Seconds since the epoch.
    """
    at = time.gmtime(seconds)
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04} "
        f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} GMT"
    )


def parse_date(text: str, now: Callable[[], float] = time.time) -> int | None:
    """Reads any of the three forms that recipients must take.

    Args:
        text: The value of a field.
        now: The clock: a year of two digits is not more than 50 years in the future.

    Returns:
        Seconds since the epoch, or None when it is no date, in which case the field is ignored.
    """
    for form in _FORMS:
        match = form.fullmatch(text)
        if match is not None:
            break
    else:
        return None
    day, hour, minute, second = (int(match[name]) for name in ("day", "hour", "minute", "second"))
    month, year = _MONTHS.index(match["month"]) + 1, int(match["year"])
    if len(match["year"]) == 2:
        this = time.gmtime(now()).tm_year
        year += this - this % 100
        if year > this + 50:
            year -= 100
    # 60 is a leap second.
    if year < 1 or hour > 23 or minute > 59 or second > 60:
        return None
    if not 1 <= day <= _days_before(year + month // 12, month % 12 + 1) - _days_before(year, month):
        return None
    return (_days_before(year, month) + day - 1) * 86400 + hour * 3600 + minute * 60 + second


def _days_before(year: int, month: int) -> int:
    """Days from the epoch to the first of a month. `calendar.timegm` would cost the import of datetime."""
    # Counted in years that begin in March, the month lengths follow a line and the leap day is the last of all.
    year -= month < 3
    return year * 365 + year // 4 - year // 100 + year // 400 + (153 * ((month + 9) % 12) + 2) // 5 - 719468


class Origin:
    """What every response of a server says of it: Server and Date, made once a second. Any thread may ask.

    Args:
        name: The value of Server.
        clock: Seconds since the epoch.
    """

    __slots__ = ("_clock", "_made", "server")

    def __init__(self, name: str = "appd", clock: Callable[[], float] = time.time) -> None:
        self.server = f"Server: {name}\r\n"
        self._clock = clock
        self._made = (-1, "", "")

    def fields(self, server: bool = True, date: bool = True) -> str:
        """The field lines: both, or those that the application has not given itself."""
        # One tuple, replaced as a whole: threads need no lock.
        second, both, dated = self._made
        now = int(self._clock())
        if now != second:
            dated = f"Date: {format_date(now)}\r\n"
            both = self.server + dated
            self._made = (now, both, dated)
        if server and date:
            return both
        return (self.server if server else "") + (dated if date else "")
