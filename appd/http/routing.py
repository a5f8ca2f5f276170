"""Host and path of a request → the mount that answers it. Nothing here knows of sockets.

Paths are compared segment by segment after percent-decoding, so that `/media` is neither `/mediax` nor `/media%2fx`.
A path that climbs (`..`, however it is spelled) has no segments at all: it would mean one thing to us and another to
whoever takes it apart next. Clients remove such parts before they send a request (RFC 3986, 5.2.4).
"""

from __future__ import annotations

from appd.startup.patterns import pattern
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["Finder", "Found", "Route", "Router", "segments_of"]

_SEPARATORS = pattern(rb"[/\\]")
# Paths whose mount is remembered, and how long they may be.
_MOST_FOUND, _LONGEST_FOUND = 1024, 256


class Route(NamedTuple):
    """What a mount answers to.

    Attributes:
        path: The segments of its path, decoded; none for `/`.
        hosts: Its hosts as `host_name` gives them; none for every host.
    """

    path: tuple[bytes, ...]
    hosts: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The path as people read it."""
        return "/" + b"/".join(self.path).decode(errors="backslashreplace")

    def clashes(self, other: Route) -> bool:
        """Whether a request can be meant for both in the same degree."""
        hosts = bool(self.hosts & other.hosts) if self.hosts and other.hosts else self.hosts == other.hosts
        return self.path == other.path and hosts


class Router:
    """Finds mounts: the longest path first, then the host, then the order of the file.

    Args:
        routes: The routes, in the order of the file.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        places = range(len(routes))
        self._order = [(one, routes[one]) for one in sorted(places, key=lambda one: _rank(routes[one]))]

    def find(self, host: str, segments: tuple[bytes, ...]) -> int | None:
        """Finds the mount for a request.

        Args:
            host: As `host_name` gives it.
            segments: As `segments_of` gives them.

        Returns:
            Its place in the order of the file; None when nothing matches.
        """
        for place, route in self._order:
            if segments[: len(route.path)] == route.path and (not route.hosts or host in route.hosts):
                return place
        return None


def _rank(route: Route) -> tuple[int, bool]:
    # Only nested paths can match the same request, so the number of segments is their length.
    return -len(route.path), not route.hosts


class Found:
    """What answers a request.

    Args:
        mounted: The mount.
        rest: The segments of the path below it, decoded.
        path_info: The same as text, for applications.
    """

    __slots__ = ("mounted", "path_info", "rest")

    def __init__(self, mounted: Any, rest: tuple[bytes, ...], path_info: str) -> None:
        self.mounted = mounted
        self.rest = rest
        self.path_info = path_info


class Finder:
    """The mounts of a server by host and path. Any thread may ask.

    Args:
        mounted: The mounts, each with `depth`: how many segments its path has.
        routes: Where each of them is, in the same order.

    Attributes:
        known: What was found: (host, path) → it. For whoever cannot wait for a call.
    """

    def __init__(self, mounted: Sequence[Any], routes: Sequence[Route]) -> None:
        self._mounted = mounted
        self._router = Router(routes)
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


def segments_of(path: str) -> tuple[bytes, ...] | None:
    """Takes a path apart.

    Args:
        path: The path, percent-encoded, without a query; ASCII.

    Returns:
        Its decoded segments: `/a/b` has two, `/a/` has `a` and an empty one, `/` an empty one. None for a path that
        climbs or stays (`..`, `.`, also behind an encoded slash or backslash) or holds a NUL.
    """
    if not path:
        return ()
    if "%" not in path and "/." not in path and "\\" not in path and "\0" not in path:
        return tuple(path[1:].encode().split(b"/"))
    # Late: few paths hold any of these.
    from urllib.parse import unquote_to_bytes

    segments = tuple(map(unquote_to_bytes, path[1:].split("/")))
    for one in segments:
        if b"\0" in one or any(part in (b".", b"..") for part in _SEPARATORS.split(one)):
            return None
    return segments
