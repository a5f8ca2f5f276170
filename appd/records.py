"""Named tuples that are made quickly.

`typing.NamedTuple` compiles and checks the annotation of every field, each time that a module is imported. A start
makes some forty of them before it answers, and nobody asks for what was checked. Type checkers see that of `typing`.
"""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING

__all__ = ["NamedTuple"]

if TYPE_CHECKING:
    from typing import NamedTuple
else:
    # What a class statement sets, and namedtuple has its own of.
    _OWN = frozenset({"__annotations__", "__module__", "__qualname__", "__dict__", "__weakref__"})

    class _Maker(type):
        def __new__(cls, name, bases, members):
            if not bases:
                return super().__new__(cls, name, bases, members)
            fields = members.get("__annotations__", {})
            defaults = [members[one] for one in fields if one in members]
            made = namedtuple(name, fields, defaults=defaults, module=members["__module__"])
            made.__annotations__ = made.__new__.__annotations__ = fields
            for key, value in members.items():
                if key not in fields and key not in _OWN:
                    setattr(made, key, value)
            made.__qualname__ = members["__qualname__"]
            return made

    class NamedTuple(metaclass=_Maker):
        """See `typing.NamedTuple`; fields without a default do not follow those that have one."""
