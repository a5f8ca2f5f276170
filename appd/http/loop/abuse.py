"""What a client of HTTP/2 may do that costs it nothing and us something: so much at once, and so much a second.

Resets of streams that were just begun (CVE-2023-44487), PING and SETTINGS, which want an answer (CVE-2019-9512 and
-9515), empty frames (-9518), windows opened by a few bytes (-9511), streams that the client has us reset
(CVE-2025-8671). `appd.http.h2` itself guards against CONTINUATION without an end (CVE-2024-27316), field lists that
grow when they are decoded (CVE-2016-6581), windows beyond 2^31-1.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Bucket", "Budget"]


class Budget(NamedTuple):
    """How much is allowed.

    Attributes:
        burst: At once.
        rate: A second, afterwards.
    """

    burst: int
    rate: float


class Bucket:
    """Counts one kind of thing.

    Args:
        budget: How much is allowed.
        now: The time, in seconds.
    """

    __slots__ = ("_budget", "_left", "_when")

    def __init__(self, budget: Budget, now: float) -> None:
        self._budget = budget
        self._left = float(budget.burst)
        self._when = now

    def take(self, now: float) -> bool:
        """Notes one.

        Returns:
            Whether it is within the budget.
        """
        burst, rate = self._budget
        self._left = min(float(burst), self._left + (now - self._when) * rate) - 1.0
        self._when = now
        return self._left >= 0.0
