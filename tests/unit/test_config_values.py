"""Values, and what is said of them, where a file beside its errors would show little."""

from __future__ import annotations

import sys

import pytest

from appd.address import ALLOWED_FORMS
from appd.config import load
from appd.config.datatypes import dotted, size, span
from appd.config.loader import Loader, section_of
from appd.config.wording import cleaned, quoted, shown
from appd.errors import ConfigurationError, Place
from appd.registry import Registration, Registry
from appd.servers.http.datatypes import application


def settings(tmp_path, text: str):
    file = tmp_path / "appd.conf"
    file.write_text(text, newline="")
    return load(str(file))


def messages(tmp_path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, text)
    return [one.message for one in caught.value.problems]


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, "3651d", "1" + "0" * 30 + "ms"])
def test_spans_that_nobody_waits(text):
    """Ten years are the most; infinity is no length of time."""
    with pytest.raises(ValueError, match="longer than ten years"):
        span(text)


def test_longest_span():
    """Ten years."""
    assert span("3650d") == 3650 * 86400


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000 + "GB", "1073741825GB", "1152921504606846977"])
def test_sizes_that_nothing_has(text):
    """An exabyte is the most, and the words are ours."""
    with pytest.raises(ValueError, match="larger than 1 EB"):
        size(text)


def test_largest_size():
    """An exabyte, with zeros before it or not."""
    assert size("1073741824GB") == size("0" * 50 + "1152921504606846976") == 1024**6


@pytest.mark.parametrize(
    "text",
    [
        f"threads {'9' * 5000}",
        f"<echo>\naddress {'8' * 5000}\n</echo>",
        f"<echo>\naddress {chr(1)}{'é☃' * 900}:1\n</echo>",
        f"<{'x' * 5000}/>",
        f"<echo>\n</{'x' * 5000}>\n</echo>",
        f"<echo {'x' * 5000} y/>",
        f"{'x' * 5000} y",
        f"%{'x' * 5000} y",
        f"%include {'x' * 5000}",
        f"%define {'x' * 5000}- y",
        f"threads ${'x' * 5000}",
        f"threads ${'(' + 'x' * 5000})",
        f"<echo {'x' * 5000}/>\n<echo {'x' * 5000}/>",
        "<echo \x01>\n</echo>",
        "<echo>\n</echo\x1b[31m>",
        "<\x1b[31m/>",
        "\x1b[31m x",
    ],
)
def test_messages_are_short_and_printable(tmp_path, text):
    """Whatever the file says."""
    for message in messages(tmp_path, text):
        assert message.isprintable()
        assert len(message) <= 400 + len(ALLOWED_FORMS)


def test_quoted():
    """As repr() has it, cut."""
    assert quoted("a\x7f") == "'a\\x7f'"
    assert quoted("x" * 78) == f"'{'x' * 78}'"
    assert quoted("x" * 79) == f"'{'x' * 77}…'"
    assert shown("a\nb") == "a\\nb"
    assert len(shown("x" * 1000)) == 80


def test_cleaned_keeps_the_end():
    """The end says what is allowed."""
    message = cleaned(f"{'x' * 5000} (allowed: {ALLOWED_FORMS})")
    assert message.endswith(f"(allowed: {ALLOWED_FORMS})")
    assert cleaned(f"{'x' * 500!r} is odd", "x" * 500) == f"{quoted('x' * 500)} is odd"


def test_the_environment_is_asked(tmp_path, monkeypatch):
    """$(NAME) is of the environment, $name of %define; each is told apart in one line."""
    monkeypatch.setenv("APPD_THREADS", "3")
    monkeypatch.delenv("APPD_NONE", raising=False)
    assert settings(tmp_path, "threads $(APPD_THREADS)").threads == 3
    assert messages(tmp_path, "virtualenv $(APPD_THREADS)/$(APPD_NONE)") == [
        "$(APPD_NONE) is not defined: the environment has no variable APPD_NONE"
    ]
    assert messages(tmp_path, "virtualenv $(APPD_THREADS)/$APPD_THREADS") == [
        "$APPD_THREADS is not defined: write %define APPD_THREADS VALUE before it, $(APPD_THREADS) for the "
        "environment, $$ for a dollar"
    ]


def test_a_definition_of_itself(tmp_path):
    """Is a problem, though nothing else is said of it."""
    assert len(messages(tmp_path, "%define x $x\nvirtualenv $x")) == 1


HYPHENED = Registration("hyphened", "config_hyphened.kind:server_type", "somebody")
COMPONENT = """<component>
  <sectiontype name="hyphened" implements="appd.server" extends="appd.listener">
    <key name="idle-timeout" datatype="span"/>
    <key name="under_score" datatype="string"/>
  </sectiontype>
</component>
"""


def options(tmp_path, monkeypatch, *lines: str):
    """The section that the server type gets of <options> with these lines."""
    sys.modules.pop("config_hyphened", None)  # of the test before
    package = tmp_path / "config_hyphened"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "kind.py").write_text("")
    (package / "component.xml").write_text(COMPONENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "\n".join(["<server x>", "type hyphened", "<options>", *lines, "</options>", "</server>"])
    (server,) = settings(tmp_path, text).servers
    return section_of(HYPHENED, Registry({"hyphened": HYPHENED}, list), server, server.options)


def test_options_reach_keys_with_a_hyphen(tmp_path, monkeypatch):
    """idle_timeout is idle-timeout, and under_score is itself."""
    inner = options(tmp_path, monkeypatch, "idle_timeout 5m", "under_score x")
    assert (inner.idle_timeout, inner.under_score) == (300.0, "x")
    assert inner.where("idle_timeout") == Place(str(tmp_path / "appd.conf"), 4)


def test_options_that_are_unknown(tmp_path, monkeypatch):
    """Are named as they are written."""
    with pytest.raises(ConfigurationError) as caught:
        options(tmp_path, monkeypatch, "idle_time 5m")
    assert "no key 'idle_time': did you mean idle-timeout?" in str(caught.value)


def test_unknown_sections_search_the_packages_once(tmp_path):
    """The installed distributions are not searched again for every section that is misspelled."""
    searches = []

    def search():
        searches.append(1)
        return []

    file = tmp_path / "appd.conf"
    file.write_text("<ehco/>\n" * 100)
    with pytest.raises(ConfigurationError) as caught:
        Loader(Registry(entry_points=search)).load(str(file))
    assert len(caught.value.problems) == 100
    assert len(searches) == 1


@pytest.mark.parametrize("convert", [dotted, lambda text: application(text, "x.conf")], ids=["dotted", "application"])
def test_a_dot_where_a_colon_belongs(convert):
    """Says what was meant; not of what it cannot be."""
    with pytest.raises(ValueError, match=r"did you mean shop\.wsgi:application\?"):
        convert("shop.wsgi.application")
    with pytest.raises(ValueError, match=r"name$"):
        convert("shop")
