"""Dates of HTTP, and the fields that a server says of itself."""

from __future__ import annotations

import calendar
import email.utils

import pytest

from appd.http.core.date import Origin, format_date, parse_date

# RFC 9110, 5.6.7
SECONDS = 784111777
NOW = lambda: 1_800_000_000.0  # noqa: E731  2027


@pytest.mark.parametrize(
    "text", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_the_three_forms(text):
    """All are read; one is written."""
    assert parse_date(text, NOW) == SECONDS
    assert format_date(SECONDS) == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "784111777",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 gmt",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 2023 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_no_date(text):
    """Ignored, as RFC 9110 wants it of conditions."""
    assert parse_date(text, NOW) is None


def test_years_of_two_digits():
    """Not more than 50 years ahead."""
    assert parse_date("Friday, 01-Jan-77 00:00:00 GMT", NOW) == calendar.timegm((2077, 1, 1, 0, 0, 0))
    assert parse_date("Friday, 01-Jan-78 00:00:00 GMT", NOW) == calendar.timegm((1978, 1, 1, 0, 0, 0))


def test_every_day_of_some_centuries():
    """The calendar by hand is the calendar of the library."""
    first, last = calendar.timegm((1899, 12, 30, 0, 0, 0)), calendar.timegm((2101, 3, 2, 0, 0, 0))
    for seconds in range(first, last, 86400 * 3 + 12345):
        text = format_date(seconds)
        assert parse_date(text, NOW) == seconds
        assert text == email.utils.formatdate(seconds, usegmt=True)


def test_leap_seconds_are_read():
    """60 is the second after 59."""
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW) == calendar.timegm((2017, 1, 1, 0, 0, 0))


def test_the_origin_follows_the_clock():
    """Once a second there is a new line."""
    now = [SECONDS + 0.9]
    origin = Origin("x", clock=lambda: now[0])
    assert origin.fields() == "Server: x\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    now[0] += 0.1
    assert origin.fields() == "Server: x\r\nDate: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
    assert origin.fields(server=False) == "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
    assert origin.fields(date=False) == "Server: x\r\n"
