"""The lines of a file, each error kept and the reading gone on.

ZConfig's parser stops at the first wrong line. Here a line that is wrong becomes a problem with its place, and the
parser finds its feet again: keys in a section that nobody knows are passed over, and a section end that is missing or
too many is reported once.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from io import StringIO
from typing import TYPE_CHECKING, Any

import ZConfig
from ZConfig.cfgparser import ZConfigParser
from ZConfig.loader import Resource

from appd.errors import Place, Problem

if TYPE_CHECKING:
    from appd.config.loader import Loader

__all__ = ["Parser", "read_text"]


def read_text(path: str) -> str:
    """Reads a configuration file.

    Args:
        path: The path of the file.

    Returns:
        Its text.

    Raises:
        ValueError: It cannot be read, or is no text; the message says why, without the path.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except IsADirectoryError:
        raise ValueError("it is a directory, not a file") from None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it starts with a byte order mark: save it as UTF-8 without one")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise ValueError(f"it contains a NUL byte in line {line}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"it is not UTF-8: byte 0x{data[error.start]:02x} in line {line}") from None


class Parser(ZConfigParser):  # type: ignore[misc]  # ZConfig has no types
    """Reads one file into a matcher.

    Args:
        path: The file, which names it in problems and is what relative paths are relative to.
        text: Its text.
        context: What starts and ends sections and collects the problems.
        defines: The %define names so far; an included file adds to them.
    """

    __slots__ = ("_opened_at",)

    def __init__(self, path: str, text: str, context: Loader, defines: dict[str, str] | None = None) -> None:
        super().__init__(Resource(StringIO(text), path), context, defines)
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
            if line[-1] != ">":
                self._refuse_comment(line)
                self.error(f"{line!r} does not end in '>'")
            return (
                self.end_section(section, line[2:-1]) if line[1:2] == "/" else self.start_section(section, line[1:-1])
            )
        if line[0] == "%":
            self._refuse_comment(line)
            self.handle_directive(section, line[1:])
        else:
            self._refuse_comment(line)
            self.handle_key_value(section, line)
        return section

    def _refuse_comment(self, line: str) -> None:
        # ZConfig takes " # why" as part of the value; nobody who writes it means that.
        if " #" in line or "\t#" in line:
            self.error("a comment needs a line of its own: ' #' would be part of the value")

    def start_section(self, section: Any, rest: str) -> Any:
        words = rest.removesuffix("/").split()
        # ZConfig lowers the case of names; FileDescriptorName= and people keep it.
        self.context.section_starts(self.place, words[1] if len(words) > 1 else None)
        depth = len(self.stack)
        try:
            inner = super().start_section(section, rest)
        except ZConfig.ConfigurationError as error:
            self.context.report(error, self.place)
            if rest.endswith("/"):
                return section
            inner = self.context.unknown_section(section)
            self.stack.append(((words[0] if words else "").lower(), None, section))
        if len(self.stack) > depth:
            self._opened_at.append(self.lineno)
        return inner

    def end_section(self, section: Any, rest: str) -> Any:
        name = rest.strip().lower()
        if not any(entry[0] == name for entry in self.stack):
            inner = self.stack[-1][0] if self.stack else ""
            if not get_close_matches(name, [inner]):
                self.error(f"</{name}> ends a section that is not open")
            # A slip of the pen: one problem, not one for every line that follows.
            self.context.problems.append(Problem(f"</{name}> does not end <{inner}>: write </{inner}>", self.place))
            name = inner
        while self.stack[-1][0] != name:
            section = self._abandon(section)
        self._opened_at.pop()
        return super().end_section(section, name)

    def _abandon(self, section: Any) -> Any:
        """Closes the innermost section, whose end is missing."""
        name = self.stack[-1][0]
        opened = Place(self.url, self._opened_at.pop())
        self.context.problems.append(Problem(f"<{name}> is not closed: </{name}> is missing", opened))
        _type, _name, outer = self.stack.pop()
        return outer

    def handle_include(self, section: Any, rest: str) -> None:
        name = self.replace(rest.strip())
        if "://" in name:
            self.error(f"%include reads local files only, not {name!r}")
        path = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(self.url)), name))
        self.context.include(self, section, path)

    def handle_import(self, section: Any, rest: str) -> None:
        self.error("%import is not needed: a server type is found by its name once its package is installed")
