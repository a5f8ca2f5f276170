"""Many connections: which there are, and how many each peer has."""

from __future__ import annotations

from appd.startup.bare import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Crowd", "Peers"]


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


class Peers:
    """The connections of one server by the address of the peer. Any thread may count."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = Lock()

    def add(self, host: str) -> int:
        """Counts a connection.

        Returns:
            How many there are from that address.
        """
        with self._lock:
            count = self._counts[host] = self._counts.get(host, 0) + 1
        return count

    def drop(self, host: str) -> None:
        """A connection that was counted has ended."""
        with self._lock:
            self._counts[host] -= 1
            if not self._counts[host]:
                del self._counts[host]
