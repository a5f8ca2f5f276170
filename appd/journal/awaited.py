"""Something that is done when a module is imported, by whomever."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["when_imported"]


def when_imported(name: str, then: Callable[[], object]) -> None:
    """Has something done right after a module is imported for the first time, before its importer goes on.

    Args:
        name: A module of the standard library that is not imported yet, without a dot.
        then: What is done, in the thread that imports.
    """
    sys.meta_path.insert(0, _Finder(name, then))


class _Finder:
    """Finds the one module, once, as it would be found without."""

    def __init__(self, name: str, then: Callable[[], object]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        """See importlib.abc.MetaPathFinder."""
        if name != self._name:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        # What importlib.machinery calls so; that brings more with it.
        from _frozen_importlib_external import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec, self._then)  # type: ignore[assignment]  # it has what is called of one
        return spec


class _Loader:
    """Executes a module as its own loader does, and then what is to be done."""

    def __init__(self, spec: ModuleSpec, then: Callable[[], object]) -> None:
        self._loader: Any = spec.loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See importlib.abc.Loader."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """See importlib.abc.Loader."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then()
