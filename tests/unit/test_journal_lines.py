"""Entries as lines and in journald's native format."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appd.journal import DEBUG, ERROR, INFO, WARNING, Entry
from appd.journal.entry import is_field_name, memory, to_bytes, to_text
from appd.journal.lines import json_line, prefixed, readable

TIME = 1_700_000_000.25

values = st.one_of(
    st.text(st.characters(codec=None)),
    st.text(st.characters(categories=["Cs", "Cc"])),
    st.binary(),
    st.integers(),
)
names = st.from_regex(r"\A[A-Z][A-Z0-9_]{0,20}\Z")
entries = st.builds(
    Entry,
    message=values.filter(lambda value: not isinstance(value, int)),
    priority=st.integers(-3, 12),
    fields=st.dictionaries(names, values, max_size=5),
    time=st.floats(),
)


def test_prefix_of_every_line() -> None:
    """Every line of an entry has its priority, as sd-daemon(3) wants it."""
    assert prefixed(Entry("one\ntwo\n", ERROR, {}, TIME), {}) == b"<3>one\n<3>two\n"


def test_prefix_cannot_be_forged() -> None:
    """A message cannot bring a priority of its own, not even behind the NUL at which journald ends a line."""
    assert prefixed(Entry("<0>a\0<0>b", INFO, {}, TIME), {}) == b"<6><0>a\\x00<0>b\n"


def test_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person sees time, level, logger and message, further lines are indented."""
    monkeypatch.setenv("TZ", "UTC")
    line = readable(Entry("one\ntwo", WARNING, {"LOGGER": "shop.cart"}, TIME), {})
    assert line == b"2023-11-14 22:13:20.250 WARNING shop.cart: one\n    two\n"


def test_readable_shows_control_characters() -> None:
    """A terminal gets no escape sequences from a log line."""
    assert b"\x1b" not in readable(Entry("\x1b[2J\r", INFO, {"LOGGER": "\x9b"}, TIME), {})


def test_json() -> None:
    """Fields are keys, numbers stay numbers; the entry's own fields win over those of the process."""
    line = json_line(
        Entry(b"caf\xc3\xa9 \xff", INFO, {"HTTP_STATUS": 200, "APPD_WORKER": 2}, TIME), {"APPD_WORKER": 1, "A": "b"}
    )
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "TIMESTAMP": "2023-11-14T22:13:20.250000Z",
        "PRIORITY": INFO,
        "MESSAGE": "café \\xff",
        "APPD_WORKER": 2,
        "A": "b",
        "HTTP_STATUS": 200,
    }


@given(entries)
def test_json_is_always_one_line_of_json(entry: Entry) -> None:
    """No value keeps an entry from being one line of JSON."""
    line = json_line(entry, {"A": "\ud800"})
    assert line.count(b"\n") == 1
    document = json.loads(line.decode())
    assert {*entry.fields, "MESSAGE", "PRIORITY"} <= set(document)


@given(entries)
def test_lines_never_fail(entry: Entry) -> None:
    """No value keeps an entry from being lines for a pipe or a terminal."""
    lines = prefixed(entry, {})
    assert all(line[:1] == b"<" and line[2:3] == b">" for line in lines.split(b"\n")[:-1])
    assert readable(entry, {}).endswith(b"\n")
    assert memory(entry) > 0


def test_bytes_that_are_no_utf8() -> None:
    """Surrogates of PEP 383 come out as the bytes they stand for; other ones as an escape."""
    assert to_bytes("a\udcff") == b"a\xff"
    assert to_bytes("a\ud800") == b"a\\ud800"
    assert to_text(b"a\xff") == "a\\xff"
    assert to_text("a\udcff") == "a\\xff"
    assert to_bytes(1 << 20_000).startswith(b"0x")


@pytest.mark.parametrize("name", ["", "a", "_PID", "A B", "A=B", "A\nB", "Ä", "1A", "A" * 65])
def test_names_that_journald_refuses(name: str) -> None:
    """Only names that a client may use are sent."""
    assert not is_field_name(name)


def test_memory_grows_with_the_entry() -> None:
    """The byte bound of the queue sees messages and fields."""
    small = memory(Entry("", DEBUG, {}, TIME))
    assert memory(Entry("x" * 1000, DEBUG, {}, TIME)) >= small + 1000
    assert memory(Entry("", DEBUG, {"A": b"x" * 1000}, TIME)) >= small + 1000
