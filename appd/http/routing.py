"""Host and path of a request → the mount that answers it. Nothing here knows of sockets or of twisted.web.

Paths are compared segment by segment after percent-decoding, so that `/media` is neither `/mediax` nor `/media%2fx`.
A path that climbs (`..`, however it is spelled) has no segments at all: it would mean one thing to us and another to
whoever takes it apart next. Clients remove such parts before they send a request (RFC 3986, 5.2.4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

__all__ = ["Route", "Router", "Target", "host_name", "read_target", "segments_of"]

# RFC 3986, 3.2.2: reg-name or IP-literal, and a port that may be empty. No user: RFC 9110, 4.2.4.
_AUTHORITY = re.compile(r"(\[[0-9a-f:.%v_~-]+\]|[a-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?\Z", re.A)
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(/[^?#]*)?(?:\?[^#]*)?\Z", re.I)
# RFC 9112, 3.2: a request target is visible ASCII; the rest would be percent-encoded.
_VISIBLE = re.compile(rb"[\x21-\x7e]+\Z")
_SEPARATORS = re.compile(rb"[/\\]")


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


class Target(NamedTuple):
    """What a request is for.

    Attributes:
        authority: Host and port as the client wrote them; "" when it named none.
        host: The host, as `host_name` gives it.
        path: The path, still encoded; `*` for the server as a whole.
    """

    authority: str
    host: str
    path: bytes


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
    segments = tuple(map(unquote_to_bytes, path[1:].split("/")))
    for one in segments:
        if b"\0" in one or any(part in (b".", b"..") for part in _SEPARATORS.split(one)):
            return None
    return segments


def host_name(authority: str) -> str:
    """The host of an authority: lower case, without the port and a final dot.

    Raises:
        ValueError: It is none.
    """
    match = _AUTHORITY.match(authority.lower())
    if match is None:
        raise ValueError(f"{authority!r} is no host")
    return match[1].removesuffix(".")


def read_target(method: bytes, target: bytes, version: bytes, hosts: Sequence[bytes]) -> Target:
    """Reads what a request is for: RFC 9112, 3.2 and 3.3.

    Args:
        method: The method.
        target: The request target.
        version: `HTTP/1.1` or `HTTP/1.0`.
        hosts: The values of the Host fields.

    Raises:
        ValueError: It deserves a 400.
    """
    if not _VISIBLE.match(target):
        raise ValueError("the request target has characters that it must not have")
    if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
        raise ValueError("HTTP/1.1 wants one Host field")
    authority = hosts[0].decode("ascii") if hosts else ""
    if target.startswith(b"/"):
        path = target.partition(b"?")[0]
    elif target == b"*" and method == b"OPTIONS":
        path = target
    else:
        # The host of an absolute target counts, not the Host field (3.2.2).
        match = _ABSOLUTE.match(target)
        if match is None:
            raise ValueError("the request target is of no known form")
        authority, path = match[1].decode("ascii"), match[2] or b"/"
    return Target(authority, host_name(authority), path)
