"""docs/seeds.md names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| (\d+\.\d+) \| ([^|]+) \| (.*) \|$", (ROOT / "docs" / "seeds.md").read_text(), re.M)


def test_every_test_that_it_names_exists():
    """The file, and the function in it."""
    named = {
        (path, name) for _row, _what, shown in ROWS for path, name in re.findall(r"`(tests/[^:`]+)(?:::(\w+))?`", shown)
    }
    assert len(named) > 100
    for path, name in named:
        file = ROOT / path
        assert file.is_file(), path
        if name:
            assert re.search(rf"^\s*(?:async )?def {name}\(", file.read_text(), re.M), f"{path}::{name}"


def test_every_row_says_something():
    """A test or a reason, and no row twice."""
    assert len({row for row, _what, _shown in ROWS}) == len(ROWS) > 100
    for row, what, shown in ROWS:
        assert what.strip() and len(shown.strip()) > 20, row
