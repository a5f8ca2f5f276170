"""Named tuples that are made quickly.

`typing.NamedTuple` imports typing, re and enum, compiles and checks the annotation of every field, and `namedtuple`
compiles a method for each class, each time that a module is imported. A start makes some forty of them before it
answers, and nobody asks for what was checked. These share what can be shared: of the constructor, which is as quick as
any, a class has its own in that its arguments are called as the fields are. Type checkers see `typing.NamedTuple`.
"""

from __future__ import annotations

__all__ = ["NamedTuple"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from _collections import _tuplegetter

    _new = tuple.__new__
    # Number of fields → a constructor for so many. To compile one takes ten times as long as to make a class with it.
    _constructors = dict(enumerate((
        lambda _cls, a: _new(_cls, (a,)),
        lambda _cls, a, b: _new(_cls, (a, b)),
        lambda _cls, a, b, c: _new(_cls, (a, b, c)),
        lambda _cls, a, b, c, d: _new(_cls, (a, b, c, d)),
        lambda _cls, a, b, c, d, e: _new(_cls, (a, b, c, d, e)),
        lambda _cls, a, b, c, d, e, f: _new(_cls, (a, b, c, d, e, f)),
        lambda _cls, a, b, c, d, e, f, g: _new(_cls, (a, b, c, d, e, f, g)),
        lambda _cls, a, b, c, d, e, f, g, h: _new(_cls, (a, b, c, d, e, f, g, h)),
        lambda _cls, a, b, c, d, e, f, g, h, i: _new(_cls, (a, b, c, d, e, f, g, h, i)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j: _new(_cls, (a, b, c, d, e, f, g, h, i, j)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k: _new(_cls, (a, b, c, d, e, f, g, h, i, j, k)),
    ), 1))  # fmt: skip
    _constructors[16] = (
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q:
            _new(_cls, (a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q))
    )  # fmt: skip

    def _constructor(count):
        if count not in _constructors:
            names = ", ".join(f"_{number}" for number in range(count))
            _constructors[count] = eval(f"lambda _cls, {names}: _new(_cls, ({names},))", globals())
        return _constructors[count]

    _FunctionType = type(_constructor)

    class _Record(tuple):
        __slots__ = ()

        @classmethod
        def _make(cls, values):
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"{cls.__name__} has {len(cls._fields)} fields, not {len(made)}")
            return made

        def _replace(self, /, **changed):
            made = self._make(map(changed.pop, self._fields, self))
            if changed:
                raise ValueError(f"{type(self).__name__} has no {', '.join(changed)}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            values = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({values})"

        def __getnewargs__(self):
            return tuple(self)

    class _Maker(type):
        def __new__(cls, name, bases, members):
            if not bases:
                return super().__new__(cls, name, bases, members)
            fields = tuple(members.get("__annotations__", ()))
            defaults = {one: members[one] for one in fields if one in members}
            model = _constructor(len(fields))
            code = model.__code__.replace(co_name="__new__", co_varnames=("_cls", *fields))
            new = _FunctionType(code, model.__globals__, "__new__", tuple(defaults.values()))
            new.__qualname__ = f"{members['__qualname__']}.__new__"
            new.__annotations__ = members.get("__annotations__", {})
            getters = {one: _tuplegetter(number, None) for number, one in enumerate(fields)}
            own = {"__slots__": (), "__new__": new, "__match_args__": fields, "_fields": fields}
            return type(name, (_Record,), {**members, **getters, **own, "_field_defaults": defaults})

    class NamedTuple(metaclass=_Maker):
        """See `typing.NamedTuple`; fields without a default do not follow those that have one."""
