"""A worker that rests: it accepts nothing for the moment, and says whether anything is open in it.

Beside a supervisor that is asked of it. Alone (`--single`, twistd) the worker decides by the same rules for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from appd.supervisor.idle import LEAVE, LOOK, REST, WAKE, IdleExit
from appd.supervisor.idlewatch import anybody_waits

if TYPE_CHECKING:
    from appd.systemd.notify import Notifier
    from appd.worker.lifecycle import Lifecycle

__all__ = ["Rest", "RestAlone"]

_log = Logger(namespace="appd.rest")

# How often a worker that is alone looks how long nothing has happened, in seconds.
_TICK = 1.0


class Rest:
    """What a supervisor may ask of the servers of a worker.

    Args:
        lifecycle: The servers.
        notifier: What tells the supervisor.
        reactor: The reactor.
    """

    def __init__(self, lifecycle: Lifecycle, notifier: Notifier, reactor: Any) -> None:
        self._lifecycle = lifecycle
        self._notifier = notifier
        self._reactor = reactor
        self._resting = False

    def rest(self, number: str) -> None:
        """Accepts nothing more, and says in the next turn of the reactor whether nothing is open.

        Args:
            number: What the answer says, so that it is known for the answer to this.
        """
        self._resting = True
        for server in self._lifecycle.group.servers:
            server.stop_accepting()
        self._reactor.callLater(0, self._answer, number)

    def _answer(self, number: str) -> None:
        word = "X_APPD_RESTS" if self._resting and is_quiet(self._lifecycle) else "X_APPD_BUSY"
        self._notifier.tell(also={word: number})

    def wake(self) -> None:
        """Accepts again."""
        if self._resting:
            self._resting = False
            for server in self._lifecycle.group.servers:
                server.resume_accepting()


def is_quiet(lifecycle: Lifecycle) -> bool:
    """Whether nothing is open, and what was has been told of."""
    return lifecycle.group.open_connections == 0 and not lifecycle.has_news


class RestAlone:
    """`idle-exit` of a worker without a supervisor.

    Args:
        after: How long nothing must have happened, in seconds.
        lifecycle: The servers.
        reactor: The reactor.
        leave: Ends the process.
    """

    def __init__(self, after: float, lifecycle: Lifecycle, reactor: Any, leave: Callable[[], object]) -> None:
        self._lifecycle = lifecycle
        self._reactor = reactor
        self._leave = leave
        self._exit = IdleExit(after, reactor.seconds())
        self._served = 0
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = reactor
        self._ticks.start(_TICK)

    def _tick(self) -> None:
        now, group = self._reactor.seconds(), self._lifecycle.group
        served = sum(one.connections.total for one in group.servers)
        if served != self._served or group.open_connections or not self._lifecycle.ready:
            self._served = served
            self._do(self._exit.happened(now))
        else:
            self._do(self._exit.passed([0], now))

    def _do(self, action: str) -> None:
        servers = self._lifecycle.group.servers
        if action == REST:
            for server in servers:
                server.stop_accepting()
            self._reactor.callLater(0, self._rested)
        elif action == LOOK:
            waits = anybody_waits([fd for server in servers for fd in server.descriptors])
            self._do(self._exit.looked(waits, self._reactor.seconds()))
        elif action == WAKE:
            for server in servers:
                server.resume_accepting()
        elif action == LEAVE:
            _log.info("nothing to do: the service ends until somebody connects")
            self._ticks.stop()
            self._leave()

    def _rested(self) -> None:
        group = self._lifecycle.group
        rests = group.open_connections == 0 and sum(one.connections.total for one in group.servers) == self._served
        self._do(self._exit.answered(0, self._exit.round, rests, self._reactor.seconds()))
