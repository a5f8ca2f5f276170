"""Which entries are wanted: a level for the process and levels for namespaces."""

from __future__ import annotations

from appd.journal.entry import CRITICAL, DEBUG, ERROR, INFO, WARNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRIORITIES", "Levels", "priority_of"]

PRIORITIES: Mapping[str, int] = {
    "debug": DEBUG,
    "info": INFO,
    "warn": WARNING,
    "warning": WARNING,
    "error": ERROR,
    "critical": CRITICAL,
}

# Namespaces are module names, so there are few; this only keeps a program that invents them from growing the process.
_REMEMBERED = 1024


def priority_of(level: str) -> int:
    """Translate the name of a level.

    Args:
        level: A key of `PRIORITIES`, in any case.

    Returns:
        The priority.

    Raises:
        ValueError: It is not a level; the text says which there are.
    """
    try:
        return PRIORITIES[level.lower()]
    except KeyError:
        raise ValueError(f"{level!r} is not a log level; use one of {', '.join(PRIORITIES)}") from None


class Levels:
    """A level filter. It is never changed, only replaced, so any thread may ask it."""

    __slots__ = ("_answers", "_thresholds", "default")

    def __init__(self, level: str = "info", levels: Mapping[str, str] | None = None) -> None:
        """Make a filter.

        Args:
            level: Level of every namespace without its own.
            levels: Namespace to level; it also holds for what lies below: ``shop`` for ``shop.cart``.

        Raises:
            ValueError: A level is unknown.
        """
        self.default = priority_of(level)
        self._thresholds = {namespace: priority_of(name) for namespace, name in (levels or {}).items()}
        self._answers: dict[str, int] = {}

    @property
    def thresholds(self) -> Mapping[str, int]:
        """The least urgent priority that is wanted, for each namespace that was named."""
        return self._thresholds

    def enabled(self, namespace: str, priority: int) -> bool:
        """Say whether an entry is wanted.

        Args:
            namespace: Dotted name of where it comes from.
            priority: Its priority.

        Returns:
            Whether to log it.
        """
        threshold = self._answers.get(namespace)
        if threshold is None:
            threshold = self._find(namespace)
        return priority <= threshold

    def _find(self, namespace: str) -> int:
        """Look up the longest prefix of whole components, and remember the answer."""
        threshold, prefix = self.default, namespace
        while prefix:
            if prefix in self._thresholds:
                threshold = self._thresholds[prefix]
                break
            prefix = prefix.rpartition(".")[0]
        if len(self._answers) >= _REMEMBERED:
            self._answers.clear()
        self._answers[namespace] = threshold
        return threshold
