"""What the kinds of test share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running import APPD, MADE, Running


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
