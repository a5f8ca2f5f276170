"""The lines of a file, each error kept and the reading gone on.

ZConfig's parser stops at the first wrong line. Here a line that is wrong becomes a problem with its place, and the
parser finds its feet again: it goes on with what the line was meant to say, so that one slip is one problem. Keys in a
section that nobody knows are passed over, and a section end that is missing or too many is reported once.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from difflib import get_close_matches
from io import StringIO
from typing import TYPE_CHECKING, Any

import ZConfig
from ZConfig.cfgparser import ZConfigParser
from ZConfig.loader import Resource
from ZConfig.substitution import isname

from appd.config.matcher import Nothing
from appd.config.wording import quoted, shown
from appd.errors import Place

if TYPE_CHECKING:
    from appd.config.loader import Loader

__all__ = ["Parser"]

_VARIABLE = re.compile(r"\$\(([^()]*)\)")
_COMMENT = re.compile(r"\s#")
_COMMENT_AFTER_TAG = re.compile(r"(<[^>]*>)\s*#")
_COMMENT_IN_OPEN_TAG = re.compile(r"(<[^>]*?)\s#")
# How a line starts or ends a section: as good as it gets without reading it all.
_TAG = re.compile(r"\s*<(/?)\s*([^\s<>/()]+)")
_HEADER = re.compile(r"[^\s()]+(?:\s+[^\s()]+)?\s*/?\Z")
# %define lets a few lines double a text again and again.
_LONGEST_VALUE = 65536


def _first_word(text: str) -> tuple[str, str]:
    word, *rest = text.split(None, 1) or [""]
    return word, "".join(rest)


class Parser(ZConfigParser):  # type: ignore[misc]  # ZConfig has no types
    """Reads one file into a matcher.

    Args:
        path: The file, which names it in problems and is what relative paths are relative to.
        text: Its text.
        context: What starts and ends sections and collects the problems.
        defines: The %define names so far; an included file adds to them.
    """

    __slots__ = ("_opened_at", "_tags", "_text")

    def __init__(self, path: str, text: str, context: Loader, defines: dict[str, str] | None = None) -> None:
        super().__init__(Resource(StringIO(text), path), context, defines)
        self._text = text
        self._tags: dict[str, list[tuple[int, bool]]] | None = None
        self._opened_at: list[int] = []

    @property
    def place(self) -> Place:
        """The line that is being read."""
        return Place(self.url, self.lineno)

    def parse(self, section: Any) -> None:
        """Reads every line; problems go to the context."""
        done, line = self.nextline()
        while not done:
            try:
                section = self._line(section, line)
            except ZConfig.ConfigurationError as error:
                self.context.report(error, self.place)
            done, line = self.nextline()
        while self.stack:
            section = self._abandon(section)

    def _line(self, section: Any, line: str) -> Any:
        if line[:1] in ("", "#"):
            return section
        if line[0] == "<":
            tag = self._whole_tag(line)
            return self.end_section(section, tag[2:-1]) if tag[1:2] == "/" else self.start_section(section, tag[1:-1])
        # ZConfig takes " # why" as part of the value; nobody who writes it means that.
        if comment := _COMMENT.search(line):
            self._complain("a comment needs a line of its own: ' #' would be part of the value")
            line = line[: comment.start()].rstrip()
        if line[0] == "%":
            self.handle_directive(section, line[1:])
        else:
            self.handle_key_value(section, line)
        return section

    def _complain(self, message: str) -> None:
        """Reports a slip where it is clear what was meant."""
        self.context.complain(message, self.place)

    def _whole_tag(self, line: str) -> str:
        """The start or the end of a section, from `<` to `>`."""
        if comment := (_COMMENT_AFTER_TAG if ">" in line else _COMMENT_IN_OPEN_TAG).match(line):
            self._complain("a comment needs a line of its own")
            line = comment[1].rstrip()
        elif not line.endswith(">"):
            self._complain(f"{quoted(line)} does not end in '>'")
        return line if line.endswith(">") else f"{line.partition('>')[0]}>"

    # Sections.

    def start_section(self, section: Any, rest: str) -> Any:
        words = rest.removesuffix("/").split()
        kind = words[0].lower() if words else ""
        section = self._section_that_takes(section, kind)
        # ZConfig lowers the case of names; FileDescriptorName= and people keep it.
        self.context.section_starts(self.place, words[1] if len(words) > 1 else None)
        depth = len(self.stack)
        try:
            if not _HEADER.match(rest) or not "".join(words).isprintable():
                self.error(f"{quoted(f'<{rest}>')} starts no section: write <TYPE> or <TYPE NAME>, a word each")
            inner = super().start_section(section, rest)
        except ZConfig.ConfigurationError as error:
            self.context.report(error, self.place)
            if rest.endswith("/"):
                return section
            inner = self.context.unknown_section(section)
            self.stack.append((kind, None, section))
        if len(self.stack) > depth:
            self._opened_at.append(self.lineno)
        return inner

    def _section_that_takes(self, section: Any, kind: str) -> Any:
        """The innermost section that the type may stand in, when those inside that one were left open.

        Sections that are closed further down were not left open: then the type stands where it may not.
        """
        if not self.stack or self.context.takes(section, kind):
            return section
        for depth in range(len(self.stack) - 1, -1, -1):
            if self._is_closed_later(self.stack[depth][0]):
                break
            if self.context.takes(self.stack[depth][2], kind):
                while len(self.stack) > depth:
                    section = self._abandon(section)
                break
        return section

    def _is_closed_later(self, kind: str) -> bool:
        if self._tags is None:
            self._tags = {}
            for number, line in enumerate(self._text.split("\n"), 1):
                if match := _TAG.match(line):
                    self._tags.setdefault(match[2].lower(), []).append((number, bool(match[1])))
        tags = self._tags.get(kind, [])
        following = bisect_left(tags, (self.lineno + 1, False))
        return following < len(tags) and tags[following][1]

    def end_section(self, section: Any, rest: str) -> Any:
        name = rest.strip().lower()
        if not any(entry[0] == name for entry in self.stack):
            inner = self.stack[-1][0] if self.stack else ""
            if not inner or not get_close_matches(name, [inner]):
                self.error(f"</{shown(name)}> ends a section that is not open")
            # When it is the start that is misspelled, that has been said.
            if not isinstance(section, Nothing):
                self._complain(f"</{shown(name)}> does not end <{inner}>: write </{inner}>")
            name = inner
        while self.stack[-1][0] != name:
            section = self._abandon(section)
        self._opened_at.pop()
        return super().end_section(section, name)

    def _abandon(self, section: Any) -> Any:
        """Closes the innermost section, whose end is missing."""
        kind, name, outer = self.stack.pop()
        opened = Place(self.url, self._opened_at.pop())
        self.context.complain(f"<{shown(kind)}> is not closed: </{shown(kind)}> is missing", opened)
        self.context.endSection(outer, kind, name, section)
        return outer

    # Keys.

    def handle_key_value(self, section: Any, rest: str) -> None:
        if isinstance(section, Nothing):
            return
        key, value = _first_word(rest)
        try:
            if _first_word(value)[0] == "=":
                self.error(f"{quoted(rest)}: write KEY VALUE, without =")
            section.addValue(key, self.replace(value), (self.lineno, None, self.url))
        except ZConfig.ConfigurationError:
            section.passed_over(key)
            raise

    def replace(self, text: str) -> str:
        for name in _VARIABLE.findall(text):
            self.context.inputs.variable(name)
        try:
            replaced: str = super().replace(text)
        except ZConfig.SubstitutionSyntaxError:
            self.error(
                f"{quoted(text)}: $ needs a name: $NAME or ${{NAME}} for a %define, $(NAME) for the environment, "
                "$$ for a dollar"
            )
        if len(replaced) > _LONGEST_VALUE:
            self.error(f"{quoted(text)} with its names replaced is longer than {_LONGEST_VALUE} characters")
        return replaced

    # Directives.

    def handle_directive(self, section: Any, rest: str) -> None:
        name, argument = _first_word(rest)
        if name == "import":
            self.error("%import is not needed: a server type is found by its name once its package is installed")
        if name not in ("define", "include"):
            self.error(f"there is no {quoted(f'%{name}')}: write %define NAME VALUE or %include FILE")
        if name == "define":
            self._define(argument)
        elif not argument:
            self.error("%include needs a file: %include FILE")
        else:
            self._include(section, argument)

    def _define(self, argument: str) -> None:
        written, value = _first_word(argument)
        name = written.lower()
        if not written:
            self.error("%define needs a name: %define NAME VALUE")
        if not isname(name):
            self.error(f"{quoted(written)} is no name: write %define NAME VALUE, NAME of letters, digits and _")
        try:
            value = self.replace(value)
        except ZConfig.ConfigurationError as error:
            self.context.report(error, self.place)
            self.context.undefined.add(name)
            return
        if self.defines.setdefault(name, value) != value:
            self.error(f"%define {shown(name)} is there already, as {quoted(self.defines[name])}")

    def _include(self, section: Any, argument: str) -> None:
        name = self.replace(argument)
        if "://" in name:
            self.error(f"%include reads local files only, not {quoted(name)}")
        if not name.isprintable():
            self.error(f"%include {quoted(name)}: the name of a file has no control characters")
        path = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(self.url)), name))
        self.context.include(self, section, path)
