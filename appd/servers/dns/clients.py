"""Who asks: whom a server trusts, and how often it answers whom over UDP. No sockets."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

__all__ = ["Networks", "Rates"]

# Whose rates are kept at one time; beyond that the oldest second is forgotten first.
_MOST_NETWORKS = 100_000


class Networks:
    """Networks of clients.

    Args:
        texts: Networks, and `unix`.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._unix = "unix" in texts
        self._networks = [ipaddress.ip_network(one) for one in texts if one != "unix"]
        self._known: dict[str, bool] = {}

    def holds(self, host: str) -> bool:
        """Whether a client is in one of them; "" is the client of a UNIX socket."""
        if not host:
            return self._unix
        found = self._known.get(host)
        if found is None:
            if len(self._known) >= _MOST_NETWORKS:
                self._known.clear()
            address = _plain(host)
            found = self._known[host] = any(address in one for one in self._networks)
        return found


class Rates:
    """How many responses each network got in this second: what BIND and others call response rate limiting.

    Args:
        most: Responses a second; 0 is no limit.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = 0
        self._counts: dict[object, int] = {}

    def verdict(self, host: str, now: float) -> str:
        """What becomes of one more response.

        Args:
            host: Whom it is for.
            now: Seconds that only ever grow.

        Returns:
            `send`; `cut`, which a true client answers by TCP, and who was only named as the sender is not hurt by; or
            `drop`.
        """
        if not self._most or not host:
            return "send"
        second = int(now)
        if second != self._second or len(self._counts) >= _MOST_NETWORKS:
            self._second = second
            self._counts.clear()
        address = _plain(host)
        # RFC 6177 gives a site a /56 at most.
        key = (address.version, int(address) >> (8 if address.version == 4 else 72))
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if count <= self._most:
            return "send"
        return "cut" if (count - self._most) % 2 else "drop"


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
