"""What a class implements, said without importing zope.interface.

`zope.interface.implementer` would do, but the library costs a start more than what serves the first request, and nobody
asks our own server types before that. So the declaration is made when somebody asks: `providedBy` and all that builds
on it read `__providedBy__` first.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _Class = TypeVar("_Class", bound=type)

__all__ = ["implements"]


class _Later:
    """In place of `__providedBy__` until it is read for the first time."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __set_name__(self, owner: type, _name: str) -> None:
        self._owner = owner

    def __get__(self, instance: object, owner: type) -> Any:
        from zope.interface import classImplements

        from appd import interfaces

        if self._owner.__dict__.get("__providedBy__") is self:
            del self._owner.__providedBy__
            declare: Any = classImplements  # mypy's plugin wants to know the class
            declare(self._owner, getattr(interfaces, self._name))
        return (owner if instance is None else instance).__providedBy__  # type: ignore[attr-defined]  # it is now


def implements(name: str) -> Callable[[_Class], _Class]:
    """Declares a class to implement an interface.

    Args:
        name: That of the interface in `appd.interfaces`.
    """

    def declare(class_: _Class) -> _Class:
        later = _Later(name)
        later.__set_name__(class_, "")
        class_.__providedBy__ = later  # type: ignore[attr-defined]  # zope.interface's
        return class_

    return declare
