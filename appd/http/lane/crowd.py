"""Many connections."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Crowd"]


class Crowd(dict["Any", None]):
    """The open connections of a server, in the order in which they came. Any thread may call.

    A dict where one would expect a set: there may be tens of thousands, and for one a set takes up to three times as
    much.
    """

    __slots__ = ()

    def add(self, one: Any) -> None:
        """Takes one in."""
        self[one] = None

    def discard(self, one: Any) -> None:
        """Lets one go, if it is there."""
        self.pop(one, None)
