"""What proxies say of a client in header fields: X-Forwarded-For, -Proto, -Host and -Port, and Forwarded (RFC 7239).

Anybody can write these fields, so that they count only when the peer is trusted, and only as far as trust goes: a list
of hops is read from the right, where the nearest proxy wrote, and the first hop that is not trusted is the client
(as nginx' `real_ip_recursive` and Apache's mod_remoteip do). What stands left of it is the client's own tale.

* An entry that is no address (`unknown`, `_hidden`) ends the walk: the last hop that is known counts. It was written by
  a trusted proxy, which did not know better.
* A `Forwarded` that does not parse is refused: the client can break it for the proxies behind, and ignoring it would
  give the request the address of the proxy, which applications may trust.
* Where both kinds are there and say different things, one of them is the client's own, and nobody can tell which: most
  proxies write one kind and pass the other on. Refused, for the same reason. A proxy should remove the other kind.
* Of lists of schemes and hosts the entry of the client's hop counts where there are as many as hops, else the last one:
  some proxies append, others replace. What is no scheme or host is as if it were not there.
"""

from __future__ import annotations

from appd.http.core.errors import Refused
from appd.http.core.target import host_name
from appd.startup.patterns import pattern
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

__all__ = ["Claims", "Trusted", "read_claims"]

_ADDRESSES = "x-forwarded-for"
_NAMES = frozenset({_ADDRESSES, "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded"})
# 192.0.2.1, 192.0.2.1:80, [2001:db8::1], [2001:db8::1]:80, 2001:db8::1
_HOP = pattern(r"(?ia)(?:([0-9.]+)|\[([0-9a-f:.]+)\])(?::([0-9]{1,5}))?|([0-9a-f:.]+)")
# RFC 7239, 4: pairs, ";" between them, "," between hops.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = pattern(rf'({_TOKEN})=(?:({_TOKEN})|"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*)")')
_SPACE = pattern(r"[\t ]*+")
_QUOTED_PAIR = pattern(r"\\(.)")
# Networks are few, but peers may be many: what was found is kept up to here.
_MOST = 1024


class Claims(NamedTuple):
    """What trusted proxies say of a request; None where they say nothing.

    Attributes:
        host: The address of the client.
        port: Its port, 0 when that is not said.
        scheme: `http` or `https`.
        authority: Host and port that the client asked for, as Host has it.
    """

    host: str | None
    port: int
    scheme: str | None
    authority: str | None


class Trusted:
    """Whom to believe.

    Args:
        networks: Networks (`10.0.0.0/8`, `::1`), and `unix` for whoever comes by a UNIX socket.

    Raises:
        ValueError: One is none.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._unix = "unix" in networks
        self._networks = [_network(one) for one in networks if one != "unix"]
        self._known: dict[str, bool] = {"": self._unix}

    def __bool__(self) -> bool:
        """Whether anybody is."""
        return self._unix or bool(self._networks)

    def holds(self, host: str) -> bool:
        """Whether a peer is believed.

        Args:
            host: Its address; "" for a UNIX socket.
        """
        known = self._known.get(host)
        if known is None:
            address = _address(host)
            known = address is not None and any(address in one for one in self._networks)
            if len(self._known) >= _MOST:
                self._known = {"": self._unix}
            self._known[host] = known
        return known


def _network(text: str) -> IPv4Network | IPv6Network:
    # Imported here: a server without proxies starts sooner without it.
    from ipaddress import ip_network

    return ip_network(text)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address; an IPv4 one in IPv6's clothes as what it is."""
    from ipaddress import IPv6Address, ip_address

    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def read_claims(named: Mapping[str, str], peer: str, trusted: Trusted) -> Claims | None:
    """Reads what proxies say.

    Args:
        named: The header fields by name, those of one name joined in their order.
        peer: The address of the peer, as the socket or the PROXY protocol has it; "" for a UNIX socket.
        trusted: Whom to believe.

    Returns:
        What they say; None when there is nothing, or nobody who may say it.

    Raises:
        Refused: It cannot be told what they say.
    """
    if _NAMES.isdisjoint(named) or not trusted.holds(peer):
        return None
    hops = named.get("forwarded")
    standard = None if hops is None else _of_forwarded(_parse(hops), trusted)
    customary = None if _NAMES.isdisjoint(named.keys() - {"forwarded"}) else _of_customary(named, trusted)
    if standard is None or customary is None:
        return standard or customary
    merged = []
    for one, other in zip(standard, customary, strict=True):
        if one and other and one != other:
            raise Refused(400, "Forwarded and X-Forwarded-* say different things: the proxy must remove one kind")
        merged.append(one or other)
    return Claims(*merged)  # type: ignore[arg-type]


def _of_customary(named: Mapping[str, str], trusted: Trusted) -> Claims:
    hops = _list(named.get(_ADDRESSES))
    host, port, at = _walk(hops, trusted)
    scheme = _scheme(_pick(_list(named.get("x-forwarded-proto")), at, len(hops)))
    authority = _pick(_list(named.get("x-forwarded-host")), at, len(hops))
    if authority is not None:
        authority = _authority(authority, _pick(_list(named.get("x-forwarded-port")), at, len(hops)), scheme)
    return Claims(host, port, scheme, authority)


def _of_forwarded(hops: list[dict[str, str]], trusted: Trusted) -> Claims:
    host, port, at = _walk([one.get("for", "") for one in hops], trusted)
    hop = hops[at] if hops else {}
    authority = hop.get("host")
    return Claims(
        host, port, _scheme(hop.get("proto")), None if authority is None else _authority(authority, None, None)
    )


def _list(text: str | None) -> list[str]:
    return [] if not text else [one.strip("\t ") for one in text.split(",")]


def _walk(hops: list[str], trusted: Trusted) -> tuple[str | None, int, int]:
    """The client's address, its port, and its place: the rightmost that is not trusted, else the leftmost."""
    host, port, at = None, 0, len(hops) - 1
    for place in range(len(hops) - 1, -1, -1):
        match = _HOP.fullmatch(hops[place])
        address = None if match is None else _address(match[1] or match[2] or match[4])
        if match is None or address is None:
            break
        host, port, at = str(address), int(match[3] or 0), place
        if port > 65535 or not trusted.holds(host):
            break
    return host, port if port <= 65535 else 0, at


def _pick(values: list[str], at: int, hops: int) -> str | None:
    if not values:
        return None
    return values[at] if len(values) == hops else values[-1]


def _scheme(text: str | None) -> str | None:
    # Proxies write ws and wss for WebSockets, which begin as http and https.
    return {"http": "http", "https": "https", "ws": "http", "wss": "https"}.get((text or "").lower())


def _authority(text: str, port: str | None, scheme: str | None) -> str | None:
    try:
        if not host_name(text):
            return None
    except ValueError:
        return None
    has_port = text.rpartition(":")[2].isdecimal()
    if has_port or port is None or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        return text
    return text if port == {"http": "80", "https": "443"}.get(scheme or "") else f"{text}:{port}"


def _parse(text: str) -> list[dict[str, str]]:
    """Takes a Forwarded field apart.

    Raises:
        Refused: It is none.
    """
    hops: list[dict[str, str]] = [{}]
    at = _space(text, 0)
    while at < len(text):
        if text[at] == ",":
            hops.append({})
        elif text[at] != ";":
            match = _PAIR.match(text, at)
            if match is None or match[1].lower() in hops[-1]:
                break
            hops[-1][match[1].lower()] = match[2] or _QUOTED_PAIR.sub(r"\1", match[3])
            at = _space(text, match.end())
            if at < len(text) and text[at] not in ",;":
                break
            continue
        at = _space(text, at + 1)
    else:
        # RFC 9110, 5.6.1: empty elements of a list are none.
        return [one for one in hops if one]
    raise Refused(400, "a Forwarded field that is none")


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
