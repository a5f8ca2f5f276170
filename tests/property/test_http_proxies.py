"""Generated headers of the PROXY protocol, and generated fields of proxies."""

from __future__ import annotations

import ipaddress

from hypothesis import example, given
from hypothesis import strategies as st

from appd.http.core.errors import Refused
from appd.http.core.forwarded import Trusted, read_claims
from appd.http.core.proxyprotocol import Proxied, read_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PORTS = st.integers(0, 65535)
PROXIES = Trusted(["10.0.0.0/8"])
TRUSTED_HOPS = st.builds(lambda a, b: f"10.1.{a}.{b}", st.integers(0, 255), st.integers(0, 255))
CLIENTS = st.one_of(
    st.ip_addresses(v=4).filter(lambda one: one not in ipaddress.ip_network("10.0.0.0/8")),
    st.ip_addresses(v=6).filter(lambda one: one.ipv4_mapped is None),
)


def as_read(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An address as it comes out."""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, tuple[str, int], tuple[str, int]]:
    """A header of either version, and what it says."""
    version = draw(st.sampled_from([4, 6]))
    source, target = draw(st.ip_addresses(v=version)), draw(st.ip_addresses(v=version))
    ports = draw(PORTS), draw(PORTS)
    if draw(st.booleans()):
        data = f"PROXY TCP{version} {source} {target} {ports[0]} {ports[1]}\r\n".encode()
    else:
        block = source.packed + target.packed + b"".join(one.to_bytes(2, "big") for one in ports)
        for kind, value in draw(st.lists(st.tuples(st.integers(0xE0, 0xEF), st.binary(max_size=40)), max_size=4)):
            block += bytes([kind]) + len(value).to_bytes(2, "big") + value
        data = SIGNATURE + (b"\x21\x11" if version == 4 else b"\x21\x21") + len(block).to_bytes(2, "big") + block
    return data, (as_read(source), ports[0]), (as_read(target), ports[1])


@given(headers(), st.binary(max_size=50))
def test_what_is_said_is_read(made, rest):
    """Whatever follows, and nothing before the end is there."""
    data, source, target = made
    assert read_proxy_header(data + rest) == Proxied(source, target, None, len(data))
    assert all(read_proxy_header(data[:end]) is None for end in range(len(data)))


def verdict(data: bytes) -> Proxied | str | None:
    """What a header says, or that it is refused."""
    try:
        return read_proxy_header(data)
    except Refused:
        return "refused"


@given(
    st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=60).map(lambda one: b"PROXY " + one),
        st.binary(max_size=60).map(lambda one: SIGNATURE + b"\x21" + one),
        st.tuples(headers(), st.integers(0, 80), st.integers(0, 255)).map(
            lambda one: one[0][0][: one[1]] + bytes([one[2]]) + one[0][0][one[1] + 1 :]
        ),
    )
)
def test_a_verdict_stays(data):
    """Any bytes are read, refused or waited for; what was read or refused once is so with more bytes behind."""
    said = None
    for end in range(len(data) + 1):
        now = verdict(data[:end])
        if said is not None:
            assert now == said
        said = now


@given(
    st.lists(st.text(max_size=12).filter(lambda one: "," not in one), max_size=3),
    CLIENTS,
    st.lists(TRUSTED_HOPS, max_size=4),
)
def test_the_client_cannot_say_who_it_is(tale, client, proxies):
    """Whatever stands left of what the proxies wrote: the first hop from the right that is not trusted counts."""
    hops = ", ".join([*tale, str(client), *proxies])
    claims = read_claims({"x-forwarded-for": hops}, "10.0.0.1", PROXIES)
    assert claims is not None and claims.host == str(client)


@given(st.lists(st.text(max_size=12), max_size=3), CLIENTS, st.lists(TRUSTED_HOPS, max_size=4))
@example(['for="'], ipaddress.IPv4Address("192.0.2.1"), [])
def test_nor_in_forwarded(tale, client, proxies):
    """What a client writes there is ignored, or makes the request one that is refused."""
    hops = [f'for="[{one}]"' if ":" in one else f"for={one}" for one in (str(client), *proxies)]
    try:
        claims = read_claims({"forwarded": ", ".join([*tale, *hops])}, "10.0.0.1", PROXIES)
    except Refused:
        return
    assert claims is not None and claims.host == str(client)


@given(
    st.dictionaries(
        st.sampled_from(["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded"]),
        st.one_of(st.text(max_size=30), st.text(alphabet='for=;,:"[]1.\\ _', max_size=30)),
    )
)
def test_nothing_breaks_it(fields):
    """Any text is read or refused, and what is read can be used."""
    try:
        claims = read_claims(fields, "10.0.0.1", PROXIES)
    except Refused:
        return
    if claims is not None:
        assert claims.host is None or ipaddress.ip_address(claims.host)
        assert 0 <= claims.port <= 65535
        assert claims.scheme in (None, "http", "https")
        assert claims.authority is None or claims.authority.isascii()
