"""What proxies say of a client: whom to believe, and how far."""

from __future__ import annotations

import pytest

from appd.http.core.errors import Refused
from appd.http.core.forwarded import Claims, Trusted, read_claims

PROXIES = Trusted(["10.0.0.0/8", "2001:db8:1::/48", "unix"])
PEER = "10.0.0.1"

# title: (fields, peer, host, port, scheme, authority)
READ = {
    "the address of a client": ({"x-forwarded-for": "192.0.2.1"}, PEER, "192.0.2.1", 0, None, None),
    "with its port": ({"x-forwarded-for": "192.0.2.1:1234"}, PEER, "192.0.2.1", 1234, None, None),
    "with a port that is none": ({"x-forwarded-for": "192.0.2.1:99999"}, PEER, "192.0.2.1", 0, None, None),
    "an IPv6 address": ({"x-forwarded-for": "2001:DB8::0:1"}, PEER, "2001:db8::1", 0, None, None),
    "an IPv6 address with a port": ({"x-forwarded-for": "[2001:db8::1]:80"}, PEER, "2001:db8::1", 80, None, None),
    "an IPv4 address as IPv6": ({"x-forwarded-for": "::ffff:192.0.2.1"}, PEER, "192.0.2.1", 0, None, None),
    "by a UNIX socket": ({"x-forwarded-for": "192.0.2.1"}, "", "192.0.2.1", 0, None, None),
    "by a peer that is IPv4 as IPv6": ({"x-forwarded-for": "192.0.2.1"}, "::ffff:10.0.0.1", "192.0.2.1", 0, None, None),
    "what the client wrote is not believed": (
        {"x-forwarded-for": "127.0.0.1, 192.0.2.1"},
        PEER,
        "192.0.2.1",
        0,
        None,
        None,
    ),
    "through two proxies": ({"x-forwarded-for": "127.0.0.1, 192.0.2.1, 10.0.0.2"}, PEER, "192.0.2.1", 0, None, None),
    "through IPv6 proxies": (
        {"x-forwarded-for": "192.0.2.1,2001:db8:1::5"},
        "2001:db8:1::6",
        "192.0.2.1",
        0,
        None,
        None,
    ),
    "all of it trusted: the leftmost": ({"x-forwarded-for": "10.0.0.3, 10.0.0.2"}, PEER, "10.0.0.3", 0, None, None),
    "an unknown client behind a proxy": ({"x-forwarded-for": "unknown, 10.0.0.2"}, PEER, "10.0.0.2", 0, None, None),
    "an unknown client": ({"x-forwarded-for": "unknown"}, PEER, None, 0, None, None),
    "a tale of the client that is none": ({"x-forwarded-for": "<script>, 192.0.2.1"}, PEER, "192.0.2.1", 0, None, None),
    "nothing": ({"x-forwarded-for": ""}, PEER, None, 0, None, None),
    "a zone is no address": ({"x-forwarded-for": "fe80::1%eth0"}, PEER, None, 0, None, None),
    "zeros before an octet are no address": ({"x-forwarded-for": "192.0.02.1"}, PEER, None, 0, None, None),
    "the scheme": ({"x-forwarded-proto": "HTTPS"}, PEER, None, 0, "https", None),
    "the scheme of a WebSocket": ({"x-forwarded-proto": "wss"}, PEER, None, 0, "https", None),
    "a scheme that is none": ({"x-forwarded-proto": "javascript"}, PEER, None, 0, None, None),
    "the scheme of the last proxy": (
        {"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https, http"},
        PEER,
        "192.0.2.1",
        0,
        "http",
        None,
    ),
    "the scheme of the client's hop": (
        {"x-forwarded-for": "192.0.2.1, 10.0.0.2", "x-forwarded-proto": "https, http"},
        PEER,
        "192.0.2.1",
        0,
        "https",
        None,
    ),
    "not the scheme that the client wrote": (
        {"x-forwarded-for": "127.0.0.1, 192.0.2.1", "x-forwarded-proto": "https, http"},
        PEER,
        "192.0.2.1",
        0,
        "http",
        None,
    ),
    "the host": ({"x-forwarded-host": "www.example.org"}, PEER, None, 0, None, "www.example.org"),
    "a host with a port": (
        {"x-forwarded-host": "www.example.org:81", "x-forwarded-port": "82"},
        PEER,
        None,
        0,
        None,
        "www.example.org:81",
    ),
    "a host and a port": (
        {"x-forwarded-host": "www.example.org", "x-forwarded-port": "82"},
        PEER,
        None,
        0,
        None,
        "www.example.org:82",
    ),
    "a host and the scheme's port": (
        {"x-forwarded-host": "www.example.org", "x-forwarded-port": "443", "x-forwarded-proto": "https"},
        PEER,
        None,
        0,
        "https",
        "www.example.org",
    ),
    "a host and another scheme's port": (
        {"x-forwarded-host": "www.example.org", "x-forwarded-port": "80", "x-forwarded-proto": "https"},
        PEER,
        None,
        0,
        "https",
        "www.example.org:80",
    ),
    "an IPv6 host and a port": (
        {"x-forwarded-host": "[::1]", "x-forwarded-port": "82"},
        PEER,
        None,
        0,
        None,
        "[::1]:82",
    ),
    "a port that is none": ({"x-forwarded-host": "a", "x-forwarded-port": "99999"}, PEER, None, 0, None, "a"),
    "a port that is no number": ({"x-forwarded-host": "a", "x-forwarded-port": "x"}, PEER, None, 0, None, "a"),
    "a host that is none": ({"x-forwarded-host": "a/b"}, PEER, None, 0, None, None),
    "a host with a user": ({"x-forwarded-host": "u@a"}, PEER, None, 0, None, None),
    "Forwarded": (
        {"forwarded": "for=192.0.2.1;proto=https;host=www.example.org;by=10.0.0.1"},
        PEER,
        "192.0.2.1",
        0,
        "https",
        "www.example.org",
    ),
    "Forwarded in other letters": (
        {"forwarded": 'FOR="192.0.2.1:80" ; Proto=HTTPS'},
        PEER,
        "192.0.2.1",
        80,
        "https",
        None,
    ),
    "Forwarded with IPv6": ({"forwarded": 'for="[2001:db8::1]:80"'}, PEER, "2001:db8::1", 80, None, None),
    "Forwarded with quoted pairs": ({"forwarded": 'host="a\\.b"'}, PEER, None, 0, None, "a.b"),
    "Forwarded through two proxies": (
        {"forwarded": "for=127.0.0.1;proto=http, for=192.0.2.1;proto=https, for=10.0.0.2;proto=http"},
        PEER,
        "192.0.2.1",
        0,
        "https",
        None,
    ),
    "Forwarded with a comma in quotes": ({"forwarded": 'for="_a,b", for=192.0.2.1'}, PEER, "192.0.2.1", 0, None, None),
    "Forwarded with a hidden client": (
        {"forwarded": "for=_hidden, for=10.0.0.2;proto=https"},
        PEER,
        "10.0.0.2",
        0,
        "https",
        None,
    ),
    "Forwarded without for": ({"forwarded": "proto=https"}, PEER, None, 0, "https", None),
    "Forwarded with empty elements": ({"forwarded": ", ,for=192.0.2.1;, "}, PEER, "192.0.2.1", 0, None, None),
    "Forwarded and nothing in it": ({"forwarded": ""}, PEER, None, 0, None, None),
    "both kinds that agree": (
        {"forwarded": "for=192.0.2.1;proto=https", "x-forwarded-for": "192.0.2.1", "x-forwarded-host": "a"},
        PEER,
        "192.0.2.1",
        0,
        "https",
        "a",
    ),
}
REFUSED = {
    "both kinds, two clients": {"forwarded": "for=127.0.0.1", "x-forwarded-for": "192.0.2.1"},
    "both kinds, two schemes": {"forwarded": "proto=http", "x-forwarded-proto": "https"},
    "both kinds, two hosts": {"forwarded": "host=a", "x-forwarded-host": "b"},
    "an open quote": {"forwarded": 'for=", for=192.0.2.1'},
    "no value": {"forwarded": "for=, for=192.0.2.1"},
    "no name": {"forwarded": "=a, for=192.0.2.1"},
    "only a name": {"forwarded": "for, for=192.0.2.1"},
    "an address without quotes": {"forwarded": "for=[::1], for=192.0.2.1"},
    "a name twice": {"forwarded": "for=192.0.2.1;for=127.0.0.1"},
    "no separator": {"forwarded": 'for="192.0.2.1"proto=https'},
    "a space for a separator": {"forwarded": "for=192.0.2.1 proto=https"},
}
SAYS_NOTHING = {
    "no field": ({"host": "a"}, PEER),
    "a peer that is not trusted": ({"x-forwarded-for": "192.0.2.1", "forwarded": 'for="'}, "192.0.2.7"),
    "a peer that is no address": ({"x-forwarded-for": "192.0.2.1"}, "x"),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_read(case):
    """The client, from the right."""
    fields, peer, *expected = READ[case]
    assert read_claims(fields, peer, PROXIES) == Claims(*expected)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    """A client cannot hide behind the address of the proxy."""
    with pytest.raises(Refused) as refused:
        read_claims(REFUSED[case], PEER, PROXIES)
    assert refused.value.status == 400


@pytest.mark.parametrize("case", SAYS_NOTHING)
def test_what_says_nothing(case):
    """The fields of anybody else are not looked at."""
    assert read_claims(*SAYS_NOTHING[case], PROXIES) is None


def test_whom_to_believe():
    """Networks of both families, and UNIX sockets only if they are named."""
    networks = Trusted(["192.0.2.0/24", "::1"])
    assert networks
    assert networks.holds("192.0.2.255") and networks.holds("::1") and networks.holds("::ffff:192.0.2.3")
    assert not networks.holds("192.0.3.1") and not networks.holds("") and not networks.holds("::2")
    assert Trusted(["unix"]).holds("") and Trusted(["unix"])
    assert not Trusted([])


def test_networks_that_are_none():
    """Whoever makes it hears of it."""
    with pytest.raises(ValueError):
        Trusted(["10.0.0.0/33"])


def test_many_peers_take_little_memory():
    """What was found out about a peer is forgotten in time."""
    networks = Trusted(["10.0.0.0/8", "unix"])
    for number in range(3000):
        assert networks.holds(f"10.0.{number >> 8}.{number & 255}")
    assert len(networks._known) <= 1025
    assert networks.holds("")
