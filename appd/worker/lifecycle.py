"""A worker as a Twisted service that tells the service manager the truth.

READY=1 when every address of every server listens, STATUS= that follows what happens, WATCHDOG=1 from the reactor
itself (a thread would go on saying it while the reactor hangs), STOPPING=1 and a countdown while draining.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet import defer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from appd import messages
from appd.errors import AppdError
from appd.pending import Pending, pack, sentence
from appd.troubles import Trouble, brief
from appd.troubles import pack as pack_troubles

if TYPE_CHECKING:
    from appd.systemd.notify import Notifier
    from appd.worker.group import ServerGroup
    from appd.worker.pool import ApplicationThreads

__all__ = ["Lifecycle"]

_log = Logger(namespace="appd.lifecycle")

# STATUS= follows the connections at most this often, in seconds: people read it.
_STATUS_INTERVAL = 1.0
# When to try again to tell a manager that is busy, in seconds.
_RETRY = 0.1
# The manager is asked for this much more each second of a drain: enough for a few missed turns of the reactor.
_EXTENSION = 5.0


class Lifecycle(MultiService):
    """The servers of one worker, from the start to the end of the drain.

    Args:
        group: The servers.
        threads: The pool for blocking applications; started and stopped here.
        notifier: What tells the service manager.
        reactor: The reactor.
        failed: Called with an `AppdError` when a server fails to listen after `startService` has returned.
        finished: Called when the last connection of a worker that serves only accepted connections has ended.
        dropped: Says how many log entries were lost.

    Attributes:
        ready: Whether READY=1 has been said.
    """

    def __init__(
        self,
        group: ServerGroup,
        threads: ApplicationThreads,
        notifier: Notifier,
        reactor: Any,
        failed: Callable[[AppdError], None] = lambda _error: None,
        finished: Callable[[], None] = lambda: None,
        dropped: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__()
        self.group = group
        self.ready = False
        self._threads = threads
        self._notifier = notifier
        self._reactor = reactor
        self._failed = failed
        self._finished = finished
        self._dropped = dropped
        self._status_due: Any = None
        self._told: dict[str, str] = {}
        self._watchdog: LoopingCall | None = None
        self._stopping: defer.Deferred[None] | None = None
        self._certificates = ""
        notifier.when_blocked = lambda: reactor.callLater(_RETRY, notifier.flush)
        group.setServiceParent(self)
        group.draining = self._draining
        group.end_calls = self._end_calls
        for server in group.servers:
            server.changed = self._changed

    def startService(self) -> None:
        """Starts every server; READY=1 follows when all listen.

        Raises:
            AppdError: A server cannot listen; nothing is left listening.
        """
        self._threads.start()
        try:
            super().startService()
        except BaseException:
            self._threads.stop()
            raise
        # Not before the reactor runs: who is told READY=1 may send a signal, and the handlers come with the reactor.
        self.group.listening.addCallbacks(
            lambda _none: self._reactor.callWhenRunning(self._is_ready), self._listen_failed
        )
        interval = self._notifier.watchdog_interval
        if interval is not None:
            self.beat(interval)

    def beat(self, interval: float) -> None:
        """Says WATCHDOG=1 to a supervisor, from the reactor.

        Args:
            interval: How often, in seconds.
        """
        self._watchdog = LoopingCall(self._beat)
        self._watchdog.clock = self._reactor
        self._watchdog.start(interval)

    def _beat(self) -> None:
        # A server with threads of its own may hang while the reactor turns.
        if all(server.alive() for server in self.group.servers):
            self._notifier.tell(watchdog=True)

    def _listen_failed(self, failure: Any) -> None:
        error = failure.value if failure.check(AppdError) else AppdError(str(failure.value))
        self._failed(error)

    def _is_ready(self) -> None:
        if self._stopping is not None:
            return
        self.ready = True
        self._notifier.tell(ready=True, status=self._status())
        _log.info("ready: {status}", status=self._status(), message_id=messages.READY)
        self._changed()

    def _status(self) -> str:
        servers, connections = len(self.group.services), self.group.open_connections
        said = f"serving {servers} server{'s' * (servers != 1)}, {connections} connection{'s' * (connections != 1)}"
        return ", ".join(filter(None, (said, sentence(*self._calls()), self._certificates)))

    def _pending(self) -> list[Pending]:
        """The calls of every mount, and those that run in the pool."""
        rows = [row for server in self.group.servers for row in server.pending()]
        pool = self._threads
        rows.append(Pending("", "thread pool", pool.running, pool.queued, pool.max, 0, pool.cancelled))
        return rows

    def _calls(self) -> tuple[int, int, int]:
        """How many run, how many wait, in how many threads."""
        pool, servers = self._threads, self.group.servers
        rows = [row for server in servers for row in server.pending()]
        # The lane and the pool have so many each; most processes need one of the two.
        both = bool(rows) and bool(pool.running or pool.queued)
        running, queued = sum(one.running for one in rows), sum(one.queued for one in rows)
        return running + pool.running, queued + pool.queued, pool.max * (1 + both)

    def _end_calls(self) -> int:
        """Cancels what still waits in the pool when the drain has ended."""
        count = self._threads.end()
        if count:
            _log.warn("calls that still waited for a thread of the pool when the drain ended: cancelled: {n}", n=count)
        return count

    def tell_certificates(self, sentence: str, listed: str, wrong: Sequence[Trouble] = ()) -> None:
        """Tells when certificates expire, and what is wrong with them.

        Args:
            sentence: The first of them, for people.
            listed: The first few, for the supervisor.
            wrong: What is wrong for the moment.
        """
        self._certificates = ", ".join(filter(None, (brief(wrong), sentence)))
        self._notifier.tell(also={"X_APPD_CERTIFICATES": listed, "X_APPD_TROUBLES": pack_troubles(wrong)})
        self._changed()

    @property
    def has_news(self) -> bool:
        """Whether something has been served that the manager has not been told of."""
        return self._status_due is not None

    def _changed(self) -> None:
        """A connection has begun or ended."""
        if self._only_accepted() and self.ready and self.group.open_connections == 0:
            self._finished()
        if self.ready and self._status_due is None and self._stopping is None:
            self._status_due = self._reactor.callLater(_STATUS_INTERVAL, self._tell_status)

    def _tell_status(self) -> None:
        self._status_due = None
        counts = self._counts()
        told = counts | {"STATUS": self._certificates}
        if told != self._told:
            self._told = told
            self._notifier.tell(status=self._status(), also=counts)
        if self.group.open_connections or any(self._calls()[:2]):
            # Nobody says when the next request comes on a connection that stays.
            self._status_due = self._reactor.callLater(_STATUS_INTERVAL, self._tell_status)

    def _counts(self) -> dict[str, str]:
        """What a supervisor is told beside the words for people."""
        running, queued, threads = self._calls()
        return {
            "X_APPD_RUNNING": str(running),
            "X_APPD_QUEUED": str(queued),
            "X_APPD_THREADS": str(threads),
            "X_APPD_PENDING": pack(self._pending()),
            "X_APPD_CONNECTIONS": str(self.group.open_connections),
            "X_APPD_REQUESTS": str(self.group.requests),
            "X_APPD_DROPPED": str(self._dropped()),
        }

    def _only_accepted(self) -> bool:
        listeners = [listener for server in self.group.servers for listener in server.listeners]
        return bool(listeners) and all(listener.kind == "connection" for listener in listeners)

    def _draining(self, left: float, connections: int) -> None:
        status = f"draining, {connections} connection{'s' * (connections != 1)} left, {left:.0f} s to go"
        self._notifier.tell(status=status, extend_timeout=_EXTENSION, also=self._counts())

    def stopService(self) -> defer.Deferred[None]:
        """Drains and stops.

        Returns:
            Fires when everything is closed. Calling again returns the same end.
        """
        if self._stopping is None:
            self._stopping = defer.Deferred()
            self._begin_stop().addBoth(self._stopping.callback)
        waiting: defer.Deferred[None] = defer.Deferred()

        def stopped(result: Any) -> Any:
            waiting.callback(None)
            return result

        self._stopping.addBoth(stopped)
        return waiting

    def _begin_stop(self) -> defer.Deferred[Any]:
        if self._status_due is not None:
            self._status_due.cancel()
            self._status_due = None
        # First, so that whoever is told that we stop meets a server that drains.
        stopped: defer.Deferred[Any] = defer.maybeDeferred(super().stopService)
        # What failed before it was ready has been told, and is what people should read.
        self._notifier.tell(stopping=True, status="stopping" if self.ready else None)
        _log.info("stopping", message_id=messages.STOPPING)
        return stopped.addBoth(self._stopped)

    def leave_at_once(self) -> None:
        """Ends a drain that is under way: open connections are cut."""
        self.group.leave_at_once()

    def _stopped(self, result: Any) -> Any:
        if self._watchdog is not None and self._watchdog.running:
            self._watchdog.stop()
        if self._threads.started and not self._threads.working:
            self._threads.stop()
        return result
