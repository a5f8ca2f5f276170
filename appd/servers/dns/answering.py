"""A query → a response, or somebody else who has to be asked. No sockets.

Who may be told what: zones are everybody's; what others know is for trusted clients who ask for it (RD); a whole zone
is for those who may transfer it. All else is refused, so that nobody is used against others (BCP 140).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from appd.servers.dns.zones import Zones, transfer

__all__ = ["Answering", "Forward", "cut", "to_wire", "transfer_messages"]

# What a client without EDNS takes: RFC 1035, 4.2.1.
_SMALLEST = 512
_WHOLE = (dns.rdatatype.AXFR, dns.rdatatype.IXFR)
# How many responses from zones are kept as they are, and of what size in bytes at most.
_MOST_KNOWN = 10_000
_LONGEST_KNOWN = 4096
# The records of a message of a transfer, in bytes about.
_MOST_RECORDS = 200


class Forward(NamedTuple):
    """A question for somebody else.

    Attributes:
        query: The query, dns.message.Message.
        size: The largest response that the client takes, in bytes; 0 over streams.
    """

    query: Any
    size: int


class _OfZone(NamedTuple):
    """A response that depends on nothing but the query."""

    wire: bytes


class Answering:
    """What a server says.

    Args:
        zones: Its zones.
        response_size: The largest response over UDP, in bytes.
        forwards: Whether there is somebody to ask.
    """

    def __init__(self, zones: Zones, response_size: int, *, forwards: bool) -> None:
        self._zones = zones
        self._response_size = response_size
        self._forwards = forwards
        self._known: dict[object, bytes] = {}

    def answer(self, data: bytes, *, trusted: bool, transfers: bool, datagram: bool) -> Any:
        """Answers a query.

        Args:
            data: The query.
            trusted: Whether the client is forwarded for.
            transfers: Whether it may transfer zones.
            datagram: Whether it came over UDP.

        Returns:
            The response in bytes; an iterator of them, of a transfer; a `Forward`; None for what is not answered: a
            response, or no DNS at all.
        """
        if len(data) < 12 or data[2] & 0x80:
            return None
        # What a zone answers is the same until the next start: most clients ask in the same bytes, but for the number.
        key = (data[2:], trusted, datagram)
        known = self._known.get(key)
        if known is not None:
            return data[:2] + known
        found = self._find(data, trusted=trusted, transfers=transfers, datagram=datagram)
        if isinstance(found, _OfZone):
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            if len(found.wire) <= _LONGEST_KNOWN:
                self._known[key] = found.wire[2:]
            return found.wire
        return found

    def _find(self, data: bytes, *, trusted: bool, transfers: bool, datagram: bool) -> Any:
        if data[2] & 0x78:
            return _bare(data, dns.rcode.NOTIMP)  # an opcode other than QUERY, perhaps one that nobody knows
        try:
            query = dns.message.from_wire(data, ignore_trailing=True)
        except Exception:  # whatever dnspython raises for what is none
            return _bare(data, dns.rcode.FORMERR)
        response = dns.message.make_response(query, recursion_available=self._forwards and trusted)
        size = self._size(query) if datagram else 0
        if query.edns >= 0:
            response.use_edns(0, query.ednsflags & dns.flags.DO, self._response_size)
        refusal = _refusal(query)
        if refusal is not None:
            response.set_rcode(refusal)
            return to_wire(response, size)
        question = query.question[0]
        if question.rdclass != dns.rdataclass.IN:
            # What a server says of itself (CHAOS) is no question for others.
            response.set_rcode(dns.rcode.REFUSED)
            return to_wire(response, size)
        name = question.name.canonicalize()
        if question.rdtype in _WHOLE:
            zone = self._zones.exactly(name)
            if zone is None or not transfers or datagram:
                response.set_rcode(dns.rcode.REFUSED)
                return to_wire(response, size)
            return transfer_messages(response, zone)
        if self._zones.of(name) is not None:
            self._zones.answer(response, name, question.rdtype)
            return _OfZone(to_wire(response, size))
        if not (self._forwards and trusted and query.flags & dns.flags.RD):
            response.set_rcode(dns.rcode.REFUSED)
            return to_wire(response, size)
        return Forward(query, size)

    def _size(self, query: Any) -> int:
        if query.edns < 0:
            return _SMALLEST
        most: int = max(_SMALLEST, min(query.payload, self._response_size))
        return most


def _refusal(query: Any) -> dns.rcode.Rcode | None:
    if query.edns > 0:
        return dns.rcode.BADVERS
    return None if len(query.question) == 1 else dns.rcode.FORMERR


def _bare(data: bytes, rcode: int) -> bytes:
    # The number, the opcode and RD of what is not read any further: RFC 1035, 4.1.1.
    return data[:2] + bytes([0x80 | data[2] & 0x79, int(rcode)]) + bytes(8)


def to_wire(response: Any, size: int) -> bytes:
    """A response in bytes.

    Args:
        response: The response.
        size: The most bytes; 0 for streams. Of what is larger only that it is cut (TC) goes out, if it does not fit
            without the addresses that nobody has asked for either: RFC 2181, 9. A referral is nothing without them.
    """
    try:
        wire: bytes = response.to_wire(max_size=size or 65535)
    except dns.exception.TooBig:
        if not (response.answer and response.additional):
            return cut(response)
        response.additional = []
        return to_wire(response, size)
    return wire


def cut(response: Any) -> bytes:
    """The response without what it says, and that it is cut."""
    response.flags |= dns.flags.TC
    response.answer, response.authority, response.additional = [], [], []
    wire: bytes = response.to_wire()
    return wire


def transfer_messages(first: Any, zone: Any) -> Iterator[bytes]:
    """The messages of a transfer, one after the other as they are wanted.

    Args:
        first: The response, empty so far.
        zone: The zone.
    """
    first.flags |= dns.flags.AA
    message, count = first, 0
    for rrset in transfer(zone):
        if count and count + len(rrset) > _MOST_RECORDS:
            yield message.to_wire(max_size=65535)
            message, count = _like(first), 0
        message.answer.append(rrset)
        count += len(rrset)
    yield message.to_wire(max_size=65535)


def _like(first: Any) -> Any:
    message = dns.message.Message(first.id)
    message.flags = first.flags
    message.question = first.question
    return message
