"""Standard streams that are closed, full or gone."""

from __future__ import annotations

import subprocess

import pytest
from support.running import APPD

ECHO = "<echo e>\n  address systemd:name=nobody\n</echo>\n"


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_run_with_odd_streams(tmp_path, closed):
    """The exit code is what it would be."""
    file = tmp_path / "appd.conf"
    file.write_text(ECHO)
    done = subprocess.run(
        f"{APPD} run {file} {closed}", shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 78
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("redirect", "code"), [("1>&-", 0), ("2>&-", 0), (">/dev/full", 74)])
def test_listing_with_odd_streams(redirect, code):
    """What cannot be said is EX_IOERR; a stream that was closed was meant to be."""
    done = subprocess.run(
        f"{APPD} version {redirect}", shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code and "Traceback" not in done.stderr


def test_check_does_not_wait_for_threads(tmp_path):
    """A non-daemon thread of hosted code does not hold up `check`."""
    (tmp_path / "theirs.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\ndef make():\n    pass\n"
    )
    file = tmp_path / "appd.conf"
    file.write_text("python-path .\napplication-object theirs:make\n<echo e>\n address 127.0.0.1:0\n</echo>\n")
    done = subprocess.run([APPD, "check", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
