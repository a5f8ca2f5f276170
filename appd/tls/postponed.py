"""Twisted's reactor without OpenSSL, until somebody wants it.

Importing the reactor imports pyOpenSSL and cryptography, time and memory that a server without TLS has no use for.
Their place is taken by modules that import the real ones when something is asked of them, so that hosted code that
makes connections with TLS of its own, or has a transport start it, gets what it always got.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["postpone_openssl"]

_POSTPONED = ("twisted.protocols.tls", "twisted.internet.ssl")


class _Later(ModuleType):
    """A module that is imported when something is asked of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            # Still being put in place: `from … import name`, of a name that is called later.
            return partial(_call, self.__name__, name)
        return getattr(import_module(self.__name__), name)


def _call(module: str, name: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(import_module(module), name)(*args, **kwargs)


def postpone_openssl() -> bool:
    """Imports what the reactor is made of, and leaves OpenSSL out of it.

    Returns:
        Whether it could: it is too late once something has imported them.
    """
    if any(name in sys.modules for name in (*_POSTPONED, "twisted.internet.tcp", "twisted.internet.posixbase")):
        return False
    for name in _POSTPONED:
        sys.modules[name] = _Later(name)
    try:
        import_module("twisted.internet.tcp")
        import_module("twisted.internet.posixbase")
    finally:
        for name in _POSTPONED:
            if isinstance(sys.modules.get(name), _Later):
                del sys.modules[name]
    return True
