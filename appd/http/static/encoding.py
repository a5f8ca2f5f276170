"""Accept-Encoding → which of the compressed copies of a file is sent: RFC 9110, 12.5.3."""

from __future__ import annotations

from appd.startup.patterns import pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SUFFIXES", "choose"]

# The copies that tools make beside a file. Among those that a client likes as much the earlier is usually the smaller.
SUFFIXES = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}

_MEMBER = pattern(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?\Z")


def choose(field: str, available: Sequence[str]) -> str:
    """Chooses a content coding.

    Args:
        field: Accept-Encoding; a member that is malformed does not count.
        available: The codings that there are, the best first.

    Returns:
        The one that the client likes best; "" for the file as it is, also when the client wants that not either: it
        is all that there is.
    """
    weights: dict[str, float] = {}
    for one in field.split(","):
        match = _MEMBER.match(one.strip(" \t"))
        if match is not None:
            # 8.4.1.3: x-gzip is gzip.
            weights[match[1].lower().removeprefix("x-")] = float(match[2] or 1)
    others = weights.get("*", 0.0)
    best, most = "", weights.get("identity", 0.0)
    # Identity that is not named is welcome, but less than any coding that is.
    for coding in available:
        weight = weights.get(coding, others)
        if weight > most or (not best and weight == most and weight):
            best, most = coding, weight
    return best
