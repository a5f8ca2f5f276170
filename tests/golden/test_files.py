"""Configuration files → exact settings, or exactly their errors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from appd.address import Address
from appd.config import Settings, load
from appd.errors import ConfigurationError

FILES = Path(__file__).parent / "files"


def as_data(value: Any) -> Any:
    """Settings as JSON has them; paths relative to the folder of the files."""
    if isinstance(value, Settings):
        inner = {key: as_data(one) for key, one in value.values.items() if one not in (None, [], {})}
        return {"section": value.section_type, "name": value.name, "line": value.place.line, **inner}
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, dict):
        return {key: as_data(one) for key, one in value.items()}
    if isinstance(value, list):
        return [as_data(one) for one in value]
    if isinstance(value, str) and value.startswith(str(FILES)):
        return os.path.relpath(value, FILES)
    return value


@pytest.mark.parametrize("file", sorted(FILES.glob("*.conf")), ids=lambda one: one.stem)
def test_file(file):
    """The outcome is the text beside the file: `.json` for settings, `.errors` for errors."""
    errors, settings = file.with_suffix(".errors"), file.with_suffix(".json")
    assert errors.exists() != settings.exists(), "each file has one outcome"
    if settings.exists():
        assert as_data(load(str(file))) == json.loads(settings.read_text())
        return
    with pytest.raises(ConfigurationError) as caught:
        load(str(file))
    assert str(caught.value).replace(f"{FILES}/", "") == errors.read_text().rstrip("\n")


def test_ten_errors_of_ten_kinds():
    """The promise that all errors are reported at once, counted."""
    lines = (FILES / "ten-errors.errors").read_text().splitlines()
    assert len(lines) >= 10
    assert all(line.startswith("ten-errors.conf:") for line in lines)
