"""Any text is settings, or problems that a person can read."""

from __future__ import annotations

from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from appd.address import ALLOWED_FORMS
from appd.config import Settings, load
from appd.errors import ConfigurationError
from appd.registry import Registry

# One for all: what is installed does not change.
REGISTRY = Registry()


def each(text: str) -> list[str]:
    return text.split()


TYPES = each("echo http server wsgi static options log levels socket environment listener mounted appd.options ehco İ")
KEYS = each("address after backlog type listen mode threads drain-timeout path application root host header level a_b")
VALUES = each("8080 x /a 5m off $a $$ $ ${a} $(HOME) $(NONE_X) = # a:b systemd:name=a [::1]:80 udp:1 9.9.9.9:99999")

odd = st.text(
    "<>/%$#=(){}&\\'\" \t\r\x00\x01\x0b\x0c\x1b\x1c\x7f\x85\xa0é☃\u2028\u202e\ufeff\U0001f600aA1-_.:", max_size=12
)
words = st.sampled_from([*TYPES, *KEYS, *VALUES]) | odd | st.integers(70, 999).map(lambda length: "9" * length)
ends = st.sampled_from([">", ">", ">", "/>", "", " >", "> # why", "> x"])
lines = st.one_of(
    st.builds("<{} {}{}".format, st.sampled_from(TYPES) | words, words, ends),
    st.builds("<{}{}".format, st.sampled_from(TYPES), ends),
    st.builds("</{}{}".format, st.sampled_from(TYPES) | words, ends),
    st.builds("{} {}".format, st.sampled_from(KEYS) | words, words),
    st.builds("{} {} # {}".format, st.sampled_from(KEYS), words, words),
    st.builds("%define {} {}".format, st.sampled_from(["a", "A", "b"]) | words, words),
    st.builds("%include {}".format, st.sampled_from(["appd.conf", "other.conf", "/dev/zero", "."]) | words),
    st.builds("%{} {}".format, words, words),
    words,
)
texts = st.builds(
    lambda those, end: end.join(those), st.lists(lines, max_size=25), st.sampled_from(["\n", "\n", "\r\n", "\r"])
)


@settings(max_examples=150, deadline=None)
@given(texts, texts)
def test_any_file(text, other):
    """Problems are of one line, printable, of some length and with a place; nothing else is raised."""
    with TemporaryDirectory() as folder:
        for name, content in (("appd.conf", text), ("other.conf", other)):
            with open(f"{folder}/{name}", "wb") as file:
                file.write(content.encode())
        try:
            assert isinstance(load(f"{folder}/appd.conf", REGISTRY), Settings)
        except ConfigurationError as error:
            assert error.problems
            for problem in error.problems:
                assert str(problem).isprintable()
                assert problem.message
                assert len(problem.message) <= 400 + len(ALLOWED_FORMS)
                assert problem.place is not None
                assert problem.place.file.startswith(folder)
            assert len(set(error.problems)) == len(error.problems)
