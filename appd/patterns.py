"""Regular expressions that are compiled when they are used for the first time.

Compiling one takes longer than importing a module, and most of those on the way to a first answer are not asked there.
"""

from __future__ import annotations

__all__ = ["pattern"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import compile as pattern
else:

    class _Pattern:
        """Stands for what `re.compile` gives, and has its methods as its own from the first use on."""

        def __init__(self, text):
            self._text = text

        def __getattr__(self, name):
            import re

            found = getattr(re.compile(self._text), name)
            setattr(self, name, found)
            return found

    def pattern(text):
        """A regular expression.

        Args:
            text: The expression, with its flags in front: `(?a)`.
        """
        return _Pattern(text)
