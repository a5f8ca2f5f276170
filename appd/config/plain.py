"""Settings ↔ what JSON can hold.

A tag before each container says what it was, so that what is read back equals what was written. Nothing but plain data
comes out, whatever is in the text.
"""

from __future__ import annotations

from appd.address import Address
from appd.config.settings import Settings
from appd.errors import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["NotPlain", "decode", "encode"]


class NotPlain(ValueError):
    """A value is of a type that is not written: a data type of a server type made something of its own."""


def encode(value: Any) -> Any:
    """Gives a value as what the json module takes.

    Args:
        value: Settings, an address, text, bytes, a number, a switch, None, or a container of these.

    Raises:
        NotPlain: It is something else, or holds something else.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise NotPlain(f"{type(value).__qualname__} is no plain data")
    return encoder(value)


def decode(value: Any) -> Any:
    """Gives back what `encode` was given.

    Raises:
        ValueError: It is nothing that `encode` gives.
    """
    if not isinstance(value, list):
        return value
    try:
        return _DECODERS[value[0]](value)
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no settings: {error!r}") from None


def _all(values: Any) -> list[Any]:
    return [encode(one) for one in values]


def _pairs(mapping: Any) -> list[Any]:
    return [encode(part) for pair in mapping.items() for part in pair]


def _mapping(values: list[Any]) -> dict[Any, Any]:
    decoded = iter([decode(one) for one in values])
    return dict(zip(decoded, decoded, strict=True))


def _settings(one: Settings) -> list[Any]:
    parts = (one.values, one.places, one.written)
    return ["settings", one.section_type, one.name, *one.place, *(_pairs(part) for part in parts)]


def _read_settings(value: list[Any]) -> Settings:
    _tag, section_type, name, file, line, *parts = value
    values, places, written = (_mapping(part) for part in parts)
    return Settings(section_type, name, Place(file, line), values, places, written)


_ENCODERS: dict[type, Callable[[Any], list[Any]]] = {
    list: lambda value: ["list", *_all(value)],
    tuple: lambda value: ["tuple", *_all(value)],
    frozenset: lambda value: ["set", *_all(sorted(value))],
    dict: lambda value: ["dict", *_pairs(value)],
    bytes: lambda value: ["bytes", value.decode("latin-1")],
    Address: lambda value: ["address", *value],
    Place: lambda value: ["place", *value],
    Settings: _settings,
}

_DECODERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": lambda value: [decode(one) for one in value[1:]],
    "tuple": lambda value: tuple([decode(one) for one in value[1:]]),
    "set": lambda value: frozenset([decode(one) for one in value[1:]]),
    "dict": lambda value: _mapping(value[1:]),
    "bytes": lambda value: value[1].encode("latin-1"),
    "address": lambda value: Address(*value[1:]),
    "place": lambda value: Place(*value[1:]),
    "settings": _read_settings,
}
