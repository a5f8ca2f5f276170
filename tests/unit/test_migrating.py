"""What docs/migrating.md promises to be there: keys, sections, commands."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from appd import cli
from appd.commands.typelist import entries
from appd.config.loader import schema_with
from appd.registry import Registry

PAGE = (Path(__file__).parents[2] / "docs/migrating.md").read_text()
# Words of the right column that are no keys.
WORDS = {
    "appd", "appd@NAME", "auto", "journal", "combined", "factory on", "package.module:factory", "py-spy", "%include",
    "systemctl", "stop", "restart", "status", "factory", "paste.deploy.loadapp", "wsgi.file_wrapper", "[eventlistener]", "--control",
    "ss -ltn", "http2 on",
}  # fmt: skip


def test_every_key_on_the_right_exists():
    """A setting is replaced by one that is there: a key of the file, a directive of systemd's, or a command."""
    registrations = Registry(entry_points=lambda: ()).all()
    schema = schema_with(*registrations)
    known = {one.title for one in entries(schema, schema)}
    for one in registrations:
        known |= {f"<{one.name}>", *(entry.title for entry in entries(schema, schema.gettype(one.name)))}
    known |= {f"{title.removesuffix('>').split()[0]}>" for title in known if title.startswith("<")}
    [commands] = [one for one in cli.parser()._actions if isinstance(one, argparse._SubParsersAction)]
    rows = re.findall(r"^\| (.*) \| (.*) \|$", PAGE.partition("## What is the same")[2], re.M)
    assert len(rows) > 60
    for old, new in rows:
        for word in re.findall(r"`([^`]+)`", new):
            if re.fullmatch(r"[A-Za-z]+=\S*", word) or word in WORDS or word.startswith(("systemctl ", "journalctl ")):
                continue
            if word.startswith("appd "):
                assert word.split()[1] in commands.choices, (old, word)
            else:
                assert word in known or word.split()[0] in known, (old, word)


def section(name: str) -> str:
    """What the page has below a heading."""
    found = re.search(rf"^## From {name}.*?(?=^## |\Z)", PAGE, re.M | re.S)
    assert found is not None, name
    return found[0]


@pytest.mark.parametrize("name", ["zdaemon", "Zope 3", "twistd", "gunicorn under systemd", "uvicorn", "supervisord"])
def test_a_table_for_each(name):
    """Old on the left, new on the right."""
    assert len(re.findall(r"^\| `.*` .*\| .+ \|$", section(name), re.M)) >= 8


def test_every_setting_of_gunicorn():
    """Of the version that is installed here."""
    from gunicorn.config import KNOWN_SETTINGS

    text = section("gunicorn")
    assert [one.name for one in KNOWN_SETTINGS if not re.search(rf"\b{one.name}\b", text)] == []


def test_every_option_of_twistd():
    """Of the version that is installed here."""
    from twisted.scripts._twistd_unix import ServerOptions

    text = section("twistd")
    names = {f"--{one.rstrip('=')}" for one in ServerOptions().longOpt}
    assert sorted(one for one in names - {"--help"} if not re.search(rf"{one}\b", text)) == []
