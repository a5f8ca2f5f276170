"""The servers of a file are one tree of Twisted services: what Twisted offers for trees holds for it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.application.service import Application, IService, IServiceCollection, MultiService, Service
from twisted.internet import defer
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from appd.config import load
from appd.errors import AppdError
from appd.worker.assembly import build, compose
from appd.worker.lifecycle import Lifecycle

TEXT = """
drain-timeout 5s
<timer one>
  call   time:time
  every  1h
  after  THREE
</timer>
<timer two>
  call   time:time
  every  1h
</timer>
<timer three>
  call   time:time
  every  1h
  after  two
  after  four
</timer>
<timer four>
  call   time:time
  every  1h
</timer>
"""
ORDER = ["two", "four", "three", "one"]


class Reactor(Clock):
    """A clock that has what a start asks of a reactor."""

    def callWhenRunning(self, call: Any, *arguments: Any) -> None:
        self.callLater(0, call, *arguments)

    def addSystemEventTrigger(self, *_arguments: Any) -> None:
        """Nothing is shut down here."""


class Notifier:
    """Takes what it is told."""

    watchdog_interval = None
    when_blocked: Any = None

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def tell(self, **words: Any) -> None:
        self.told.append(words)


def tree(tmp_path, reactor: Reactor, notifier: Notifier) -> Lifecycle:
    """What a worker makes of the file."""
    file = tmp_path / "appd.conf"
    file.write_text(TEXT)
    return compose(build(load(str(file)), None, {}, reactor), notifier, reactor)  # type: ignore[arg-type]


def watched(services: Any, record: list[tuple[str, str]]) -> None:
    """Has each service note when it starts and stops."""

    def note(one: Any, step: str) -> None:
        real = getattr(one, step)

        def noted() -> Any:
            record.append((step, one.name))
            return real()

        setattr(one, step, noted)

    for one in services:
        note(one, "startService")
        note(one, "stopService")


def test_the_order_of_the_file_reaches_the_tree(tmp_path):
    """Each starts after those that it names, whatever their place in the file; the end goes the other way."""
    reactor, notifier, record = Reactor(), Notifier(), []
    whole = tree(tmp_path, reactor, notifier)
    assert [one.name for one in whole.group] == ORDER
    watched(whole.group, record)
    whole.startService()
    assert record == [("startService", name) for name in ORDER]
    assert all(one.running for one in whole.group)
    record.clear()
    stopping = whole.stopService()
    reactor.pump([0.0, 1.0])
    assert stopping.called
    assert record == [("stopService", name) for name in reversed(ORDER)]
    assert not any(one.running for one in whole.group) and not whole.running


def test_one_that_comes_after_does_not_start_when_the_other_fails(tmp_path):
    """Nor do those that come after it; what had started is stopped, and nothing of the tree runs."""
    reactor, record = Reactor(), []
    whole = tree(tmp_path, reactor, Notifier())

    def fails() -> None:
        raise RuntimeError("no")

    whole.group.getServiceNamed("three").startService = fails
    watched(whole.group, record)
    with pytest.raises(AppdError, match="'three'"):
        whole.startService()
    starts = [name for step, name in record if step == "startService"]
    assert starts == ["two", "four", "three"]
    assert [name for step, name in record if step == "stopService"] == ["four", "two"]
    assert not any(one.running for one in whole.group)


def test_the_whole_is_one_multiservice(tmp_path):
    """Every part is an IService with its parent, found by name, and appd's whole goes below any other service."""
    reactor = Reactor()
    whole = tree(tmp_path, reactor, Notifier())
    assert isinstance(whole, MultiService) and isinstance(whole.group, MultiService)
    assert verifyObject(IService, whole) and verifyObject(IServiceCollection, whole.group)
    assert whole.group.parent is whole and list(whole) == [whole.group]
    for one in whole.group:
        assert verifyObject(IService, one)
        assert one.parent is whole.group and whole.group.getServiceNamed(one.name) is one


def test_it_runs_below_an_application(tmp_path):
    """An application that holds it beside another service starts both, waits for its drain, and stops both."""
    reactor, notifier = Reactor(), Notifier()
    whole = tree(tmp_path, reactor, notifier)
    application = Application("host")
    beside = Service()
    beside.setName("beside")
    beside.setServiceParent(application)
    whole.setServiceParent(application)
    top: Any = IService(application)
    top.privilegedStartService()
    top.startService()
    reactor.pump([0.0])
    assert beside.running and all(one.running for one in whole.group)
    assert [told["ready"] for told in notifier.told if "ready" in told] == [True]
    held: defer.Deferred[None] = defer.Deferred()
    whole.group.getServiceNamed("two").drain = lambda: held
    stopping = top.stopService()
    reactor.pump([0.0, 1.0])
    assert not stopping.called
    held.callback(None)
    reactor.pump([0.0])
    assert stopping.called and not beside.running and not any(one.running for one in whole.group)


def test_a_service_that_joins_later_runs_with_the_tree(tmp_path):
    """As with each MultiService: one that is added to what runs is started, and stopped with the rest or when it leaves."""
    reactor = Reactor()
    whole = tree(tmp_path, reactor, Notifier())
    whole.startService()
    stays, leaves = Service(), Service()
    for one in (stays, leaves):
        one.setServiceParent(whole.group)
        assert one.running
    leaves.disownServiceParent()
    assert not leaves.running and leaves not in list(whole.group)
    stopping = whole.stopService()
    reactor.pump([0.0, 1.0])
    assert stopping.called and not stays.running
