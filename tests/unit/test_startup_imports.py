"""What is imported on the way to the first answer of a cold start; `tests/process/test_early.py` has one answered."""

from __future__ import annotations

import subprocess
import sys

from support.needless import NEEDLESS

# What the steps of a start are in, with all that they import when they are imported.
_STEPS = (
    "appd.__main__", "appd.cli", "appd.supervisor.beginning", "appd.journal", "appd.worker.worker", "appd.worker.early",
    "appd.worker.plan", "appd.servers.http.http", "appd.servers.http.forerunner", "appd.servers.http.mounts",
)  # fmt: skip
_PROGRAM = """
import sys
from appd.startup import patterns

class Compiled:
    def __getattr__(self, name):
        return None

# A cache has them compiled; without one re is imported.
patterns.compiled = lambda text: Compiled()
# What Python and .pth files of the environment import, as a coverage of tests, is not appd's.
for one in {needless!r}:
    sys.modules.pop(one, None)
before = set(sys.modules)
for one in {steps!r}:
    __import__(one)
print(*{{one.partition(".")[0] for one in sys.modules.keys() - before}})
"""


def test_nothing_that_takes_long() -> None:
    """`appd.startup.bare` and its neighbours stand for most of it, and what needs more is imported later, in a function."""
    program = _PROGRAM.format(needless=sorted(NEEDLESS), steps=_STEPS)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & NEEDLESS == set()
