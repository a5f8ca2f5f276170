"""The first answers of a cold start, before Twisted is imported.

    settings ─▶ ground ─▶ forerunners: doors open, threads answer ─▶ (Twisted is imported) ─▶ services take them over

A service that a connection has woken is waited for. What answers needs neither Twisted nor ZConfig, and importing those
takes several times as long as everything else; so where the file allows it the servers begin first, and the rest of the
start goes on beside them, in the main thread.

Nobody is answered by a service that then does not start. So this is done only where nothing of the file can fail any
more when the first connection is accepted: every server is one whose type has a `forerun`, all that it serves has been
imported and made, and all sockets are there. A file with anything else in it, as a server of another type, TLS, or
users to be authenticated, starts as a whole, when all of it is ready. Neither is it done in a generation that takes
over from another, or in a worker that takes the place of one.

What comes after that and may still fail is the host's: no memory, no thread, a broken installation. Then, and when a
stop comes, what has begun is finished before the process ends.
"""

from __future__ import annotations

import sys
import time

from appd.errors import AppdError
from appd.startup.bare import suppress
from appd.startup.barethread import claim_main_thread
from appd.worker.assembly import Ground, forerun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event
    from typing import Any

    from appd.config import Settings
    from appd.signals import StopSignals
    from appd.systemd.notify import Notifier

__all__ = ["Early", "allows"]

_TYPES = frozenset({"http"})
# How often a manager hears of a drain, and how much more time it is asked for; as in `appd.worker.lifecycle`.
_TELL, _EXTENSION = 1.0, 5.0
# While the main thread imports, those that answer wait at each system call until it gives them the interpreter: for so
# long at most, in seconds. Python's own 5 ms made that 20 and more for one answer.
_SWITCH = 0.0002
# So long, in seconds and so often, the main thread waits for the first answers.
_TURN, _TURNS = 0.002, 10


def allows(settings: Settings) -> bool:
    """Whether a file looks as if its servers could begin early. What it refers to has not been looked at.

    Args:
        settings: The settings of the file.
    """
    return not settings.auths and all(_is_simple(one) for one in settings.servers)


def _is_simple(server: Settings) -> bool:
    values = server.values
    addresses = values.get("address") or ()
    return (
        server.section_type in _TYPES
        and values.get("tls") is None
        and not values.get("tls_address")
        and all(one.kind != "twisted" for one in addresses)
    )


class Early:
    """Servers that answer before they are services.

    Args:
        ground: What they are made of.
        signals: The ending signals.
        notifier: What tells the service manager.
        supervised: Whether that is a supervisor.

    Resource handling: what has begun is the caller's to `drain`, until services have taken it over.
    """

    def __init__(self, ground: Ground, signals: StopSignals, notifier: Notifier, *, supervised: bool) -> None:
        self._listeners = [listener for one in ground.plan.servers for listener in one.listeners]
        self._signals = signals
        self._notifier = notifier
        self._supervised = supervised
        made = forerun(ground)
        # All or none: what is half there would surprise whoever gets its answers.
        self._runners: Sequence[Any] = made if all(one is not None for one in made) else ()
        self._changed: Event | None = None
        self._leaves = False
        self._switch = sys.getswitchinterval()

    def begin(self) -> bool:
        """Serves, if every server can.

        Returns:
            Whether they do.

        Raises:
            AppdError: The host refuses; nothing is left bound.
        """
        if not self._runners:
            return False
        try:
            # All of them before the first connection is accepted.
            for listener in self._listeners:
                listener.prepare()
            self._signals.serves = True
            sys.setswitchinterval(_SWITCH)
            for one in self._runners:
                one.begin()
        except AppdError:
            for listener in self._listeners:
                listener.release()
            raise
        self._give_way()
        self._complete()
        return True

    def _give_way(self) -> None:
        """Lets those who wait already be answered before anything else is imported."""
        seen = -1
        for _turn in range(_TURNS):
            count = sum(one.engine.requests for one in self._runners)
            waiting = not count and any(one.open_connections for one in self._runners)
            if count == seen and not waiting:
                return
            seen = count
            time.sleep(_TURN)

    def _complete(self) -> None:
        # The threads that come now import `threading`.
        claim_main_thread()
        for one in self._runners:
            one.complete()

    def make_way(self) -> None:
        """The main thread has done what keeps it busy."""
        sys.setswitchinterval(self._switch)

    def drain(self, seconds: float) -> None:
        """Finishes what has begun and was not taken over, and returns when no connection is left.

        Args:
            seconds: How long at most; what is open then is cut.
        """
        waiting = [one for one in self._runners if one.waits]
        if not waiting:
            return
        from threading import Event

        self._changed = changed = Event()
        self._signals.note_when_told(self._leave, insists=not self._supervised)
        with suppress(RuntimeError):  # no further thread: then one of them does it
            self._complete()
        for one in waiting:
            one.changed = changed.set
            one.drain()
        self._wait(waiting, seconds, changed)
        for one in waiting:
            one.abort()
        for listener in self._listeners:
            # What the supervisor has been given stays; a path that nobody keeps goes with us.
            with suppress(OSError):
                listener.release()

    def _wait(self, waiting: Sequence[Any], seconds: float, changed: Event) -> None:
        ends = time.monotonic() + seconds
        tells = 0.0
        while (left := ends - time.monotonic()) > 0 and not self._leaves:
            count = sum(one.open_connections for one in waiting)
            if not count:
                return
            if time.monotonic() >= tells:
                tells = time.monotonic() + _TELL
                self._tell(left, count)
            changed.wait(min(left, _TELL, 0.2))
            changed.clear()

    def _tell(self, left: float, count: int) -> None:
        status = f"draining, {count} connection{'s' * (count != 1)} left, {left:.0f} s to go"
        self._notifier.tell(status=status, extend_timeout=_EXTENSION, watchdog=True)

    def _leave(self) -> None:
        self._leaves = True
        if self._changed is not None:
            self._changed.set()
