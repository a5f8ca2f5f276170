"""The engine of an HTTP server, without the service around it: it may serve before Twisted is imported.

At a cold start (`appd.worker.early`) it is made and begins first, and the service takes it over with its doors and what
has come through them. In every other case the service is given one that has not begun.
"""

from __future__ import annotations

import os

from appd.http.lane.lane import Lane
from appd.http.lane.server import Server
from appd.http.site import Redirect, Site, Static, Wsgi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from appd.http.lane.door import Door
    from appd.http.lane.tlsclient import Security
    from appd.http.log.entrylog import EntryLog
    from appd.lending import Host, Section

__all__ = ["TERMINAL", "Forerunner", "bound_by_twisted", "log_of", "may_begin"]

_LANE = "appd.http.lane.lane"
TERMINAL = "terminal"
"""Among what a process lends its servers: whether a person sits before it, and it serves alone."""
# What is served without Twisted and without a loop.
_SERVED = (Redirect, Static, Wsgi)


def bound_by_twisted(listener: Any) -> bool:
    """Whether only Twisted can bind the address of a listener.

    Args:
        listener: It; one without a kind is a name that systemd will pass.
    """
    return bool(listener.kind) and not hasattr(listener, "duplicate")


def may_begin(site: Site, listeners: Iterable[Any]) -> bool:
    """Whether nothing that a server serves, and no address, needs Twisted.

    Args:
        site: What it serves.
        listeners: Its addresses.
    """
    served = all(isinstance(one.serves, _SERVED) and one.guard is None for one in site.mounts)
    return (
        served
        and not site.http2
        and all(one.kind == "stream" and one.tls is None and hasattr(one, "duplicate") for one in listeners)
    )


class Forerunner:
    """The engine of one server.

    Args:
        name: What the server is called.
        site: What it serves.
        section: The section it was made from.
        driver: What serves the mounts that are not the lane's; None where there are none.

    Attributes:
        lane: What reads and answers, for all servers of the process.
        engine: The server as the lane knows it.
        many: Whether other processes serve the same.

    Resource handling: owns the doors that `begin` opened until somebody takes them by `door`.
    """

    def __init__(self, name: str, site: Site, section: Section, driver: Any = None) -> None:
        host = section.host
        log = log_of(host)
        report = _reports(site, host)
        if report is not None and host.shared.get(TERMINAL):
            # Somebody thinks about a request that failed.
            site = site._replace(limits=site.limits._replace(request_timeout=0.0))
        self.lane = _lane_of(host, log)
        self.engine = Server(name, site, self.lane, log, report=report, driver=driver)
        self.many = host.many_serve(section.settings.processes or "all")
        self._listeners = section.listeners
        self._doors: dict[int, Door] = {}

    def begin(self) -> None:
        """Listens on every address, and answers; `complete` is to follow soon.

        Raises:
            AppdError: An address cannot be listened on.
        """
        self.lane.start(early=True)
        for one in self._listeners:
            self._doors[id(one)] = self.door(one)

    def complete(self) -> None:
        """Answers with all threads, and keeps deadlines."""
        self.lane.start()

    def door(self, listener: Any, security: Security | None = None) -> Door:
        """The door of a listener, which is the caller's from now on; it is opened if it is not open already.

        Args:
            listener: One of those that the server was made with.
            security: What makes it speak TLS; None when it is plain.
        """
        opened = self._doors.pop(id(listener), None)
        return opened or self.engine.listen(listener.duplicate(), many_processes=self.many, security=security)

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


def log_of(host: Host) -> EntryLog:
    """The log of the process, or Twisted's where there is none.

    Args:
        host: What the process lends.
    """
    if host.log is not None:
        return host.log
    from appd.servers.http.events import EventLog

    return EventLog()


def _reports(site: Site, host: Host) -> Any:
    if not site.debug:
        return None
    from appd.http.log.report import Reports

    reports = Reports(os.environ.get("STATE_DIRECTORY", "").partition(":")[0])
    if not host.shared.get(TERMINAL):
        return reports
    from appd.http.log.debugger import Debugger

    return Debugger(reports)
