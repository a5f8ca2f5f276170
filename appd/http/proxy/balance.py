"""Which upstream is next: the one with the fewest requests open, of those that are not known to be down.

Health is passive: an upstream that cannot be reached, or does not answer in time, is passed over for a while (as nginx'
max_fails=1 and fail_timeout=10s). When all are down the one whose time ends first is tried all the same: an answer that
may come is worth more than a refusal that is certain.

An answer that is none (a status or a head that nobody can read) is counted apart. nginx passes an upstream over after
the first (invalid_header), HAProxy does not look at them unless told to. But such an answer may be due to one request,
and whoever can send that would have all upstreams passed over in turn: it takes some in a row, with no good one in
between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from appd.http.proxy.upstream import Upstream

__all__ = ["Balance", "Member"]

# Answers in a row that are none, before their upstream is passed over.
_MOST_GARBLED = 3


class Member:
    """One upstream and what is known of it.

    Attributes:
        upstream: Where it is.
        open: How many requests it has.
        served: How many it has had.
        failures: How many in a row it has failed.
        garbled: How many answers in a row were none.
        down_until: Until when it is passed over, on the clock of the balance.
    """

    __slots__ = ("down_until", "failures", "garbled", "open", "served", "upstream")

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.open = self.served = self.failures = self.garbled = 0
        self.down_until = 0.0


class Balance:
    """The upstreams of one mount, in one process.

    Args:
        upstreams: Where they are, in the order of the file.
        most_failures: After how many failures in a row one is passed over; 0 for never.
        pause: For how long, in seconds.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        most_failures: int = 1,
        pause: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members = [Member(one) for one in upstreams]
        self._most_failures = most_failures
        self._pause = pause
        self._clock = clock

    def choose(self, tried: Collection[Member] = ()) -> Member | None:
        """Finds an upstream for a request.

        Args:
            tried: Those that have failed it already.

        Returns:
            The member; None when every one has been tried.
        """
        left = [one for one in self.members if one not in tried]
        if not left:
            return None
        now = self._clock()
        # With equal loads they take turns: who has served less is next.
        return min(left, key=lambda one: (max(one.down_until - now, 0.0), one.open, one.served))

    def begin(self, member: Member) -> None:
        """A request is sent to an upstream."""
        member.open += 1
        member.served += 1

    def end(self, member: Member) -> None:
        """A request is done with, however it went."""
        member.open -= 1

    def succeeded(self, member: Member) -> None:
        """An upstream has answered."""
        member.failures = member.garbled = 0
        member.down_until = 0.0

    def failed(self, member: Member, *, garbled: bool = False) -> bool:
        """An upstream was not reached or did not answer.

        Args:
            member: The upstream.
            garbled: Whether it did answer, in a way that is none.

        Returns:
            Whether it is passed over from now on and was not before.
        """
        if garbled:
            member.garbled += 1
            count, most = member.garbled, max(self._most_failures, _MOST_GARBLED)
        else:
            member.failures += 1
            count, most = member.failures, self._most_failures
        now = self._clock()
        if not self._most_failures or count < most:
            return False
        was_down = member.down_until > now
        member.down_until = now + self._pause
        return not was_down
