"""The engine of an HTTP server, without the service around it: it may serve before Twisted is imported.

At a cold start (`appd.early`) it is made and begins first, and the service takes it over with its doors and what has
come through them. In every other case the service is given one that has not begun.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from appd.http.lane import Lane
from appd.http.server import Door, Server
from appd.http.site import Redirect, Site, Static, Wsgi

if TYPE_CHECKING:
    from appd.http.entrylog import EntryLog
    from appd.lending import Host, Section

__all__ = ["Forerunner"]

_LANE = "appd.http.lane"
# What is served without Twisted and without a loop.
_SERVED = (Redirect, Static, Wsgi)


class Forerunner:
    """The engine of one server.

    Args:
        name: What the server is called.
        site: What it serves.
        section: The section it was made from.

    Attributes:
        site: What it serves.
        lane: What reads and answers, for all servers of the process.
        engine: The server as the lane knows it.
        changed: Called, in some thread, when a connection has begun or ended.
        many: Whether other processes serve the same.

    Resource handling: owns the doors that `begin` opened until somebody takes them by `door`.
    """

    def __init__(self, name: str, site: Site, section: Section) -> None:
        host = section.host
        log: EntryLog = host.log or _event_log()
        self.site = site
        self.lane = _lane_of(host, log)
        self.engine = Server(name, site, self.lane, log, lambda: self.changed(), _reports(site))
        self.changed: Callable[[], None] = lambda: None
        everywhere = (section.settings.processes or "all") == "all"
        self.many = everywhere and getattr(host.settings, "workers", 1) > 1
        self._listeners = section.listeners
        self._doors: dict[int, Door] = {}

    @property
    def may_begin(self) -> bool:
        """Whether nothing that it serves, and no address, needs Twisted."""
        served = all(isinstance(one.serves, _SERVED) for one in self.site.mounts)
        return served and all(
            one.kind == "stream" and one.tls is None and hasattr(one, "duplicate") for one in self._listeners
        )

    def begin(self) -> None:
        """Listens on every address, and answers.

        Raises:
            AppdError: An address cannot be listened on.
        """
        self.lane.start()
        for one in self._listeners:
            self._doors[id(one)] = self.door(one)

    def door(self, listener: Any) -> Door:
        """The door of a listener, which is the caller's from now on; it is opened if it is not open already.

        Args:
            listener: One of those that the server was made with.
        """
        opened = self._doors.pop(id(listener), None)
        return opened or self.engine.listen(listener.duplicate(), many_processes=self.many)

    @property
    def waits(self) -> bool:
        """Whether it has begun, and nobody has taken it over yet."""
        return bool(self._doors)

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self.engine.clients)

    def drain(self) -> None:
        """Accepts nothing more, and ends each connection when what it has begun is answered."""
        for door in self._doors.values():
            door.pause()
        self.engine.drain()

    def abort(self) -> int:
        """Cuts every connection.

        Returns:
            How many there were.
        """
        return self.engine.abort()


def _lane_of(host: Host, log: EntryLog) -> Lane:
    """The lane of a worker: one for all of its servers."""
    lane: Lane | None = host.shared.get(_LANE)
    if lane is None:
        lane = host.shared[_LANE] = Lane(host.settings.threads, log, host.shared.get("replace", lambda: None))
    return lane


def _event_log() -> EntryLog:
    from appd.servers.http.web_log import EventLog

    return EventLog()


def _reports(site: Site) -> Any:
    if not site.debug:
        return None
    from appd.http.report import Reports

    return Reports(os.environ.get("STATE_DIRECTORY", "").partition(":")[0])
