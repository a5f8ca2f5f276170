"""Resources of twisted.web as mounts of the loop: protocols, TLS, limits and drains are theirs as for all others."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import TYPE_CHECKING, Any

from twisted.web import resource, server

from appd.http.basic import Guard, Refusal
from appd.servers.http.resource_channel import Channel

if TYPE_CHECKING:
    from appd.http.core.request import Request

__all__ = ["ResourceApplication", "is_resource"]

# So much of a body is kept while a password is looked at.
_KEPT = 65536


class ResourceApplication:
    """A resource as the loop knows it: it needs no task of its own, see `AsgiMounted`.

    Args:
        root: The resource.
        depth: How many segments the path of its mount has.
        guard: Who asks for a password first; None for nobody.
    """

    def __init__(self, root: Any, depth: int, guard: Guard | None = None) -> None:
        self._site = _Site(root, depth)
        self._guard = guard

    def behind(self, guard: Guard) -> ResourceApplication:
        """The same behind a guard."""
        return ResourceApplication(self._site.resource, self._site.depth, guard)

    def begin(self, line: Any, request: Request, mounted: Any) -> None:
        """Has it answer, in the thread of the loop, which is that of the reactor.

        Args:
            line: What the request came on; told what is said to it from now on.
            request: The request.
            mounted: The mount.
        """
        guard = self._guard
        if guard is None:
            channel = line.exchange = Channel(self._site, line, request, mounted)
            channel.begin()
            return
        said = [value for name, value in request.fields if name == "authorization"]
        authorization = said[0] if len(said) == 1 else None
        known, peer = guard.known(authorization), line.seen()[0]
        refusal = guard.refusal(authorization, peer) if known is None else None
        if refusal is not None:
            line.plain(refusal.status, *refusal.fields)
            return
        guarded = line.exchange = _Guarded(self._site, line, request, mounted)
        if known is not None:
            guarded.let_in()
        else:
            guarded.look_at(guard, authorization, peer)


class _Site(server.Site):
    """What twisted.web knows of a mount: the resource sees what is below its path."""

    def __init__(self, root: Any, depth: int) -> None:
        super().__init__(root, requestFactory=_Request)
        self.depth = depth

    def getResourceFor(self, request: Any) -> Any:
        """Finds the resource below the mount."""
        # Whoever has the connection says who and when we are, unless the resource does.
        headers = request.responseHeaders
        headers.removeHeader(b"server")
        headers.removeHeader(b"date")
        depth, below = self.depth, request.postpath
        if depth:
            request.prepath += below[:depth]
            del below[:depth]
        elif not below:
            # `/mount` and `/mount/` are the same place to a mount, and have no segment and an empty one.
            below.append(b"")
        return super().getResourceFor(request)


class _Request(server.Request):
    def gotLength(self, length: int | None) -> None:
        """Twisted's own, which first looks whether the site knows better."""
        if length == 0:
            self.content = BytesIO()
        else:
            super().gotLength(length)


class _Guarded(Channel):
    """A request whose password is looked at first: a thread does that, as it takes a tenth of a second."""

    _kept: list[bytes] | None = None
    _size = 0
    _is_complete = False

    def look_at(self, guard: Guard, authorization: str | None, peer: str) -> None:
        """Has the password looked at."""
        self._kept = []
        looking = self._line.loop.run_in_executor(None, guard.verify, authorization, peer)
        looking.add_done_callback(self._judged)

    def _judged(self, looking: asyncio.Future[str | Refusal]) -> None:
        kept, self._kept = self._kept, None
        if self._ended or kept is None:
            return
        line = self._line
        found = looking.result()
        if isinstance(found, Refusal):
            self.cancel()
            line.exchange = None
            line.plain(found.status, *found.fields)
            return
        self.let_in()
        for one in kept:
            self.feed(one)
        line.took(self._size)
        if self._is_complete:
            self.end_body()

    def let_in(self) -> None:
        """Asks the resource; it has no use for the password."""
        self.begin(without=b"authorization")

    def feed(self, data: bytes) -> bool:
        """See `Channel.feed`."""
        if self._kept is None:
            return super().feed(data)
        self._kept.append(data)
        self._size += len(data)
        return self._size < _KEPT

    def end_body(self) -> None:
        """See `Channel.end_body`."""
        if self._kept is None:
            super().end_body()
        else:
            self._is_complete = True


def is_resource(thing: Any) -> bool:
    """Whether something is a resource."""
    return bool(resource.IResource.providedBy(thing))
