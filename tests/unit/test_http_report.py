"""Reports of errors."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from appd.http.log.report import Reports, masked


class Broken:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def failure(value: Any) -> BaseException:
    """An exception from a frame with locals."""
    password = "hunter2"
    environ = {
        "HTTP_COOKIE": "sid=1",
        "HTTP_AUTHORIZATION": "Basic eDp5",
        "PATH_INFO": "/x",
        "inner": {"api_key": "k1"},
    }
    try:
        raise ValueError(f"of {len(password)} and {len(environ)}")
    except ValueError as error:
        return error


def test_a_report(tmp_path: Path) -> None:
    """Frames and locals without secrets, for its owner only; its name is in what is said."""
    said = Reports(str(tmp_path))("it failed", failure(Broken()), {"HTTP_PATH": "/x"})
    (file,) = (tmp_path / "errors").iterdir()
    assert said == f"it failed (report {file.stem})"
    text = file.read_text()
    assert "ValueError: of 7 and 4" in text
    assert "HTTP_PATH=/x" in text
    assert "'PATH_INFO': '/x'" in text
    assert "value = <Broken whose repr raises RuntimeError>" in text
    for secret in ("hunter2", "sid=1", "eDp5", "k1"):
        assert secret not in text.partition("in failure")[2]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_no_state_directory() -> None:
    """It is said, and nothing is written anywhere."""
    assert "no state directory" in Reports("")("it failed", failure(1), {})


def test_trouble(tmp_path: Path) -> None:
    """A folder that cannot be made is told of."""
    (tmp_path / "errors").write_text("in the way")
    assert "no report: " in Reports(str(tmp_path))("it failed", failure(1), {})


def test_the_oldest_go(tmp_path: Path) -> None:
    """A fault that happens often does not fill the disk."""
    folder = tmp_path / "errors"
    folder.mkdir()
    for number in range(105):
        (folder / f"{number}.txt").touch()
        os.utime(folder / f"{number}.txt", (number, number))
    Reports(str(tmp_path))("it failed", failure(1), {})
    assert len(list(folder.iterdir())) == 100
    assert not (folder / "5.txt").exists()
    assert (folder / "6.txt").exists()


def test_long_values() -> None:
    """They are cut."""
    assert masked("x", "y" * 1000).endswith("… (1002 characters)")
    assert len(masked("x", {n: n for n in range(1000)})) < 1000
