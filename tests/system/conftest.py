"""A freshly booted host for each test; that takes about half a second and leaves nothing for the next one."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from system.disposable_host import SANDBOX, Host, boot, unavailable

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a host."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.system)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the host has to say about a test that failed."""
    report = yield
    hosts: list[Host] = getattr(item, "hosts", [])
    if report.failed and call.when == "call":
        for host in hosts:
            report.sections.append(("journal of the host", _last_words(host)))
    return report


def _last_words(host: Host) -> str:
    try:
        host.systemctl("kill", "--signal=CONT", "systemd-journald", check=False)
        units = host.systemctl("list-units", "--no-legend", "--plain", "--all", "appd*", check=False).stdout
        return units + host.run("journalctl", "--no-pager", "-n", "60", "-o", "short-monotonic", check=False).stdout
    except Exception as error:  # the failure of the test is what matters
        return f"the host does not answer: {error!r}"


@pytest.fixture(scope="session")
def _bootable() -> None:
    reason = unavailable()
    if reason is None:
        return
    if os.environ.get("APPD_REQUIRE_SYSTEM_TESTS") == "1":
        pytest.fail(f"APPD_REQUIRE_SYSTEM_TESTS=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def _hosts(_bootable: None) -> Iterator[list[Host]]:
    """Hosts that were begun and not yet closed; the last one waits for the next test."""
    hosts: list[Host] = []
    yield hosts
    for one in hosts:
        one.close()


@pytest.fixture
def boot_host(_bootable: None, request: pytest.FixtureRequest) -> Iterator[Callable[..., Host]]:
    """Boots hosts as a test wants them; they end with it."""
    node: Any = request.node
    node.hosts = hosts = []

    def make(**options: Any) -> Host:
        hosts.append(boot(**options))
        return hosts[-1]

    yield make
    for one in hosts:
        one.close()


@pytest.fixture
def host(_hosts: list[Host], request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host with appd's units installed and nothing of it started."""
    node: Any = request.node
    # The next one boots while this one is at work, and goes while the next one is.
    *over, mine = _hosts or [boot()]
    for one in over:
        one.close()
    _hosts[:] = [mine, boot()]
    assert mine.init
    node.hosts = [mine]
    if SANDBOX and request.node.get_closest_marker("outgoing") is not None:
        mine.allow_outgoing()
    yield mine
    mine.begin_to_close()
