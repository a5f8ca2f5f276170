"""The supervisor's own next version: whose reload is done when it was tried."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support.entries import EntriesKept

from appd.supervisor.renewal import Renewal


@pytest.mark.parametrize(
    ("coming", "serving", "confirmed"),
    [(None, 2, True), (object(), 2, False), (None, 3, False)],
    ids=["last", "a later one comes", "a later one serves"],
)
def test_new_code_that_does_not_start(coming: Any, serving: int, confirmed: bool) -> None:
    """Who asked for that reload is answered; who asked for a later one is not, before it is done."""
    told: list[str] = []
    rollout = SimpleNamespace(
        coming=coming,
        stopping=False,
        serving=SimpleNamespace(number=serving),
        confirm=lambda: told.append("done"),
    )
    log = EntriesKept()
    supervisor: Any = SimpleNamespace(rollout=rollout, log=log)
    operator: Any = None
    notifier: Any = None
    renewal = Renewal(supervisor, operator, notifier, {})
    renewal._generation = 2
    renewal._tried(1 << 8, "no module named x")
    assert bool(told) is confirmed
    assert "stays as it was" in str(log.entries[0].message)
