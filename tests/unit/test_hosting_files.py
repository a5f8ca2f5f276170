"""Hosted code that is named by its file."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appd import hosting
from appd.config.settings import Settings
from appd.errors import ConfigurationError, Place

SETTINGS = Settings("x", None, Place("x.conf", 1), {}, {"key": (Place("x.conf", 7),)}, {})


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """Path and modules as they were."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def load(file: Path, name: str = "found") -> Any:
    return hosting.load(f"{file}:{name}", SETTINGS, "key")


def test_two_files_of_one_name(tmp_path: Path) -> None:
    """Each is a module of its own, and neither hides a module of that name that is installed."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "json.py").write_text(f"found = {folder!r}")
    import json

    assert load(tmp_path / "one" / "json.py") == "one"
    assert load(tmp_path / "two" / "json.py") == "two"
    assert sys.modules["json"] is json


def test_once(tmp_path: Path) -> None:
    """Two mounts of one file share what is in it."""
    (tmp_path / "wsgi.py").write_text("found = object()")
    assert load(tmp_path / "wsgi.py") is load(tmp_path / "wsgi.py")


def test_what_lies_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is found, but after everything else."""
    (tmp_path / "wsgi.py").write_text("import beside_wsgi, json\nfound = beside_wsgi.value, json.__name__")
    (tmp_path / "beside_wsgi.py").write_text("value = 5")
    (tmp_path / "json.py").write_text("raise AssertionError('not this one')")
    monkeypatch.delitem(sys.modules, "json")
    assert load(tmp_path / "wsgi.py") == (5, "json")
    assert sys.path[-1] == str(tmp_path)


def test_what_it_defines_can_be_found_again(tmp_path: Path) -> None:
    """By pickle and by whoever looks for the module of a class."""
    (tmp_path / "wsgi.py").write_text(
        "class found:\n    pass\nassert __import__('sys').modules[__name__].found is found"
    )
    made = load(tmp_path / "wsgi.py")()
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ValueError('no')", "cannot be imported: ValueError: no"),
        ("def (", "cannot be imported: SyntaxError: "),
        ("import sys; sys.exit(4)", "cannot be imported: it called sys.exit(4)"),
        ("", "has no 'found'"),
    ],
)
def test_one_that_fails(tmp_path: Path, text: str, reason: str) -> None:
    """One line with the place, the traceback below; and it may be mended and tried again."""
    file = tmp_path / "wsgi.py"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        load(file)
    (problem,) = raised.value.problems
    assert str(problem).startswith("x.conf:7: ") and reason in str(problem)
    assert ("wsgi.py" in problem.traceback) is ("import" in reason)
    if text:
        file.write_text("found = 5  # longer than before")
        assert load(file) == 5


def test_where_a_module_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said of the module that the file names, or a package of it; not of what that imports."""
    (tmp_path / "half_of_it.py").write_text("import not_installed_here")
    monkeypatch.syspath_prepend(str(tmp_path))
    for dotted, is_told in (("nowhere_at_all.sub:x", True), ("half_of_it:x", False)):
        with pytest.raises(ConfigurationError) as raised:
            hosting.load(dotted, SETTINGS, "key")
        assert ("`python-path` line" in str(raised.value.problems[0])) is is_told, dotted


def test_one_that_is_not_there(tmp_path: Path) -> None:
    """Says so."""
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        load(tmp_path / "gone.py")
