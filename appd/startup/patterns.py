"""Regular expressions, compiled once for all starts.

Compiling one takes longer than importing a module, and `re` with what it needs as long as twenty. So `pattern` gives
something that is compiled when it is used for the first time, most being for rarer things than a first answer; and what
was compiled by then is kept as the engine takes it, beside the code (`appd.startup.codecache`).
"""

from __future__ import annotations

__all__ = ["compiled", "keep", "known", "pattern", "used"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from re import compile as compiled
    from re import compile as pattern

    # What _sre.compile takes.
    Parts = tuple[str | bytes, int, list[int], int, dict[str, int], tuple[str | None, ...]]

known: dict[str | bytes, Parts] = {}
"""Expressions as the engine takes them, by their texts."""
used: set[str | bytes] = set()
"""The texts of those that were compiled."""

if not TYPE_CHECKING:

    def compiled(text):
        """What `re.compile` gives, for what every request needs; flags stand in the text: `(?a)`."""
        used.add(text)
        parts = known.get(text)
        if parts is not None:
            from _sre import compile
        else:
            from re import compile

            parts = (text,)
        return compile(*parts)

    class _Pattern:
        """Stands for what `re.compile` gives, and has its methods as its own from the first use on."""

        def __init__(self, text):
            self._text = text

        def __getattr__(self, name):
            found = getattr(compiled(self._text), name)
            setattr(self, name, found)
            return found

    def pattern(text):
        """What `re.compile` gives, compiled when it is used for the first time."""
        return _Pattern(text)


def keep(texts: Iterable[str | bytes]) -> dict[str | bytes, Parts]:
    """Takes expressions apart as the engine takes them; nothing on a Python that has that otherwise than 3.11.

    Args:
        texts: The expressions.
    """
    try:
        return {text: known.get(text) or _parts(text) for text in texts}
    except (ImportError, AttributeError, TypeError, ValueError):
        return {}


def _parts(text: str | bytes) -> Parts:
    # As the end of re._compiler.compile does.
    from re import _compiler, _parser  # type: ignore[attr-defined]  # typeshed has neither

    parsed = _parser.parse(text, 0)
    state = parsed.state
    names: list[str | None] = [None] * state.groups
    for name, number in state.groupdict.items():
        names[number] = name
    code = [int(one) for one in _compiler._code(parsed, 0)]
    return text, int(state.flags), code, state.groups - 1, dict(state.groupdict), tuple(names)
