"""Every measurement of bench/ runs; what it measures is for `make bench`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import twisted

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(
            ["adopt.py"],
            "inherited sockets",
            marks=pytest.mark.skipif(
                twisted.version.major < 23, reason="this Twisted knows no named sockets of systemd's"
            ),
        ),
        (["echo.py"], "UDP 64 B: "),
        (["memory.py", "--alone"], "KB a connection"),
        pytest.param(
            ["http_rates.py", "--alone"],
            "hello/s",
            marks=pytest.mark.skipif(shutil.which("wrk") is None, reason="it asks with wrk: apt-get install wrk"),
        ),
        (["activation.py", "--alone"], "appd, cold"),
        (["restart.py", "--alone", "--only", "restart"], "appd, keep-alive"),
        (["restart.py", "--alone", "--only", "swap"], "appd, keep-alive"),
        (["restart.py", "--alone", "--only", "burst"], "busier worker's share"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_it_runs(command, expected, tmp_path):
    """To its end, with a table, and leaves nothing behind."""
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, BENCH / command[0], *command[1:], "--quick"],
        capture_output=True,
        text=True,
        timeout=300,
        env=environ,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert list(tmp_path.iterdir()) == []
