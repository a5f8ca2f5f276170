"""What the kinds of test share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support.running import APPD, MADE, Running

# A busy machine makes no example wrong. With $APPD_TEST_SAME they are the same ones each time, so that what fails was
# broken by what has changed.
settings.register_profile(
    "appd",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("APPD_TEST_SAME") == "1",
)
settings.load_profile("appd")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts `appd run` on a configuration text, and ends it after the test."""
    started: list[Running] = []

    def begin(text: str, *passed: tuple[str, Any], arguments: tuple[str, ...] = (), **options: Any) -> Running:
        folder = tmp_path / f"run{len(started)}"
        folder.mkdir()
        file = folder / "appd.conf"
        file.write_text(text)
        command = options.pop("command", [APPD, "run", str(file), *arguments])
        started.append(Running(command, folder, passed, **options))
        return started[-1]

    yield begin
    for one in started:
        one.close()


@pytest.fixture(autouse=True)
def _sockets_are_closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()
