"""Credentials that were verified a moment ago, so that a hash that is made to be slow is not reckoned at each request.

What is kept is a keyed hash (BLAKE2b, a key of this process that is nowhere else): it can be compared and tells nothing
of the password, not even whether two users have the same.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Remembered"]

# nginx and Apache have such caches of minutes; a browser asks for a page and all that is on it within seconds.
_SPAN = 60.0
_MOST = 10_000


class Remembered:
    """Any thread may ask: each operation is one of a dict.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = os.urandom(32)
        self._kept: OrderedDict[bytes, tuple[str, float, object]] = OrderedDict()

    def _digest(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    def find(self, text: bytes, version: object) -> str | None:
        """Who it was that showed these credentials lately.

        Args:
            text: The credentials.
            version: What they were verified against; another one than at `keep` finds nothing.
        """
        found = self._kept.get(self._digest(text))
        if found is None:
            return None
        user, ends, was = found
        return user if was == version and self._clock() < ends else None

    def keep(self, text: bytes, version: object, user: str) -> None:
        """Notes credentials that were verified.

        Args:
            text: The credentials.
            version: What they were verified against.
            user: Whose they are.
        """
        self._kept[self._digest(text)] = (user, self._clock() + _SPAN, version)
        try:
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        except KeyError:  # another thread has emptied it meanwhile
            return
