"""Failed logins, counted by peer, and how long that peer waits for its next attempt.

The first failure of a peer costs it a second, each further one twice as long, up to half a minute: OpenSSH's
PerSourcePenalties and PAM's faildelay are of that order. Attempts of one peer stand in a queue of their own: a second
connection is no way around it. A login that succeeds takes nothing back, or somebody with an account could guess
those of others between logins of his own. After ten minutes without a failure all is forgotten.

The workers of a supervisor count together: see `ledger`.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

from appd.auth.ledger import InMemory, Ledger, Record

__all__ = ["Failures", "peer_key"]

_LONGEST = 30.0
_FORGOTTEN = 600.0
# Peers that are remembered; the ones without a failure for the longest time go first.
_MOST_PEERS = 20_000
# What waits longer than that is refused without a look.
_PATIENCE = 60.0


def peer_key(host: str) -> str:
    """What stands for a peer: its IPv4 address, the /64 of its IPv6 address, whatever else it is called.

    A home or a virtual machine has a /64 to itself and as many addresses as it likes.

    Args:
        host: The address; "" for a peer without one.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host or "unix"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Failures:
    """Counts; any thread may ask.

    Args:
        delay: What the first failure costs, in seconds.
        clock: Seconds, monotonic.
        ledger: Where the count is kept; without it in this process.
    """

    def __init__(
        self, delay: float = 1.0, clock: Callable[[], float] = time.monotonic, ledger: Ledger | None = None
    ) -> None:
        self._delay = delay
        self._clock = clock
        self._ledger = ledger if ledger is not None else InMemory(_MOST_PEERS)

    def wait(self, peer: str) -> float:
        """How long until an attempt of this peer would be looked at, in seconds.

        Args:
            peer: As `peer_key` gives it.
        """
        with self._ledger.held():
            found = self._known(peer)
            return max(0.0, found.free_at - self._clock()) if found is not None else 0.0

    def enter(self, peer: str) -> float | None:
        """Takes the next place in the queue of a peer.

        Args:
            peer: As `peer_key` gives it.

        Returns:
            How long the attempt waits, in seconds; None when so many wait that it is refused.
        """
        with self._ledger.held():
            found = self._known(peer)
            if found is None:
                return 0.0
            now = self._clock()
            waits = max(0.0, found.free_at - now)
            if waits > _PATIENCE:
                return None
            self._ledger.put(peer, found._replace(free_at=now + waits + self._cost(found.failed)))
            return waits

    def failed(self, peer: str) -> tuple[int, float]:
        """Notes a failure.

        Args:
            peer: As `peer_key` gives it.

        Returns:
            How many there have been of late, and how long the answer waits, in seconds.
        """
        with self._ledger.held():
            found = self._known(peer) or Record(0, 0.0, 0.0)
            now = self._clock()
            count = found.failed + 1
            cost = self._cost(count)
            self._ledger.put(peer, Record(count, now, max(found.free_at, now + cost)))
            return count, cost

    def _cost(self, count: int) -> float:
        return min(self._delay * 2 ** min(count - 1, 16), _LONGEST) if count else 0.0

    def _known(self, peer: str) -> Record | None:
        found = self._ledger.get(peer)
        if found is not None and self._clock() - found.last > _FORGOTTEN:
            self._ledger.drop(peer)
            return None
        return found
