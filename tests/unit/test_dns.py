"""DNS: what is answered, kept and refused, without a socket."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from twisted.internet.task import Clock

from appd.servers.dns.answering import Answering, Forward
from appd.servers.dns.clients import Networks, Rates
from appd.servers.dns.forwarding import Cache
from appd.servers.dns.protocols import Datagrams, Service
from appd.servers.dns.values import network, response_size, upstream
from appd.servers.dns.values import zone as zone_value
from appd.servers.dns.zones import Zones, read_zone

ZONE = """
$TTL 600
@ IN SOA ns h 1 60 60 60 30
@ IN NS ns
ns IN A 192.0.2.1
loop IN CNAME loop2
loop2 IN CNAME loop
* IN A 192.0.2.9
a.b IN TXT "x"
"""
ZONE += "far IN DNAME " + ".".join(["t" * 60] * 3) + ".example.net.\n"
for number in range(20):
    ZONE += f"much IN MX {number} m{number}\nm{number} IN AAAA 2001:db8::{number}\n"
    ZONE += f"below IN NS m{number}.below\nm{number}.below IN AAAA 2001:db8::{number}\n"


@pytest.fixture(scope="module")
def zones(tmp_path_factory):
    path = tmp_path_factory.mktemp("zones") / "z"
    path.write_text(ZONE)
    inner = path.with_name("inner")
    inner.write_text("@ 60 IN SOA ns h 1 60 60 60 30\n@ 60 IN NS ns\nns 60 IN A 192.0.2.7\n")
    return Zones([read_zone("example.org.", str(path)), read_zone("in.example.org.", str(inner))])


def ask(zones, name, kind="A", *, trusted=False, forwards=False, flags=dns.flags.RD, **options):
    query = dns.message.make_query(name, kind, **options)
    query.flags = flags
    answering = Answering(zones, 1232, forwards=forwards)
    found = answering.answer(query.to_wire(), trusted=trusted, transfers=False, datagram=True)
    return dns.message.from_wire(found) if isinstance(found, bytes) else found


def test_the_closest_zone_answers(zones):
    """A zone below another is one of its own."""
    assert ask(zones, "ns.in.example.org.").answer[0][0].address == "192.0.2.7"
    assert ask(zones, "ns.example.org.").answer[0][0].address == "192.0.2.1"


def test_wildcards_stand_for_what_does_not_exist(zones):
    """Not for names that exist, nor below them: RFC 4592, 2.2.1."""
    assert ask(zones, "any.example.org.").answer[0][0].address == "192.0.2.9"
    assert ask(zones, "x.y.example.org.").answer[0][0].address == "192.0.2.9"
    for name, rcode in (("b.example.org.", 0), ("x.b.example.org.", 3), ("a.b.example.org.", 0)):
        found = ask(zones, name)
        assert found.answer == [] and found.rcode() == rcode and found.authority[0].ttl == 30


def test_aliases_in_a_circle_end(zones):
    """With what there is of them, once."""
    query = dns.message.make_query("loop.example.org.", "A").to_wire()
    answer = Answering(zones, 1232, forwards=False).answer(query, trusted=False, transfers=False, datagram=True)
    assert int.from_bytes(answer[6:8], "big") == 2  # ANCOUNT: dnspython puts equal ones together


def test_a_name_that_would_be_too_long(zones):
    """Below a DNAME: it is said so, and not that there is none; RFC 6672, 2.2."""
    found = ask(zones, "x" * 60 + ".far.example.org.")
    assert (found.rcode(), [one.rdtype for one in found.answer]) == (dns.rcode.YXDOMAIN, [dns.rdatatype.DNAME])
    assert not found.authority


def test_addresses_that_nobody_asked_for_may_be_left_out(zones):
    """The answer alone is whole, and is not said to be cut: RFC 2181, 9. What a referral leads to is needed."""
    found = ask(zones, "much.example.org.", "MX")
    assert not found.flags & dns.flags.TC
    assert (len(found.answer[0]), found.additional) == (20, [])
    assert ask(zones, "x.below.example.org.").flags & dns.flags.TC


def test_another_class_is_nobodys(zones):
    """Questions about servers, as `dig CH TXT version.bind`, are not passed on."""
    found = ask(zones, "version.bind.", "TXT", rdclass="CH", trusted=True, forwards=True)
    assert found.rcode() == dns.rcode.REFUSED


def test_who_is_forwarded_for(zones):
    """Who is trusted, asks for it, and asks for what no zone has."""
    found = ask(zones, "example.com.", trusted=True, forwards=True)
    assert isinstance(found, Forward) and found.size == 512
    for options in (
        {"trusted": False, "forwards": True},
        {"trusted": True},
        {"trusted": True, "forwards": True, "flags": 0},
    ):
        assert ask(zones, "example.com.", **options).rcode() == dns.rcode.REFUSED
    assert ask(zones, "ns.example.org.", trusted=True, forwards=True).flags & dns.flags.RA
    assert not ask(zones, "ns.example.org.", forwards=True).flags & dns.flags.RA


def test_the_same_bytes_get_the_same_answer(zones):
    """Kept answers carry the number of each query."""
    answering = Answering(zones, 1232, forwards=False)
    for number in (1, 2, 65535):
        query = dns.message.make_query("ns.example.org.", "A", id=number)
        for _ in range(2):
            found = dns.message.from_wire(
                answering.answer(query.to_wire(), trusted=False, transfers=False, datagram=True)
            )
            assert query.is_response(found) and found.answer[0][0].address == "192.0.2.1"


def response(*lines, rcode=0, authority=()):
    made = dns.message.make_response(dns.message.make_query("x.example.", "A"))
    made.answer = [dns.rrset.from_text(*line) for line in lines]
    made.authority = [dns.rrset.from_text(*line) for line in authority]
    made.set_rcode(rcode)
    return made


def test_the_cache_counts_down_and_forgets():
    """As long as the shortest of it says."""
    cache = Cache(10)
    cache.keep(
        "k", response(("x.example.", 100, "IN", "A", "192.0.2.1"), ("y.example.", 60, "IN", "A", "192.0.2.2")), 1000.0
    )
    assert [one.ttl for one in cache.find("k", 1020.0).answer] == [80, 40]
    assert cache.find("k", 1059.9) is not None and cache.find("k", 1060.0) is None and len(cache) == 0


def test_what_is_not_there_is_kept_as_long_as_its_soa_says():
    """RFC 2308; without one, and what failed, is not."""
    soa = ("example.", 3600, "IN", "SOA", "ns. h. 1 1 1 1 50")
    cache = Cache(10)
    cache.keep("no", response(rcode=3, authority=[soa]), 0.0)
    assert cache.find("no", 49.0).rcode() == 3 and cache.find("no", 50.0) is None
    cache.keep("bare", response(rcode=3), 0.0)
    cache.keep("failed", response(rcode=2, authority=[soa]), 0.0)
    cache.keep("zero", response(("x.example.", 0, "IN", "A", "192.0.2.1")), 0.0)
    assert len(cache) == 0


def test_the_cache_is_bounded():
    """The least used goes first; 0 keeps nothing."""
    cache = Cache(2)
    answer = response(("x.example.", 100, "IN", "A", "192.0.2.1"))
    for key in "abc":
        cache.keep(key, answer, 0.0)
        cache.find("a", 0.0)
    assert cache.find("a", 0.0) and cache.find("c", 0.0) and not cache.find("b", 0.0)
    nothing = Cache(0)
    nothing.keep("a", answer, 0.0)
    assert len(nothing) == 0


def test_rates_are_those_of_a_network():
    """Neighbours share one, others have their own, the next second is another; UNIX peers have none."""
    rates = Rates(2)
    verdicts = [rates.verdict(f"192.0.2.{number}", 5.1) for number in range(6)]
    assert verdicts == ["send", "send", "cut", "drop", "cut", "drop"]
    assert rates.verdict("::ffff:192.0.2.9", 5.2) == "cut"
    assert rates.verdict("192.0.3.1", 5.2) == "send" and rates.verdict("192.0.2.1", 6.0) == "send"
    assert {rates.verdict(f"2001:db8:0:{number:x}::1", 7.0) for number in range(3)} == {"send", "cut"}
    assert {Rates(1).verdict("", 1.0) for _ in range(5)} == {"send"} == {Rates(0).verdict("192.0.2.1", 1.0)}


def test_networks():
    """IPv4 on a socket of both families is IPv4."""
    networks = Networks(["192.0.2.0/24", "2001:db8::/32"])
    assert networks.holds("192.0.2.7") and networks.holds("::ffff:192.0.2.7") and networks.holds("2001:db8::1")
    assert not networks.holds("192.0.3.7") and not networks.holds("::1") and not networks.holds("")
    assert Networks(["unix"]).holds("") and not Networks([]).holds("127.0.0.1")


def test_values(tmp_path):
    """What a person may write."""
    file = str(tmp_path / "appd.conf")
    assert zone_value("Example.ORG z", file) == ("example.org.", str(tmp_path / "z"))
    assert zone_value(". /root.zone", file) == (".", "/root.zone")
    assert upstream("192.0.2.1:54") == ("192.0.2.1", 54) and upstream("2001:db8::1") == ("2001:db8::1", 53)
    assert upstream("[2001:db8::1]:54") == ("2001:db8::1", 54)
    assert response_size("4096") == 4096 and network("UNIX") == "unix"
    for convert, text in (
        (upstream, "example.org"),
        (upstream, "192.0.2.1:x"),
        (upstream, "192.0.2.1:99999"),
        (response_size, "511"),
        (network, "192.0.2.1/24"),
    ):
        with pytest.raises(ValueError, match=r"is "):
            convert(text)
    for text in ("example.org", "exa mple.org", "..", "-x..y /z"):
        with pytest.raises(ValueError, match="ORIGIN PATH"):
            zone_value(text, file) if text != "exa mple.org" else zone_value("a..b c", file)


def test_who_cannot_be_answered_is_no_traceback(zones):
    """A firewall or a lost route lets a send fail: the datagram is lost, as datagrams may be."""

    class Walled:
        sent = 0

        def write(self, _data, _address):
            self.sent += 1
            raise PermissionError(1, "Operation not permitted")

    everybody = Networks(["0.0.0.0/0"])
    service = Service(Answering(zones, 1232, forwards=False), None, everybody, Networks([]), Rates(0), Clock())
    protocol = Datagrams(service)
    protocol.transport = Walled()
    protocol.datagramReceived(dns.message.make_query("ns.example.org.", "A").to_wire(), ("192.0.2.7", 5353))
    assert protocol.transport.sent == 1
