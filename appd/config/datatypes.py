"""Text of the file → plain values.

Each converter takes the text and returns a value, or raises ValueError with the reason and what is allowed; the loader
adds file, line and key. A converter marked `@placed` also gets the file that holds the line, because relative paths are
relative to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from appd import address as addresses
from appd.config.processors import count_processors

__all__ = ["REGISTERED", "placed"]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\Z", re.A)
_SPAN_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)\s*(B|KB|MB|GB|)\Z", re.A | re.I)
_SIZE_UNITS = {"": 1, "B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
_SHORTEST_IDLE = 5.0
_LONGEST_SPAN = 3650 * 86400.0
_LARGEST_SIZE = 1024**6
_SWITCHES = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "false": False, "0": False}
LEVELS = ("debug", "info", "warning", "error", "critical")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\Z")


def placed(converter: Callable[[str, str], Any]) -> Callable[[str, str], Any]:
    """Marks a converter that wants the file of the line as its second argument."""
    converter.wants_file = True  # type: ignore[attr-defined]  # a mark on a function, read by the matcher
    return converter


def span(text: str) -> float:
    """A length of time, in seconds: `500ms`, `30s`, `5m`, `2h`, `1d`; a bare number is seconds."""
    match = _SPAN.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a length of time like 500ms, 30s, 5m, 2h or 1d")
    seconds = float(match[1]) * _SPAN_UNITS[match[2]]
    if seconds > _LONGEST_SPAN:
        raise ValueError(f"{text!r} is longer than ten years (3650d)")
    return seconds


def idle_exit(text: str) -> float | None:
    """`never`, or a length of time from five seconds on: less would end a service between two requests."""
    if text.lower() == "never":
        return None
    seconds = span(text)
    if seconds < _SHORTEST_IDLE:
        raise ValueError(f"{text!r} is too short: never, or at least {_SHORTEST_IDLE:.0f}s")
    return seconds


def size(text: str) -> int:
    """A size in bytes: `4096`, `64KB`, `16MB`, `1GB` (powers of 1024)."""
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size like 4096, 64KB, 16MB or 1GB")
    # Compared by its digits first: int() refuses thousands of them, in words of its own.
    digits = match[1].lstrip("0") or "0"
    if len(digits) > 19 or (found := int(digits) * _SIZE_UNITS[match[2].upper()]) > _LARGEST_SIZE:
        raise ValueError(f"{text!r} is larger than 1 EB")
    return found


def memory(text: str) -> int:
    """The memory of a process in bytes, as `size`; no process has less than 1 MB."""
    if size(text) < _SIZE_UNITS["MB"]:
        raise ValueError(f"{text!r} is less than 1MB")
    return size(text)


def positive_span(text: str) -> float:
    """A length of time that is one."""
    seconds = span(text)
    if not seconds:
        raise ValueError(f"{text!r} is no time at all")
    return seconds


def positive_size(text: str) -> int:
    """A size from 1 on."""
    found = size(text)
    if not found:
        raise ValueError(f"{text!r}: at least 1 is needed")
    return found


def switch(text: str) -> bool:
    """`on` or `off` (yes, no, true, false, 1 and 0 too)."""
    if text.lower() not in _SWITCHES:
        raise ValueError(f"{text!r} is neither on nor off")
    return _SWITCHES[text.lower()]


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not re.match(r"\d{1,9}\Z", text, re.A) or int(text) < 1:
        raise ValueError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def natural(text: str) -> int:
    """A whole number from 0 on."""
    if not re.match(r"\d{1,9}\Z", text, re.A):
        raise ValueError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def mode(text: str) -> int:
    """The permissions of a file, octal."""
    if not re.match(r"[0-7]{3,4}\Z", text, re.A):
        raise ValueError(f"{text!r} is not an octal file mode like 0660")
    return int(text, 8)


def level(text: str) -> str:
    """The name of a log level; `warn` is `warning`."""
    name = {"warn": "warning"}.get(text.lower(), text.lower())
    return one_of(*LEVELS)(name)


class one_of:  # called as the functions beside it are
    """Makes a converter for one word of several, in any case.

    Attributes:
        words: Those that are allowed, as `appd types` lists them.
    """

    __slots__ = ("words",)

    def __init__(self, *words: str) -> None:
        self.words = words

    def __call__(self, text: str) -> str:
        if text.lower() not in self.words:
            raise ValueError(f"{text!r} is not one of {', '.join(self.words)}")
        return text.lower()


def workers(text: str) -> int:
    """A number from 1 on, or `auto`: one for each processor that this process may use."""
    if text.lower() == "auto":
        return count_processors()
    try:
        return positive(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither auto nor a whole number from 1 on") from None


log_format = one_of("auto", "journal", "text", "json")
processes = one_of("one", "all")
ipv6_only = one_of("default", "both", "ipv6-only")


def namespace(text: str) -> str:
    """The name of a logger, its case kept: `twisted.web`."""
    if not re.match(r"[\w.-]+\Z", text):
        raise ValueError(f"{text!r} is not the name of a logger")
    return text


def dotted(text: str) -> str:
    """A name of hosted code, `package.module:attribute`; it is looked up later, in the worker."""
    if not _DOTTED.match(text):
        raise ValueError(f"{text!r} is not of the form package.module:name{colon_hint(text)}")
    return text


def colon_hint(text: str) -> str:
    """What was meant by `package.module.name`."""
    module, dot, name = text.rpartition(".")
    meant = f"{module}:{name}"
    return f": did you mean {meant}?" if dot and _DOTTED.match(meant) else ""


@placed
def path(text: str, file: str) -> str:
    """A path; a relative one is relative to the file that holds the line."""
    if not text:
        raise ValueError("a path is missing")
    return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(file)), text))


def address(text: str) -> addresses.Address:
    """Any address."""
    return addresses.parse(text)


def bindable(text: str) -> addresses.Address:
    """An address that appd binds itself."""
    parsed = addresses.parse(text)
    if not parsed.is_bound_by_appd:
        raise ValueError(f"{text!r} is no address to bind: a port, HOST:PORT, a path, udp:… or unix-dgram:…")
    return parsed


# Short names for component.xml files, beside ZConfig's own (string, integer, identifier …).
REGISTERED: dict[str, Callable[..., Any]] = {
    "address": address,
    "dotted": dotted,
    "level": level,
    "path": path,
    "positive": positive,
    "size": size,
    "span": span,
    "switch": switch,
}
