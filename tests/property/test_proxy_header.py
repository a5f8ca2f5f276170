"""What `<portforward>` writes of the PROXY protocol is what `<http>` reads."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from appd.http.core.proxyprotocol import read_proxy_header
from appd.servers.portforward.header import Ends, write_header

PORTS = st.integers(1, 65535)
PAIRS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
)


@given(st.sampled_from(["v1", "v2"]), PAIRS, PORTS, PORTS, st.booleans(), st.binary(max_size=20))
def test_round_trip(version, pair, from_, to, tls, after):
    """Both ends, and what follows is not touched; IPv4 in IPv6 is IPv4."""
    source, target = (str(one) for one in pair)
    header = write_header(version, Ends((source, from_), (target, to)), tls=tls)
    read = read_proxy_header(header + after)
    assert read.used == len(header)
    plain = [getattr(one, "ipv4_mapped", None) or one for one in pair]
    if plain[0].version != plain[1].version:
        assert read.source is None
        return
    assert ipaddress.ip_address(read.source[0]) == plain[0] and read.source[1] == from_
    assert ipaddress.ip_address(read.target[0]) == plain[1] and read.target[1] == to
    assert read.tls == (True if tls and version == "v2" else None) or read.tls is False


def test_without_ends():
    """UNIX peers, and two families: nobody is named."""
    for version in ("v1", "v2"):
        header = write_header(version, None)
        assert read_proxy_header(header).source is None and read_proxy_header(header).used == len(header)
        mixed = write_header(version, Ends(("192.0.2.1", 1), ("2001:db8::1", 2)))
        assert read_proxy_header(mixed).source is None


def test_mapped():
    """A client of IPv4 on a socket of both families."""
    header = write_header("v1", Ends(("::ffff:192.0.2.1", 5), ("::ffff:192.0.2.2", 6)))
    assert header == b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n"
