"""The examples of docs/twistd.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_PAGE = (Path(__file__).parents[2] / "docs" / "twistd.md").read_text()


def example(heading: str) -> tuple[str, Mapping[str, str]]:
    """An example.

    Args:
        heading: The one that it stands under.

    Returns:
        The section of the configuration, and the files that belong to it: name in /etc/appd → text.
    """
    text = _PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(r"```\n(<.*?)```", text, re.S)
    assert found is not None, f"docs/twistd.md has no example {heading!r}"
    files = {
        source.partition("\n")[0].rpartition("/")[2]: source
        for source in re.findall(r"```python\n(.*?)```", text, re.S)
    }
    return found[1], files
