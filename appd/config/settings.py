"""Plain data that knows where each value was written.

A later stage that finds a value wrong (a missing folder, a module that does not import) must name the line, so every
record keeps the places of its keys. Nothing in a record refers to ZConfig, so that it can be cached, compared and
printed.
"""

from __future__ import annotations

from appd.errors import Place, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Settings"]


class Settings:
    """One section of the file, or the file as a whole.

    The values are attributes, with `-` in a key as `_`: `settings.drain_timeout`.

    Attributes:
        section_type: The name of the section type, as the schema has it; "" for the file.
        name: The name of the section, None without one.
        place: Where the section starts.
        values: Attribute → value: text, numbers, addresses, records and lists of these.
        places: Attribute → where each of its values was written, in order; nothing for a default.
        written: Attribute → the text of each of its values, in order; nothing for a default.
    """

    __slots__ = ("name", "place", "places", "section_type", "values", "written")

    def __init__(
        self,
        section_type: str,
        name: str | None,
        place: Place,
        values: Mapping[str, Any],
        places: Mapping[str, tuple[Place, ...]],
        written: Mapping[str, tuple[str, ...]],
    ) -> None:
        self.section_type = section_type
        self.name = name
        self.place = place
        self.values = values
        self.places = places
        self.written = written

    def __getattr__(self, attribute: str) -> Any:
        try:
            return self.values[attribute]
        except KeyError:
            raise AttributeError(f"<{self.section_type or 'file'}> has no {attribute!r}") from None

    def __repr__(self) -> str:
        return f"<Settings {self.section_type or 'file'} {self.name or ''} {dict(self.values)!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return (self.section_type, self.name, self.values) == (other.section_type, other.name, other.values)

    __hash__ = None  # type: ignore[assignment]  # equal by value, and the values are mappings and lists

    def where(self, attribute: str = "", number: int = 0) -> Place:
        """Where a value was written; where the section starts when it is a default.

        Args:
            attribute: The attribute; "" is the section itself.
            number: Which of its values.
        """
        places = self.places.get(attribute, ())
        return places[number] if number < len(places) else self.place

    def problem(self, message: str, attribute: str = "", number: int = 0, traceback: str = "") -> Problem:
        """A problem at the line of a value; arguments as for `where`."""
        return Problem(message, self.where(attribute, number), traceback)
