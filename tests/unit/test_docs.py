"""The manual: links lead somewhere, the index has every page, every key has its line, and figures are those measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appd.commands.typelist import Entry, entries
from appd.config import load
from appd.config.loader import schema_with
from appd.registry import Registry

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def prose(path: Path) -> str:
    """The text without its examples."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """What `#…` may name: each heading in lower case, with hyphens for spaces and without punctuation."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """Where the links of a page lead to: file and anchor."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            yield (path.parent / file).resolve() if file else path, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page):
    """To files that are there, and headings that they have."""
    for file, anchor in links(page):
        assert file.exists(), f"{page.name} links to {file}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to #{anchor} of {file.name}"


def test_the_index_has_every_page():
    """And the README has the index."""
    assert {file for file, _ in links(DOCS / "index.md")} >= set(DOCS.glob("*.md")) - {DOCS / "index.md"}
    assert (DOCS / "index.md") in {file for file, _ in links(ROOT / "README.md")}


def keys(section: str | None) -> list[Entry]:
    """The keys and sections of a section type, those of the process for None."""
    registrations = Registry(entry_points=lambda: ()).all()
    schema = schema_with(*registrations)
    found = list(entries(schema, schema.gettype(section) if section else schema))
    return [one for one in found if one.title != "NAME"]


@pytest.mark.parametrize(
    ("section", "page"),
    [
        (None, "configuration.md auth.md"),
        ("http", "http.md tls.md configuration.md"),
        ("appd.listener", "tls.md http.md configuration.md"),
    ],
    ids=["process", "http", "server"],
)
def test_every_key_is_explained(section, page):
    """In the page that is about it; the defaults are those of the components."""
    rows = [line for name in page.split() for line in (DOCS / name).read_text().splitlines() if line.startswith("|")]
    text = "".join(prose(DOCS / name) for name in page.split())
    for one in keys(section):
        if one.is_section:
            assert f"<{one.title.strip('<>').split()[0]}" in text, one.title
            continue
        its = [row for row in rows if f"`{one.title}`" in row.split("|")[1]]
        assert its, f"{one.title} has no line in {page}"
        # The first fact is what it takes.
        [default] = [fact.removeprefix("default ") for fact in one.facts[1:] if fact.startswith("default ")] or [""]
        assert any(default in row for row in its), f"{one.title}: its default is {default}"


def examples() -> Iterator[Any]:
    """The files that pages show, by page and first line; not those with a word in place of a value, nor parts of a server."""
    for page in PAGES:
        for text in re.findall(r"^```\n(.*?)^```", page.read_text(), re.M | re.S):
            if (
                re.match(r"(?:[a-z-]+ {2,}\S.*\n)*\n?(?:#.*\n)*<[a-z]+(?: [a-z]+)?>\n", text)
                and "<greeting" not in text
            ):
                yield pytest.param(text, id=f"{page.name}-{text.splitlines()[0].strip('<>')}")


@pytest.mark.parametrize("text", [one for one in examples() if not one.values[0].startswith("<tls>")])
def test_examples_are_files(text, tmp_path):
    """With keys that there are, and values that they take."""
    file = tmp_path / "appd.conf"
    file.write_text(text)
    assert load(str(file))


def test_there_are_examples():
    """As many as there were, or more."""
    assert len(list(examples())) >= 15


def test_the_figures_of_the_readme():
    """Each stands in docs/performance.md, as a command has printed it."""
    text = (ROOT / "README.md").read_text()
    [table] = re.findall(r"^\| measured \|.*?(?=\n\n)", text, re.M | re.S)
    printed = "".join(re.findall(r"^```\n(.*?)^```", (DOCS / "performance.md").read_text(), re.M | re.S))
    measured = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", printed))
    rows = [line.split("|")[2:4] for line in table.splitlines()[2:]]
    assert len(rows) >= 8
    for row in rows:
        figures = re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", re.sub(r"(?<=\d),(?=\d{3})", "", "|".join(row)))
        assert figures and set(figures) <= measured, f"docs/performance.md has not {set(figures) - measured}"


def test_the_changelog_is_by_subject():
    """Nothing stands in front of the groups of a section that has groups."""
    text = (ROOT / "CHANGELOG.md").read_text()
    for section in re.findall(r"^### (?:Added|Fixed)\n(.*?)(?=^##+ |\Z)", text, re.M | re.S):
        assert not section.strip(), "a line of CHANGELOG.md belongs into the group of its subject"
