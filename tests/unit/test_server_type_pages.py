"""The pages of docs/server-types are what packaging/server-types writes today, one for each type, each linked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from appd.registry import Registry

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "server-types"


def test_every_page_is_what_is_written(tmp_path):
    """`make server-types` brings them up to date."""
    subprocess.run([sys.executable, "-I", ROOT / "packaging" / "server-types", tmp_path], check=True, timeout=60)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(written) == {f"{one.name}.md" for one in Registry(entry_points=lambda: ()).all()}
    assert set(written) == {path.name for path in PAGES.glob("*.md")}
    for name, text in written.items():
        assert (PAGES / name).read_text() == text, f"{name} is out of date: make server-types"


def test_every_page_is_linked():
    """From docs/servers.md."""
    text = (ROOT / "docs" / "servers.md").read_text()
    for path in PAGES.glob("*.md"):
        assert f"(server-types/{path.name})" in text, path.name
