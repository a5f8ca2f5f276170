"""Keys and sections, checked against the schema, → `Settings`.

ZConfig's matchers stop at the first value that does not convert. These keep the problem and go on, and they build
`Settings`, which know the line of every value, in place of ZConfig's section values, which do not.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import ZConfig
from ZConfig.info import ValueInfo
from ZConfig.matcher import BaseMatcher

from appd.config.former import KEYS
from appd.config.refused import why_not
from appd.config.settings import Settings
from appd.config.wording import quoted
from appd.errors import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appd.config.loader import Loader

__all__ = ["Matcher", "Nothing"]


class Matcher(BaseMatcher):  # type: ignore[misc]  # ZConfig has no types
    """The matcher of one section, or of the file as a whole.

    Args:
        info: How the outer section knows this one.
        type_: The section type.
        name: The name of the section, None without one.
        place: Where it starts.
        context: What collects the problems.
    """

    def __init__(self, info: Any, type_: Any, name: str | None, place: Place, context: Loader) -> None:
        super().__init__(info, type_, [])
        self.name = name
        self.place = place
        self.context = context
        self._places: dict[str, list[Place]] = {}
        self._written: dict[str, list[str]] = {}
        self._named: dict[tuple[str, str], Place] = {}
        self._passed_over: set[str] = set()

    def section_info(self, type_: str) -> Any:
        """How this section knows sections of that type; None when they have no place in it."""
        # Not ZConfig's getsectioninfo: to that the name of a section must not be the name of a key.
        for _key, info in self.type:
            if info.issection():
                kind = info.sectiontype
                if type_ in (kind.getsubtypenames() if kind.isabstract() else [kind.name]):
                    return info
        return None

    def has_key(self, key: str) -> bool:
        """Whether the schema has a key of that name, free names aside."""
        try:
            realkey = self.type.keytype(key)
        except ValueError:
            return False
        return any(known == realkey and not info.issection() for known, info in self.type)

    def passed_over(self, key: str) -> None:
        """Notes that a line with that key was wrong: it has been said, and the key is not missing too."""
        self._passed_over.add(key.lower())

    def createChildMatcher(self, type_: Any, name: str | None) -> Matcher:
        place = self.context.place
        shown = type_.name.rpartition(".")[2]
        info = self.section_info(type_.name)
        if info is None:
            outer = f"<{self.type.name.rpartition('.')[2]}>" if self.type.name else "the top of the file"
            allowed = ", ".join(f"<{one}>" for one in self._section_names()) or "no section"
            raise ZConfig.ConfigurationError(f"<{shown}> has no place in {outer}, which takes {allowed}")
        if not info.isAllowedName(name):
            raise ZConfig.ConfigurationError(f"<{shown}> needs a name: <{shown} NAME>")
        kind = info.sectiontype.name
        if name and (earlier := self._named.setdefault((kind, name.lower()), place)) is not place:
            what = "server" if kind == "appd.server" else f"<{shown}>"
            raise ZConfig.ConfigurationError(f"a second {what} is called {quoted(name)}; the first is at {earlier}")
        if not info.ismulti():
            if info.attribute in self._places:
                raise ZConfig.ConfigurationError(
                    f"a second <{shown}>; the first is at {self._places[info.attribute][0]}"
                )
            self._places[info.attribute] = [place]
        return Matcher(info, type_, name, place, self.context)

    def addSection(self, type_: str, name: str | None, value: Settings) -> None:
        info = self.section_info(type_)
        if info.ismulti():
            self._values[info.attribute].append(value)
            self._places.setdefault(info.attribute, []).append(value.place)
        else:
            self._values[info.attribute] = value

    def addValue(self, key: str, value: str, position: tuple[int, int | None, str]) -> None:
        place = Place(position[2], position[0])
        if not self.type.name and key.lower() in KEYS and not self.has_key(key):
            self.context.obsolete.append((f"{key.lower()} has no effect: {KEYS[key.lower()]}", place))
            return
        info, attribute, realkey = self._key_info(key)
        if info.name == "+":
            self._add_free_value(info, attribute, realkey, value, position, place)
            return
        if not info.ismulti():
            if attribute in self._places:
                raise ZConfig.ConfigurationError(
                    f"{quoted(key)} is there twice; the first is at {self._places[attribute][0]}"
                )
            self._values[attribute] = ValueInfo(value, position)
        else:
            self._values[attribute].append(ValueInfo(value, position))
        self._places.setdefault(attribute, []).append(place)
        self._written.setdefault(attribute, []).append(value)

    def _add_free_value(self, info: Any, attribute: str, key: str, value: str, position: Any, place: Place) -> None:
        values = self._values[attribute]
        if info.ismulti():
            values.setdefault(key, []).append(ValueInfo(value, position))
        elif key in values:
            raise ZConfig.ConfigurationError(f"{quoted(key)} is there twice; the first is at {self._places[key][0]}")
        else:
            values[key] = ValueInfo(value, position)
        self._places.setdefault(key, []).append(place)

    def _key_info(self, key: str) -> tuple[Any, str, str]:
        try:
            realkey = self.type.keytype(key)
        except ValueError as error:
            raise ZConfig.ConfigurationError(
                f"{quoted(key)} is no name for a key here: {_in_our_words(key, str(error))}"
            ) from None
        free = None
        for known, info in self.type:
            if known == realkey and not info.issection():
                return info, info.attribute, realkey
            if info.name == "+" and not info.issection():
                free = info
        if free is not None:
            return free, free.attribute, realkey
        raise ZConfig.ConfigurationError(self._unknown_key(key))

    def _unknown_key(self, key: str) -> str:
        known = sorted(name for name, info in self.type if name and not info.issection())
        section = self.type.name.rpartition(".")[2] if self.type.name else ""
        where = f"<{section}>" if section else "the top of the file"
        if reason := why_not(section, key):
            return f"{where} has no key {quoted(key)}: {reason}"
        near = get_close_matches(key.lower(), known, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}? " if near else f"it takes {', '.join(known) or 'no keys'}; "
        if owners := self._sections_with(key.lower()):
            *others, last = [f"<{one}>" for one in owners]
            hint = f"it belongs into a section in it, {' or '.join(filter(None, (', '.join(others), last)))}; "
        elif not section and key.lower() in (name for name, _ in self.type.gettype("appd.listener")):
            hint = "it belongs into the section of a server, like <http>; "
        owner = (self.type.name or "").split(".")[0]
        # What all servers share is shown with each of them.
        command = f"appd types {'NAME' if owner == 'appd' else owner}".rstrip()
        return f"{where} has no key {quoted(key)}: {hint}`{command}` lists what there is"

    def _sections(self) -> Iterator[Any]:
        """The types of the sections that may be in this one."""
        for _key, info in self.type:
            if info.issection():
                kind = info.sectiontype
                yield from map(kind.getsubtype, kind.getsubtypenames()) if kind.isabstract() else [kind]

    def _section_names(self) -> list[str]:
        return sorted({one.name.rpartition(".")[2] for one in self._sections()})

    def _sections_with(self, key: str) -> list[str]:
        """Those that have a key."""
        return sorted({one.name.rpartition(".")[2] for one in self._sections() if key in (name for name, _ in one)})

    def finish(self) -> Settings:
        """Converts what was collected; a value that is wrong is reported and stands as None."""
        values: dict[str, Any] = {}
        for key, info in self.type:
            attribute = info.attribute
            raw = self._values[attribute]
            if info.issection():
                values[attribute] = raw
            elif info.name == "+":
                values[attribute] = {one: self._converted_free(info, value) for one, value in raw.items()}
            elif info.ismulti():
                values[attribute] = [self._converted(info, one, key) for one in raw or info.getdefault()]
            else:
                one = raw if raw is not None else info.getdefault()
                values[attribute] = None if one is None else self._converted(info, one, key)
            missing = info.minOccurs and attribute not in self._places and not values[attribute]
            if missing and key not in self._passed_over:
                what = f"<{info.sectiontype.name.rpartition('.')[2]}>" if info.issection() else repr(key)
                where = f"<{self.type.name.rpartition('.')[2]}>" if self.type.name else "the file"
                self.context.complain(f"{where} needs {what}", self.place)
        places = {attribute: tuple(found) for attribute, found in self._places.items()}
        written = {attribute: tuple(found) for attribute, found in self._written.items()}
        return Settings(self.type.name or "", self.name, self.place, values, places, written)

    def _converted_free(self, info: Any, value: Any) -> Any:
        if isinstance(value, list):
            return [self._converted(info, one, "") for one in value]
        return self._converted(info, value, "")

    def _converted(self, info: Any, value: ValueInfo, key: str) -> Any:
        line, _column, file = value.position
        try:
            if getattr(info.datatype, "wants_file", False):
                return info.datatype(value.value, file)
            return info.datatype(value.value)
        except ValueError as error:
            message = f"{key}: {error}" if key else str(error)
            self.context.complain(message, Place(file, line), value.value)
            return None


def _in_our_words(key: str, reason: str) -> str:
    if "=" in key:
        return "write KEY VALUE, without ="
    if "regular expression" in reason:  # ZConfig's basic-key
        return "a letter, then letters, digits, -, . and _"
    if "identifier" in reason:  # ZConfig's identifier
        return "a letter or _, then letters, digits and _"
    return reason


class Nothing:
    """Stands for a section that nobody knows, so that what is in it is passed over without further complaint."""

    type = None

    def createChildMatcher(self, _type: Any, _name: str | None) -> Nothing:
        return self

    def addSection(self, _type: str, _name: str | None, _value: Any) -> None:
        """Takes no note of it."""

    def addValue(self, _key: str, _value: str, _position: Any) -> None:
        """Takes no note of it."""

    def finish(self) -> None:
        """Has no value."""
