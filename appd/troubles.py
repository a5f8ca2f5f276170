"""What is wrong with servers that serve on, for as long as it lasts: in STATUS= and `appd status`.

The journal says once what has happened; this is for who looks later.
"""

from __future__ import annotations

from appd.dates import minute
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Trouble", "brief", "pack", "sentence", "together", "unpack"]

# More of them would not fit into a message of a worker, and nobody would read them.
_MOST, _LONGEST = 20, 512
# So much of a reason is shown beside the rest, in characters.
_REASON = 300


class Trouble(NamedTuple):
    """One thing that is wrong.

    Attributes:
        server: The server.
        what: What is wrong, as the first half of a sentence: "the certificates on disk have been refused".
        since: Since when, in seconds since the epoch.
        reason: Why, or what comes of it.
    """

    server: str
    what: str
    since: int
    reason: str


def pack(rows: Iterable[Trouble]) -> str:
    """Writes them as one word."""
    import json

    shortened = [(server[:_LONGEST], what[:_LONGEST], since, why[:_LONGEST]) for server, what, since, why in rows]
    return json.dumps(shortened[:_MOST], separators=(",", ":")).replace(" ", "\\u0020")


def unpack(word: str) -> list[Trouble]:
    """Reads what `pack` wrote; what nobody packed is nothing. Hosted code may say anything in its place."""
    import json

    try:
        return [
            Trouble(str(server)[:_LONGEST], str(what)[:_LONGEST], min(max(int(since), 0), 2**40), str(why)[:_LONGEST])
            for server, what, since, why in json.loads(word or "[]")[:_MOST]
        ]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return []


def together(rows: Iterable[Trouble]) -> list[Trouble]:
    """One for each, of all processes, since the first of them."""
    found: dict[tuple[str, str, str], Trouble] = {}
    for one in sorted(rows, key=lambda row: row.since):
        found.setdefault((one.server, one.what, one.reason), one)
    return sorted(found.values())


def sentence(one: Trouble) -> str:
    """What people are told of it."""
    return f"server {one.server}: {one.what} since {minute(one.since)}: {one.reason}"


def brief(rows: Sequence[Trouble]) -> str:
    """The first one and how many more there are, for STATUS=; "" without any."""
    if not rows:
        return ""
    said = sentence(rows[0]._replace(reason=rows[0].reason[:_REASON]))
    return f"{said} (and {len(rows) - 1} more: `appd status`)" if len(rows) > 1 else said
