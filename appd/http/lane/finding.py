"""Which mount answers a request, remembered for the paths that are asked for."""

from __future__ import annotations

from appd.http.lane.mounted import Found, Mounted
from appd.http.routing import Router, segments_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["Finder"]

# Paths whose mount is remembered, and how long they may be.
_MOST_FOUND, _LONGEST_FOUND = 1024, 256


class Finder:
    """The mounts of a server by host and path. Any thread may ask.

    Args:
        mounted: The mounts.
        routes: Where each of them is, in the same order.

    Attributes:
        known: What was found: (host, path) → it. For whoever cannot wait for a call.
    """

    def __init__(self, mounted: Sequence[Mounted], routes: Sequence[Any]) -> None:
        self._mounted = mounted
        self._router = Router(list(routes))
        self.known: dict[tuple[str, str], Found] = {}

    def find(self, host: str, path: str) -> Found | None:
        """Finds what answers a request.

        Args:
            host: The host, in lower case without port.
            path: The path, encoded; `*` for the server as a whole, which nothing answers.
        """
        found = self.known.get((host, path))
        if found is not None or path == "*":
            return found
        segments = segments_of(path)
        place = self._router.find(host, segments) if segments is not None else None
        if place is None or segments is None:
            return None
        mounted = self._mounted[place]
        rest = segments[mounted.depth :]
        found = Found(mounted, rest, "".join("/" + one.decode("latin-1") for one in rest))
        if len(path) <= _LONGEST_FOUND:
            if len(self.known) >= _MOST_FOUND:
                self.known.clear()
            self.known[host, path] = found
        return found
