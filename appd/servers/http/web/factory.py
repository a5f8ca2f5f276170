"""The engine on twisted.web: a site → a protocol factory.

Another engine takes its place by making a factory from the same `Site`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.web import http
from zope.interface import implementer

from appd.http.log.accesslog import AccessLog
from appd.http.log.entrylog import EntryLog
from appd.http.redirect import Redirection
from appd.http.routing import Router
from appd.http.site import Mount, Redirect, Site, Static, Wsgi
from appd.http.static.static import Folder
from appd.interfaces import Host, IDrainable
from appd.servers.http.events import EventLog
from appd.servers.http.web.channel import Channel
from appd.servers.http.web.guarded import ServeGuarded
from appd.servers.http.web.static import ServeResponses
from appd.servers.http.web.wsgi import ServeApplication

__all__ = ["SiteFactory"]


@implementer(IDrainable)
class SiteFactory(http.HTTPFactory):
    """Makes a channel for each connection.

    Args:
        name: The name of the server.
        site: What it serves.
        host: Lends the reactor and the threads.
        clock: Seconds that only ever grow.

    Attributes:
        router: Finds the place of the mount for a request.
        mounts: The mounts.
        serving: What answers, by the same places: called with the request and the rest of its path.
        entries: The log.
        access: The access log.
        access_log: The format for requests that no mount answers.
        channels: The open connections.
        draining: Whether connections are to end.
        count_request: Called for each request.
    """

    protocol = Channel  # type: ignore[assignment]  # Twisted's own is a proxy that may speak HTTP/2
    noisy = False

    def __init__(self, name: str, site: Site, host: Host, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(reactor=host.reactor)
        self.name = name
        self.clock = clock
        self.mounts = site.mounts
        self.router = Router([one.route for one in site.mounts])
        self.entries: EntryLog = host.log or EventLog()
        self.access = AccessLog(name, self.entries, site.sample)
        self.access_log = site.access_log
        self.serving = [_serving(one, host, self.entries) for one in site.mounts]
        self.channels: set[Channel] = set()
        self.draining = False
        self.count_request: Callable[[], None] = lambda: None

    def startFactory(self) -> None:
        """Nothing: Twisted's opens its own access log, and wakes up every second for its clock."""

    def stopFactory(self) -> None:
        """Nothing, as above."""

    def log(self, request: Any) -> None:
        """A response is complete."""
        request.log_access(request.code)

    def drain(self) -> None:
        """Ends each connection when what it has begun is answered; see `appd.interfaces.IDrainable`."""
        self.draining = True
        for channel in list(self.channels):
            channel.drain()


def _serving(mount: Mount, host: Host, log: EntryLog) -> Callable[[Any, tuple[bytes, ...]], None]:
    serving = _unguarded(mount, host, log)
    return serving if mount.guard is None else ServeGuarded(mount.guard, serving, host.reactor, host.threads)


def _unguarded(mount: Mount, host: Host, log: EntryLog) -> Callable[[Any, tuple[bytes, ...]], None]:
    if isinstance(mount.serves, Wsgi):
        return ServeApplication(mount.serves.application, host.reactor, host.threads, log)
    if isinstance(mount.serves, Static):
        return ServeResponses(Folder(mount.serves).respond)
    assert isinstance(mount.serves, Redirect), "an application of the loop was refused"
    return ServeResponses(Redirection(mount.serves, len(mount.route.path)).respond)
