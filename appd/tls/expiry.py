"""When certificates expire, for people: in STATUS=, `appd status`, `appd check` and, in time, the journal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from appd.dates import day

if TYPE_CHECKING:
    from appd.tls.certificates import Pair

__all__ = ["Expiring", "Warnings", "listed", "sentence"]

_DAY = 86400.0
# Days before the end at which the journal says so. Authorities renew at a third of the life or 30 days before, so that
# whoever is warned at 21 has a renewal that does not work; the last two are for who overlooked it.
_DAYS = (21, 7, 1)
# What is told to the supervisor goes into one datagram.
_MOST = 20
_MOST_WAITING = 5


class Expiring(NamedTuple):
    """An authority that expires; of a pair's attributes those that are asked for here.

    Attributes:
        where: The file, for people.
        title: What people call it.
        expires: When, in seconds since the epoch.
        serial: What tells it from another.
    """

    where: str
    title: str
    expires: float
    serial: str


def sentence(pairs: Iterable[Pair]) -> str:
    """The certificate that expires first, for STATUS=; "" without any."""
    first = min(pairs, key=lambda one: one.expires, default=None)
    return f"certificate of {first.title} expires {day(first.expires)}" if first is not None else ""


def listed(
    servers: Mapping[str, Sequence[Pair]],
    outdated: Mapping[str, str] | None = None,
    waiting: Mapping[str, Sequence[Pair]] | None = None,
) -> str:
    """Those that expire first, as one line for the supervisor, and those that are not valid yet.

    Args:
        servers: Server name → its certificates.
        outdated: `credential:NAME` → the file that is newer than what systemd read of it.
        waiting: Server name → the certificates that it takes as soon as they are valid.
    """
    newer = outdated or {}

    def rows(those: Mapping[str, Sequence[Pair]]) -> list[dict[str, Any]]:
        found = [
            {
                "server": server,
                "name": one.title,
                "path": one.where,
                "expires": int(one.expires),
                "newer": newer.get(one.where, ""),
                "begins": int(one.begins) if those is waiting else 0,
            }
            for server, pairs in those.items()
            for one in pairs
        ]
        return sorted(found, key=lambda row: row["expires"])

    return json.dumps([*rows(servers)[:_MOST], *rows(waiting or {})[:_MOST_WAITING]])


class Warnings:
    """Which certificates are to be warned of; each one once at each of the days."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def due(self, pairs: Iterable[Pair | Expiring], now: float) -> list[tuple[Pair | Expiring, str]]:
        """What is to be said now, as the end of a sentence.

        Args:
            pairs: The certificates in use, and the authorities.
            now: Seconds since the epoch.
        """
        found = []
        for one in pairs:
            left = one.expires - now
            step = 0 if left <= 0 else next((day for day in reversed(_DAYS) if left <= day * _DAY), None)
            if step is None or self._told.get(one.serial, _DAYS[0] + 1) <= step:
                continue
            self._told[one.serial] = step
            found.append((one, _words(left, one.expires)))
        return found


def _words(left: float, expires: float) -> str:
    if left <= 0:
        return f"has expired on {day(expires)}"
    days = int(left // _DAY)
    span = f"in {days} days" if days > 1 else "in a day" if days else "in less than a day"
    return f"expires {span}, on {day(expires)}"
