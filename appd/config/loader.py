"""A file → settings: the schema, the section types of server types as they are met, and all errors at once.

What ZConfig asks for, and where it is met:

* Section types of server types are loaded when a section of an unknown type starts: `startSection`.
* Type names are global in a schema, so a component names its nested types `NAME.part`. A short name in the file is
  looked for in the enclosing types first, from the inside out, then among appd's shared ones (`appd.part`), then at the
  top.
* All errors at once needs the parser (lines), the matcher (values) and this loader (files): three places, one list.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import ZConfig
from ZConfig.datatypes import Registry as DatatypeRegistry
from ZConfig.loader import ConfigLoader, SchemaLoader

from appd.config.datatypes import REGISTERED
from appd.config.former import SECTIONS, modern
from appd.config.inputs import Inputs
from appd.config.matcher import Matcher, Nothing
from appd.config.parser import Parser
from appd.config.reading import read_text
from appd.config.settings import Settings
from appd.config.wording import cleaned, shown
from appd.errors import ConfigurationError, Place, Problem
from appd.registry import Registration, Registry

__all__ = ["FORMAT", "Loader", "schema_with", "section_of"]

FORMAT = 1
"""The format of the file: higher when a file that was good is not any more, or means something else."""

_HERE = os.path.dirname(__file__)
_OWN_FILES = ("schema.xml", "datatypes.py", "former.py", "matcher.py", "parser.py")

# Deeper than anybody nests files, and more than anybody has.
_DEEPEST = 50
_MOST_FILES = 1000


def schema_with(*registrations: Registration) -> Any:
    """The schema with the sections of some server types, to list what there is.

    Args:
        registrations: The server types.

    Raises:
        ConfigurationError: A component.xml is missing or wrong.
    """
    loader = Loader(Registry())
    for one in registrations:
        loader.add_server_type(one)
    return loader.schema


def section_of(registration: Registration, registry: Registry, outer: Settings, options: Settings | None) -> Settings:
    """The settings that a server type would get from a section of its own with these keys.

    Args:
        registration: The server type.
        registry: Where server types are found.
        outer: The section that names the type; its addresses count for the inner one.
        options: The keys; None for none.

    Raises:
        ConfigurationError: A key is unknown, missing or does not convert.
    """
    loader = Loader(registry)
    loader.add_server_type(registration)
    matcher = Matcher(None, loader.schema.gettype(registration.name), outer.name, outer.place, loader)
    for key, value in (options.values["values"] if options is not None else {}).items():
        assert options is not None
        place = options.where(key)
        if not matcher.has_key(key) and matcher.has_key(key.replace("_", "-")):
            # The names of <options> are identifiers, which have no hyphen.
            key = key.replace("_", "-")
        try:
            matcher.addValue(key, value, (place.line, None, place.file))
        except ZConfig.ConfigurationError as error:
            loader.report(error, place)
    settings = matcher.finish()
    if loader.problems:
        raise ConfigurationError(*dict.fromkeys(loader.problems))
    return settings


def _base_schema() -> Any:
    datatypes = DatatypeRegistry()
    for name, converter in REGISTERED.items():
        datatypes.register(name, converter)
    with open(os.path.join(_HERE, "schema.xml"), encoding="utf-8") as file:
        return SchemaLoader(datatypes).loadFile(file, "package:appd.config:schema.xml")


class Loader(ConfigLoader):  # type: ignore[misc]  # ZConfig has no types
    """Reads one file and what it includes.

    Args:
        registry: Where server types are found.
        texts: Path → text of files that are not to be read again, as they were read before.

    Attributes:
        problems: What is wrong so far.
        obsolete: What the file says in vain, each with its place.
        undefined: The names whose %define went wrong: that has been said, and is not said again where they are used.
    """

    def __init__(self, registry: Registry, texts: Mapping[str, str] | None = None) -> None:
        super().__init__(_base_schema())
        self.registry = registry
        self._texts = texts or {}
        self.problems: list[Problem] = []
        self.undefined: set[str] = set()
        self.obsolete: list[tuple[str, Place]] = []
        self.place = Place("", 0)
        self._name: str | None = None
        self._first = ""
        self._reading: list[str] = []
        self._files = 0
        self.inputs = Inputs()
        """What the settings depend on."""
        for path in (__file__, ZConfig.__file__, *(os.path.join(_HERE, name) for name in _OWN_FILES)):
            self.inputs.file(path)

    def load(self, path: str) -> Settings:
        """Reads the file; see `appd.config.load`."""
        place = Place(path, 0)
        try:
            text = self._read(path)
        except ValueError as error:
            wrong = ConfigurationError(Problem(cleaned(str(error)), place))
            wrong.errno = getattr(error.__context__, "errno", None) or wrong.errno
            raise wrong from None
        top = Matcher(self.schema, self.schema, None, place, self)
        self._parse(path, text, top, {})
        settings = top.finish()
        if (settings.format or FORMAT) > FORMAT:
            # What else seems wrong with it is only that it is newer.
            message = (
                f"format {settings.format} is newer than this appd, which reads format {FORMAT}: "
                f"install a newer appd, or write the file for format {FORMAT}"
            )
            raise ConfigurationError(settings.problem(message, "format"))
        if self.obsolete:
            settings.values = {**settings.values, "obsolete": self.obsolete}
        if self.problems:
            # A file that is included twice says the same twice.
            raise ConfigurationError(*dict.fromkeys(sorted(self.problems, key=self._order)))
        return settings

    def _read(self, path: str) -> str:
        self.inputs.file(path)
        text = self._texts[path] if path in self._texts else read_text(path)
        self.inputs.texts[path] = text
        return text

    def _order(self, problem: Problem) -> tuple[bool, str, int]:
        # The file itself line by line, then the files it includes, each in the order of its own lines.
        place = problem.place or Place("", 0)
        return (place.file != self._first, *place)

    def _parse(self, path: str, text: str, section: Any, defines: dict[str, str]) -> None:
        if not self._reading:
            self._first = path
        self._reading.append(os.path.realpath(path))
        Parser(path, text, self, defines).parse(section)
        self._reading.pop()

    # What the parser and the matchers call.

    def complain(self, message: str, place: Place, value: str = "") -> None:
        """Keeps a problem.

        Args:
            message: What is wrong.
            place: Where.
            value: The value that it is about, "" for none; see `cleaned`.
        """
        self.problems.append(Problem(cleaned(message, value), place))

    def section_starts(self, place: Place, name: str | None) -> None:
        """Notes the line of the section that starts next, and its name as written."""
        self.place = place
        self._name = name

    def unknown_section(self, _outer: Any) -> Nothing:
        """What takes the lines of a section that could not start."""
        return Nothing()

    def report(self, error: ZConfig.ConfigurationError, place: Place) -> None:
        """Keeps an error of ZConfig's as a problem."""
        if not isinstance(error, ZConfig.SubstitutionReplacementError):
            self.complain(error.message, place)
            return
        name = shown(error.name)
        if f"$({error.name})" in error.source and error.name not in os.environ:
            self.complain(f"$({name}) is not defined: the environment has no variable {name}", place)
        elif error.name.lower() not in self.undefined:
            self.complain(
                f"${name} is not defined: write %define {name} VALUE before it, "
                f"$({name.upper()}) for the environment, $$ for a dollar",
                place,
            )

    def include(self, parser: Parser, section: Any, path: str) -> None:
        """Reads an included file in the middle of another."""
        if os.path.realpath(path) in self._reading:
            chain = " includes ".join([*self._reading[self._reading.index(os.path.realpath(path)) :], path])
            parser.error(f"%include goes round in a circle: {chain}")
        self._files += 1
        if len(self._reading) > _DEEPEST:
            parser.error(f"%include {path}: it is included {len(self._reading)} deep, and {_DEEPEST} are allowed")
        if self._files > _MOST_FILES:
            parser.error(f"%include {path}: more than {_MOST_FILES} files are included")
        try:
            text = self._read(path)
        except ValueError as error:
            parser.error(f"%include {path}: {error}")
        self._parse(path, text, section, parser.defines)

    def takes(self, section: Any, type_: str) -> bool:
        """Whether a section of that type may stand in this one."""
        if isinstance(section, Nothing):
            return False
        try:
            found = self._section_type(section, type_)
        except ZConfig.ConfigurationError:
            return True  # It is known; what is wrong with it is said when it starts.
        return found is not None and section.section_info(found.name) is not None

    def startSection(self, parent: Any, type_: str, name: str | None) -> Any:
        if isinstance(parent, Nothing):
            return parent
        found = self._section_type(parent, type_)
        if found is None and not parent.type.name and type_ in SECTIONS:
            self.obsolete.append((f"<{type_}> has no effect: {SECTIONS[type_]}", self.place))
            return Nothing()
        if found is None:
            raise ZConfig.ConfigurationError(self._unknown_type(parent, type_))
        return parent.createChildMatcher(found, self._name)

    def endSection(self, parent: Any, type_: str, name: str | None, matcher: Any) -> None:
        value = matcher.finish()
        if value is not None and not isinstance(parent, Nothing):
            parent.addSection(matcher.type.name, name, modern(value, self))

    def section(
        self, type_: str, like: Settings, keys: Mapping[str, str], sections: Iterable[Settings] = ()
    ) -> Settings:
        """A section made of the keys of another.

        Args:
            type_: Its type, of those that the schema has by now.
            like: The other one, whose name and place it has.
            keys: Key of the other → key of this one; what was not written there is not here.
            sections: What is in it.
        """
        matcher = Matcher(None, self.schema.gettype(type_), like.name, like.place, self)
        for theirs, ours in keys.items():
            for number, text in enumerate(like.written.get(theirs, ())):
                place = like.where(theirs, number)
                matcher.addValue(ours, text, (place.line, None, place.file))
        for one in sections:
            matcher.addSection(one.section_type, None, one)
        return matcher.finish()

    def _section_type(self, parent: Matcher, type_: str) -> Any:
        known = set(self.schema.gettypenames())
        enclosing = parent.type.name.split(".") if parent.type.name else []
        for depth in range(len(enclosing), 0, -1):
            name = ".".join([*enclosing[:depth], type_])
            if name in known:
                return self.schema.gettype(name)
        if enclosing:
            return self.schema.gettype(f"appd.{type_}") if f"appd.{type_}" in known else None
        if type_ not in known and "." not in type_:
            self._load_server_type(type_)
            known = set(self.schema.gettypenames())
        if type_ not in known or self.schema.gettype(type_).isabstract() or "." in type_:
            return None
        return self.schema.gettype(type_)

    def _load_server_type(self, name: str) -> None:
        try:
            registration = self.registry.find(name)
            if registration is not None:
                self.add_server_type(registration)
        except ConfigurationError as error:
            raise ZConfig.ConfigurationError("; ".join(map(str, error.problems))) from None

    def add_server_type(self, registration: Registration) -> None:
        """Adds the section type that a server type brings.

        Raises:
            ConfigurationError: Its component.xml is missing or wrong.
        """
        package = registration.package
        self._note(package)
        try:
            self.importSchemaComponent(package)
        except Exception as error:  # ZConfig, the XML parser and a data type's import may all raise
            reason = " ".join(str(error).split())
            raise ConfigurationError(f"{registration}: component.xml of {package}: {reason}") from error
        if registration.name not in self.schema.gettypenames():
            raise ConfigurationError(
                f"{registration}: component.xml of {package} has no <sectiontype name={registration.name!r}>"
            )

    def _note(self, package: str) -> None:
        self.inputs.own = self.inputs.own and package.startswith("appd.")
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            for path in (os.path.join(folder, "component.xml"), os.path.join(folder, "datatypes.py")):
                if os.path.exists(path):
                    self.inputs.file(path)

    def _unknown_type(self, parent: Matcher, type_: str) -> str:
        if parent.type.name:
            outer = parent.type.name.rpartition(".")[2]
            allowed = ", ".join(f"<{one}>" for one in parent._section_names()) or "no section"
            listed = f"`appd types {parent.type.name.split('.')[0]}` lists what there is"
            return f"<{shown(type_)}> is unknown in <{outer}>, which takes {allowed}; {listed}"
        ours = ("socket", "environment", "log", "auth")
        near = self.registry.nearest(type_, ours)
        hint = f"did you mean {' or '.join(f'<{one}>' for one in near)}? " if near else ""
        return f"no server type or section is called <{shown(type_)}>: {hint}`appd types` lists what there is"
