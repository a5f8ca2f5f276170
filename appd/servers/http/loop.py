"""The loop driver, as the service of an HTTP server has it: threads on the one side, Deferreds on the other."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from twisted.internet import defer

from appd.errors import ConfigurationError
from appd.http.handover import Handed
from appd.http.log.entrylog import EntryLog
from appd.http.loop.client import LoopClient
from appd.http.loop.driver import Driver
from appd.http.loop.lifespan import LifespanFailed
from appd.http.loop.mounted import AsgiMounted
from appd.http.site import Asgi, Mount
from appd.interfaces import Host, Section
from appd.listening.reactor import adopt

__all__ = ["Loop"]

_DRIVER = "appd.http.loop"
# How long applications may take to end when there was no drain, or it has used up its time, in seconds.
_LAST_MOMENT = 2.0


class Loop:
    """What one server has on the loop.

    Args:
        section: Its section.
        log: The log.

    Attributes:
        driver: The driver of the process.
    """

    def __init__(self, section: Section, log: EntryLog) -> None:
        host = section.host
        self._section = section
        self._reactor = host.reactor
        self._process = _process_of(host, log)
        self.driver = self._process.driver
        self._mounts: list[AsgiMounted] = []
        self._begun = False

    def mount(self, mount: Mount) -> AsgiMounted:
        """Makes what answers for a mount; see `Driver.mount`."""
        if isinstance(mount.serves, Asgi) and mount.serves.kind == "resource":
            self.ride("<resource>")
        made = self.driver.mount(mount)
        self._mounts.append(made)
        return made

    def ride(self, what: str) -> None:
        """Has the loop share the reactor's thread.

        Args:
            what: What needs that, for people.

        Raises:
            ConfigurationError: The reactor cannot.
        """
        if not adopt(self._reactor):
            name = type(self._reactor).__name__
            problem = self._section.settings.problem(f"{what} needs Twisted's epoll reactor, and this is {name}")
            raise ConfigurationError(problem)
        self.driver.ride(self._reactor)

    def take(self, handed: Handed) -> LoopClient:
        """Takes over a connection that the lane had; see `Driver.take`."""
        return self.driver.take(handed)

    def start_up(self) -> defer.Deferred[None]:
        """Has the applications begin; calling again does nothing.

        Returns:
            Fires when all have; fails with a `ConfigurationError` when one cannot.
        """
        if self._begun:
            return defer.succeed(None)
        self._begun = True
        self._process.start()
        return later(self._reactor, self.driver.run(self.driver.start_up(self._mounts))).addErrback(self._cannot)

    def _cannot(self, failure: Any) -> None:
        failure.trap(LifespanFailed)
        error: LifespanFailed = failure.value
        settings = next(
            one
            for one in self._section.settings.mounts
            if one.section_type == "http.asgi" and one.application == error.dotted
        )
        problem = settings.problem(f"application {error.dotted} failed to start: {error.reason}", "application")
        raise ConfigurationError(problem._replace(traceback=error.traceback))

    def shut_down(self) -> defer.Deferred[None]:
        """Waits until no call of the applications runs, and has them end."""
        return later(self._reactor, self.driver.run(self._shut_down()))

    def turn(self) -> defer.Deferred[None]:
        """Waits until what the loop has been asked for is done."""
        return later(self._reactor, self.driver.run(asyncio.sleep(0)))

    async def _shut_down(self) -> None:
        await self.driver.idle(self._mounts)
        await self.driver.shut_down(self._mounts)


class _Process:
    """The driver of a process, from the first server that begins on it to the end of the reactor."""

    def __init__(self, host: Host, log: EntryLog) -> None:
        self.driver = Driver(log)
        self._reactor = host.reactor
        self._started = False

    def start(self) -> None:
        """Begins to run; calling again does nothing."""
        if not self._started:
            self._started = True
            self.driver.start()
            # After the drain, which is a trigger before the shutdown; and where no drain was, as a start has failed.
            self._reactor.addSystemEventTrigger("during", "shutdown", self._stop)

    def _stop(self) -> None:
        # Twisted waits for no Deferred in this phase, and the process may end behind it: the connections that a drain
        # has cut are to be reset before, and applications whose start has failed to end.
        ending = self.driver.run(self.driver.shut_down(self.driver.mounts))
        if self.driver.apart:
            with suppress(Exception):
                ending.result(_LAST_MOMENT)
        self.driver.stop()


def later(reactor: Any, future: Future[Any]) -> defer.Deferred[None]:
    """A Deferred for what happens in another thread; cancelling it cancels that."""

    def cancel(_made: defer.Deferred[None]) -> None:
        future.cancel()

    made: defer.Deferred[None] = defer.Deferred(cancel)

    def ended(one: Future[Any]) -> None:
        if made.called or one.cancelled():
            return
        error = one.exception()
        if error is not None:
            made.errback(error)
        else:
            made.callback(None)

    future.add_done_callback(lambda one: reactor.callFromThread(ended, one))
    return made


def _process_of(host: Host, log: EntryLog) -> _Process:
    """What a worker has of it: one for all of its servers."""
    found: _Process | None = host.shared.get(_DRIVER)
    if found is None:
        found = host.shared[_DRIVER] = _Process(host, log)
    return found
