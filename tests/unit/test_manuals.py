"""The manual pages, the completions and the journal's catalogue say all that there is."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from appd import cli, messages
from appd.commands.typelist import entries
from appd.config.loader import schema_with
from appd.registry import Registry

PACKAGING = Path(__file__).parents[2] / "packaging"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """The folder of the pages, made as the packages make them."""
    folder = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, "-I", PACKAGING / "manuals", folder], check=True, timeout=60)
    return folder


def commands() -> dict[str, argparse.ArgumentParser]:
    """The commands that are for people."""
    [found] = [one for one in cli.parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return {one.dest: found.choices[one.dest] for one in found._choices_actions}


def options(command: argparse.ArgumentParser) -> list[str]:
    return [one for action in command._actions for one in action.option_strings if one.startswith("--")]


def plain(page: Path) -> str:
    """Without the marks of troff."""
    return re.sub(r"\\f[BIR]", "", page.read_text()).replace("\\-", "-")


def test_every_key_of_every_server_type(pages):
    """In the page of the file, with its section; nothing of the templates is left over."""
    text = plain(pages / "appd.conf.5")
    registrations = Registry(entry_points=lambda: ()).all()
    schema = schema_with(*registrations)
    for one in registrations:
        assert f'.SH "<{one.name.upper()}>"' in text
        for entry in entries(schema, schema.gettype(one.name)):
            assert re.search(rf"^{re.escape(entry.title)}( |$)", text, re.M), (one.name, entry.title)
    for entry in entries(schema, schema):
        assert re.search(rf"^{re.escape(entry.title)}( |$)", text, re.M), entry.title
    assert not re.search(r"@[A-Z]+@", text + plain(pages / "appd.8"))


def test_every_command_and_option(pages):
    """In the page of the program."""
    text = plain(pages / "appd.8")
    for name, command in commands().items():
        assert re.search(rf"^appd {name}\b", text, re.M), name
        for option in options(command):
            assert option == "--help" or option in text, (name, option)


def test_troff_has_no_complaint(pages):
    """As lintian asks."""
    for page in (pages / "appd.8", pages / "appd.conf.5"):
        try:
            done = subprocess.run(
                ["groff", "-man", "-ww", "-z", "-Tutf8", "-Kutf8", page], capture_output=True, text=True, timeout=60
            )
        except FileNotFoundError:
            pytest.skip("there is no groff")
        assert done.stderr == ""


@pytest.mark.parametrize("name", ["appd.bash", "_appd", "appd.fish"])
def test_completions_know_every_command_and_option(pages, name):
    """Those of all three shells, and nothing of the templates is left over."""
    text = (pages / name).read_text()
    assert not re.search(r"@[A-Z_]+@", text)
    for command, parser in commands().items():
        assert re.search(rf"\b{command}\b", text), command
        for option in set(options(parser)) - {"--help"}:
            spelled = f" -l {option[2:]} " if name.endswith(".fish") else option
            assert spelled in text, (command, option)


def test_bash_completes(pages, tmp_path):
    """In a real bash: commands, options, files, the names of sockets in the file, levels."""
    (tmp_path / "shop.conf").write_text(
        "<http>\n address systemd:name=web\n tls-address systemd:name=webs:position=1\n</http>\n"
    )
    (tmp_path / "other.txt").touch()

    def complete(*words: str) -> list[str]:
        listed = " ".join(f"'{one}'" for one in words)
        script = (
            f". {pages}/appd.bash; compopt() {{ :; }}; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; "
            '_appd; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-ec", script],
            env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=True,
            timeout=60,
        )
        return done.stdout.split()

    assert complete("appd", "re") == ["reload"]
    assert complete("appd", "run", "") == ["shop.conf"]
    assert complete("appd", "run", "shop.conf", "--bind", "") == ["web=", "webs="]
    assert complete("appd", "units", "--d") == ["--diff"]
    assert complete("appd", "log-level", "w") == ["warning"]
    assert "http" in complete("appd", "types", "h")


def test_catalogue_explains_every_message():
    """Each MESSAGE_ID= once, in the format of systemd's catalogues, and no other."""
    text = (PACKAGING / "appd.catalog").read_text()
    entries_of = dict(re.findall(r"^-- ([0-9a-f]{32})\nSubject: (.+)\nDefined-By: appd\n", text, re.M))
    ids = [getattr(messages, name) for name in messages.__all__]
    assert len(set(ids)) == len(ids)
    assert set(entries_of) == set(ids)
    assert text.count("\n-- ") == len(ids)


def test_the_source_names_ids_only_through_the_table():
    """Where one is sent, it is one that the catalogue has."""
    for path in (PACKAGING.parent / "appd").rglob("*.py"):
        if path.name != "messages.py":
            assert not re.search(r"(?i)message_id=.?\"[0-9a-f]{32}", path.read_text()), path
