"""`appd types`: the server types, and the keys of one, read from the schema itself."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from appd.config.datatypes import LEVELS, one_of
from appd.config.loader import schema_with
from appd.errors import AppdError, UsageError
from appd.registry import Registration, Registry
from appd.systemd.confinement import is_outgoing

__all__ = ["Entry", "describe", "entries"]

_WIDTH = 100

# What the converters that many keys have take, in the words of people.
_VALUES = {
    "<lambda>": "text",
    "IdentifierConversion": "name",
    "application": "package.module:name or file.py:name",
    "arguments": "command line",
    "bindable": "address",
    "charset": "charset | off",
    "client_name": "dns:NAME | uri:URI | email:ADDRESS",
    "command": "command line",
    "dotted": "package.module:name",
    "group": "ADDRESS [INTERFACE]",
    "header": "NAME VALUE",
    "idle_exit": "never | time from 5s",
    "key_files": "path with %u or %h",
    "level": " | ".join(LEVELS),
    "location": "URL or path",
    "maildir": "path with %u and %d",
    "memory": "bytes from 1MB",
    "message_size": "bytes like 64KB",
    "mode": "octal like 0660",
    "mount_path": "path like /media",
    "natural": "number from 0",
    "network": "network, address or unix",
    "passphrase": "file or credential:NAME",
    "ports": "FIRST-LAST",
    "positive": "number from 1",
    "positive_size": "bytes like 64KB",
    "positive_span": "time like 30s",
    "response_size": "bytes like 64KB",
    "server_name": "host or address",
    "size": "bytes like 64KB",
    "source": "file or credential:NAME",
    "span": "time like 30s",
    "str": "text",
    "switch": "on | off",
    "target": "address",
    "user_folder": "path, %u is the user",
    "version": "1.2 | 1.3",
    "workers": "auto | number from 1",
    "zone": "ORIGIN PATH",
}


class Entry(NamedTuple):
    """A key or a section, as people read of it.

    Attributes:
        depth: How deep it lies.
        title: The key, or `<section>` with NAME where it has one.
        facts: The kind of value, whether it is repeatable or required, the default.
        text: What it is for.
        is_section: Whether it is a section.
    """

    depth: int
    title: str
    facts: tuple[str, ...]
    text: str
    is_section: bool


def describe(name: str | None, registry: Registry | None = None) -> str:
    """Lists every server type, or describes one with its keys and sections.

    Args:
        name: The server type; None for the list.
        registry: Where server types are found.

    Raises:
        UsageError: There is none of that name.
        ConfigurationError: Two packages bring the same name, or a component.xml is wrong.
    """
    registry = registry or Registry()
    if name is None:
        return _list(registry)
    found = registry.find(name)
    if found is None:
        near = registry.nearest(name)
        hint = f"did you mean {' or '.join(near)}?" if near else "`appd types` lists them"
        raise UsageError(f"there is no server type {name!r}: {hint}")
    schema = schema_with(found)
    lines = [f"<{found.name} NAME>  from {found.distribution} ({found.target}){_outgoing(found)}"]
    lines += _section(schema, schema.gettype(found.name), 1)
    return "\n".join(lines) + "\n"


def _list(registry: Registry) -> str:
    registrations = registry.all()
    schema = schema_with(*registrations)
    rows = [_summary(schema, one) for one in registrations]
    width = max(len(row[0]) for row in rows)
    who = max(len(row[1]) for row in rows)
    lines = []
    for name, owner, text in rows:
        [first, *others] = textwrap.wrap(text, _WIDTH - width - who - 4, break_on_hyphens=False) or [""]
        lines.append(f"{name.ljust(width)}  {owner.ljust(who)}  {first}".rstrip())
        lines += [" " * (width + who + 4) + one for one in others]
    lines.append("")
    lines.append("`appd types NAME` shows the keys of one. The file itself has these:")
    lines += _section(schema, schema, 1)
    return "\n".join(lines) + "\n"


def _summary(schema: Any, one: Registration) -> tuple[str, str, str]:
    text = _text(schema.gettype(one.name).description).partition(". ")[0].rstrip(".")
    return one.name, one.distribution, f"{text}{_outgoing(one)}"


def _outgoing(one: Registration) -> str:
    """What is said of a type whose servers open connections; nothing of one that does not import."""
    try:
        return "  [opens connections: not under inbound-only.conf]" if is_outgoing(one.load()) else ""
    except AppdError:
        return ""


def entries(schema: Any, section_type: Any, depth: int = 0) -> Iterator[Entry]:
    """The keys and sections of a section type, each section followed by what is in it.

    Args:
        schema: The schema that has it.
        section_type: A section type of ZConfig's, or the schema itself.
        depth: How deep it lies.
    """
    for key, info in section_type:
        if not info.issection():
            yield Entry(depth, key if key and key != "+" else "NAME", _facts(info), _text(info.description), False)
            continue
        kind = info.sectiontype
        if kind.name == "appd.server":
            continue
        for one in [schema.gettype(name) for name in kind.getsubtypenames()] if kind.isabstract() else [kind]:
            title = f"<{one.name.rpartition('.')[2]}{' NAME' if info.name == '+' else ''}>"
            facts = ("repeatable",) if info.ismulti() else ()
            yield Entry(depth, title, facts, _text(one.description), True)
            yield from entries(schema, one, depth + 1)


def _facts(info: Any) -> tuple[str, ...]:
    facts = [_value(info)]
    if info.ismulti():
        facts.append("repeatable")
    if info.minOccurs:
        facts.append("required")
    default = info.getdefault()
    if default and info.name != "+" and not info.ismulti():
        facts.append(f"default {default.value}")
    return tuple(facts)


def _section(schema: Any, section_type: Any, depth: int) -> list[str]:
    lines = _wrapped(_text(section_type.description), "  " * depth)
    for one in entries(schema, section_type, depth):
        indent = "  " * one.depth
        facts = f"  ({', '.join(one.facts)})" if one.facts else ""
        lines.append(f"{indent}{one.title}{facts}")
        lines += _wrapped(one.text, indent + ("  " if one.is_section else "    "))
    return lines


def _value(info: Any) -> str:
    """What a key takes: the words that are allowed, or a value with its unit, else the name of its converter."""
    if isinstance(info.datatype, one_of):
        return " | ".join(info.datatype.words)
    convert = info.datatype if hasattr(info.datatype, "__name__") else type(info.datatype)
    name: str = convert.__name__
    # A package may call its own converter as one of these is called.
    known = _VALUES if convert.__module__.partition(".")[0] in ("appd", "builtins", "ZConfig") else {}
    return known.get(name, name.replace("_", " "))


def _text(description: str | None) -> str:
    return " ".join((description or "").split())


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
