"""The worker's word to its manager."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from appd.service import ServerService
from appd.worker.group import ServerGroup
from appd.worker.lifecycle import Lifecycle
from appd.worker.pool import ApplicationThreads


class Notifier:
    """Keeps what it is told."""

    watchdog_interval = None
    when_blocked: Any = None

    def __init__(self) -> None:
        self.beats = 0

    def tell(self, watchdog: bool = False, **_words: Any) -> None:
        self.beats += watchdog


class Hanging(ServerService):
    """A server with threads of its own, which may hang."""

    turns = True

    def alive(self) -> bool:
        return self.turns


def test_the_beat_stops_when_a_server_hangs() -> None:
    """And goes on when it turns again."""
    clock, notifier = Clock(), Notifier()
    server = Hanging("s", "test", [], clock, Factory.forProtocol(Protocol))
    lifecycle = Lifecycle(ServerGroup([server], clock, 1), ApplicationThreads(1), notifier, clock)  # type: ignore[arg-type]
    lifecycle.beat(1)
    clock.pump([1, 1])
    assert notifier.beats == 3
    server.turns = False
    clock.pump([1, 1])
    assert notifier.beats == 3
    server.turns = True
    clock.pump([1])
    assert notifier.beats == 4
