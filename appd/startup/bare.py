"""What the library has in C, without what it adds in Python.

`socket` and `signal` make enumerations of their constants; `threading`, `contextlib`, `functools` and `collections`
import each other, `operator`, `reprlib` and more, and compile named tuples. All of that takes a start 6 ms, so what
runs before the first answer takes from here what it needs of them. A socket made of these has no `accept`, `makefile`,
`dup` or `with`, its family and type are numbers; whoever hands one to a library makes a whole one of its descriptor.
Whoever needs more of `threading` imports it when the first answer is out.
"""

from __future__ import annotations

__all__ = [
    "Callable", "Lock", "Mapping", "OrderedDict", "RLock", "Sequence", "deque", "partial", "signal", "socket",
    "suppress",
]  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
    from collections import OrderedDict, deque
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import suppress
    from functools import partial
    from threading import Lock, RLock
else:
    import _signal as signal
    import _socket as socket
    from _collections import OrderedDict, deque
    from _collections_abc import Callable, Mapping, Sequence
    from _functools import partial
    from _thread import RLock
    from _thread import allocate_lock as Lock

    class suppress:  # called as in contextlib
        """See `contextlib.suppress`."""

        __slots__ = ("_errors",)

        def __init__(self, *errors):
            self._errors = errors

        def __enter__(self):
            pass

        def __exit__(self, kind, _error, _traceback):
            return kind is not None and issubclass(kind, self._errors)
