"""What zone files say: the names that a server has authority for, and what it answers for them.

RFC 1034, 4.3.2 is the algorithm; beside it wildcards (RFC 4592), the SOA of negative answers (RFC 2308), and a short
answer for ANY (RFC 8482). Zone files are dnspython's, who knows every type of record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

__all__ = ["Zones", "read_zone", "transfer"]

# A chain of aliases that is longer is a mistake; BIND has 16.
_LONGEST_CHAIN = 16
_NS, _SOA = dns.rdatatype.NS, dns.rdatatype.SOA
_CNAME, _DNAME = dns.rdatatype.CNAME, dns.rdatatype.DNAME
_ADDRESSES = (dns.rdatatype.A, dns.rdatatype.AAAA)


def read_zone(origin: str, path: str) -> Any:
    """Reads a zone file; $INCLUDE is followed.

    Args:
        origin: The name of the zone, with a dot at its end.
        path: The file.

    Raises:
        OSError: It cannot be read.
        ValueError: What is wrong with it.
    """
    try:
        return dns.zone.from_file(path, origin=origin, relativize=False, allow_include=True)
    except OSError:
        raise
    except Exception as error:  # dnspython has a dozen classes for it
        raise ValueError(f"{type(error).__name__}: {error}".removesuffix(": ")) from None


class Zones:
    """The zones of a server.

    Args:
        zones: dnspython's.
    """

    def __init__(self, zones: Iterable[Any]) -> None:
        self._zones = {one.origin: one for one in zones}
        self._between = {one.origin: _names_between(one) for one in self._zones.values()}

    def __len__(self) -> int:
        return len(self._zones)

    def of(self, name: Any) -> Any:
        """The zone that a name lies in, the closest; None without one."""
        while True:
            found = self._zones.get(name)
            if found is not None or name == dns.name.root:
                return found
            name = name.parent()

    def exactly(self, name: Any) -> Any:
        """The zone of that name; None without one."""
        return self._zones.get(name)

    def answer(self, response: Any, name: Any, kind: int) -> None:
        """Answers from the zones.

        Args:
            response: The response, in which the rest is filled in: dns.message.Message.
            name: What is asked for; it lies in one of the zones.
            kind: The type that is asked for.
        """
        response.flags |= dns.flags.AA
        passed = set()
        for _ in range(_LONGEST_CHAIN):
            zone = self.of(name)
            if zone is None or name in passed:
                return  # the alias leads to somebody else's, or in a circle
            passed.add(name)
            following = self._step(response, zone, name, kind)
            if following is None:
                return
            name = following

    def _step(self, response: Any, zone: Any, name: Any, kind: int) -> Any:
        """Answers for one name; returns where an alias leads."""
        cut = _delegation(zone, name, kind)
        if cut is not None:
            _refer(response, zone, *cut)
            return None
        moved = _moved(response, zone, name)
        if moved is not None or response.rcode() == dns.rcode.YXDOMAIN:
            return moved
        between = self._between[zone.origin]
        node, shown = zone.get_node(name), name
        if node is None:
            if name in between:
                # It has no records, but stands between others: an empty non-terminal.
                _negative(response, zone, dns.rcode.NOERROR)
                return None
            node = _wildcard(zone, name, between)
            if node is None:
                # What an alias of ours leads to does not exist: RFC 6604.
                _negative(response, zone, dns.rcode.NXDOMAIN)
                return None
        found = _wanted(node, kind)
        alias = node.get_rdataset(zone.rdclass, _CNAME)
        if found:
            for one in found:
                response.answer.append(_rrset(shown, one))
                _add_addresses(response, zone, one)
            return None
        if alias is not None:
            response.answer.append(_rrset(shown, alias))
            return alias[0].target
        _negative(response, zone, dns.rcode.NOERROR)
        return None


def transfer(zone: Any) -> Iterator[Any]:
    """The record sets of a zone as AXFR has them, its SOA first and last: RFC 5936."""
    soa = _rrset(zone.origin, zone.find_rdataset(zone.origin, _SOA))
    yield soa
    for name, rdataset in zone.iterate_rdatasets():
        if rdataset.rdtype != _SOA:
            yield _rrset(name, rdataset)
    yield soa


def _rrset(name: Any, rdataset: Any) -> Any:
    return dns.rrset.from_rdata_list(name, rdataset.ttl, rdataset)


def _wanted(node: Any, kind: int) -> list[Any]:
    if kind == dns.rdatatype.ANY:
        # RFC 8482, 4.1: one of them is an answer.
        return list(node.rdatasets)[:1]
    return [one for one in node.rdatasets if one.rdtype == kind and one.covers == dns.rdatatype.NONE]


def _delegation(zone: Any, name: Any, kind: int) -> tuple[Any, Any] | None:
    """The topmost cut between the origin and a name: its name and its NS. The DS of a cut is the parent's."""
    depth = len(zone.origin)
    for length in range(depth + 1, len(name) + 1):
        above = name.split(length)[1]
        if kind == dns.rdatatype.DS and above == name:
            return None
        servers = zone.get_rdataset(above, _NS)
        if servers is not None:
            return above, servers
    return None


def _refer(response: Any, zone: Any, cut: Any, servers: Any) -> None:
    if not response.answer:
        response.flags &= ~dns.flags.AA
    response.authority.append(_rrset(cut, servers))
    _add_addresses(response, zone, servers)


def _add_addresses(response: Any, zone: Any, rdataset: Any) -> None:
    """The addresses of who is named, as far as the zone has them."""
    for one in rdataset:
        target = getattr(one, "target", None) or getattr(one, "exchange", None)
        if target is None or rdataset.rdtype == _CNAME or not target.is_subdomain(zone.origin):
            continue
        for kind in _ADDRESSES:
            found = zone.get_rdataset(target, kind)
            if found is not None:
                added = _rrset(target, found)
                if added not in response.additional:
                    response.additional.append(added)


def _names_between(zone: Any) -> frozenset[Any]:
    """The names that others of a zone lie below."""
    between = set()
    for one in zone:
        while len(one) > len(zone.origin):
            one = one.parent()
            between.add(one)
    return frozenset(between)


def _moved(response: Any, zone: Any, name: Any) -> Any:
    """Where a DNAME above a name leads: RFC 6672."""
    for length in range(len(zone.origin), len(name)):
        above = name.split(length)[1]
        found = zone.get_rdataset(above, _DNAME)
        if found is None:
            continue
        response.answer.append(_rrset(above, found))
        try:
            target = name.relativize(above).derelativize(found[0].target)
        except dns.name.NameTooLong:
            response.set_rcode(dns.rcode.YXDOMAIN)
            return None
        response.answer.append(dns.rrset.from_text(name, found.ttl, "IN", "CNAME", target.to_text()))
        return target
    return None


def _wildcard(zone: Any, name: Any, between: frozenset[Any]) -> Any:
    """The wildcard that stands for a name: that of the closest name that exists, no other (RFC 4592, 3.3.1)."""
    closest = name
    while closest != zone.origin:
        closest = closest.parent()
        if closest in between or zone.get_node(closest) is not None:
            break
    return zone.get_node(dns.name.Name([b"*", *closest.labels]))


def _negative(response: Any, zone: Any, rcode: int) -> None:
    response.set_rcode(rcode)
    soa = zone.find_rdataset(zone.origin, _SOA)
    shown = _rrset(zone.origin, soa)
    # RFC 2308, 3: how long nothing may be remembered.
    shown.ttl = min(soa.ttl, soa[0].minimum)
    response.authority.append(shown)
