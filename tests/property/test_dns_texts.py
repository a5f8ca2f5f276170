"""DNS: no query is too odd for an answer, or for none."""

from __future__ import annotations

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appd.servers.dns.answering import Answering, Forward
from appd.servers.dns.zones import Zones, read_zone

GOOD = dns.message.make_query("ns.example.org.", "A", use_edns=0, payload=4096).to_wire()


@pytest.fixture(scope="module")
def answering(tmp_path_factory):
    path = tmp_path_factory.mktemp("zones") / "z"
    path.write_text("$TTL 60\n@ IN SOA ns h 1 60 60 60 30\n@ IN NS ns\nns IN A 192.0.2.1\nbig IN TXT " + '"x" ' * 2000)
    return Answering(Zones([read_zone("example.org.", str(path))]), 1232, forwards=True)


def judge(answering, data, datagram):
    found = answering.answer(data, trusted=True, transfers=True, datagram=datagram)
    if isinstance(found, bytes):
        assert found[:2] == data[:2] and found[2] & 0x80
        assert len(found) <= 1232 or not datagram
        if not data[2] & 0x78:  # dnspython 2.3 reads no opcode that it does not know
            assert dns.message.from_wire(found) is not None
    elif found is not None and not isinstance(found, Forward):
        assert not datagram and all(isinstance(one, bytes) for one in found)


@given(st.binary(max_size=100), st.booleans())
def test_any_bytes(answering, data, datagram):
    """Nothing is raised, and what is a response can be read."""
    judge(answering, data, datagram)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6), st.booleans())
def test_almost_a_query(answering, changes, datagram):
    """The same of what is wrong in some bytes."""
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    judge(answering, bytes(data), datagram)


@given(
    st.sampled_from(["ns.example.org.", "big.example.org.", "x.example.org.", "example.org.", "example.com.", "."]),
    st.integers(1, 65535),
    st.one_of(st.none(), st.integers(0, 65535)),
    st.booleans(),
)
def test_every_type(answering, name, kind, payload, datagram):
    """Of every type of record, in whatever size the client takes."""
    options = {} if payload is None else {"use_edns": 0, "payload": payload}
    query = dns.message.make_query(name, kind, **options)
    judge(answering, query.to_wire(), datagram)
