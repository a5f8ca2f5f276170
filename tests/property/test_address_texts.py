"""Addresses: what is parsed prints and parses back; what is not is refused with the allowed forms."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appd.address import ALLOWED_FORMS, Address, AddressError, parse

PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))
ports = st.integers(0, 65535)
backlogs = st.none() | st.integers(1, 99999)
hosts = st.sampled_from(
    ["", "0.0.0.0", "127.0.0.1", "::", "::1", "fe80::1%eth0", "localhost", "tcp", "ssl", "a-b.example"]
)
paths = st.text(PRINTABLE, max_size=60).map(lambda rest: "/" + rest) | st.text(PRINTABLE, min_size=1, max_size=60).map(
    lambda rest: "@" + rest
)
modes = st.none() | st.integers(0, 0o7777)
names = st.text(PRINTABLE.replace(":", ""), min_size=1, max_size=255)
positions = st.none() | st.integers(0, 999)
domains = st.sampled_from(["", "INET", "INET6", "UNIX"])

addresses = st.one_of(
    st.builds(
        lambda host, port, backlog: Address("tcp", host=host, port=port, backlog=backlog), hosts, ports, backlogs
    ),
    st.builds(lambda host, port: Address("udp", host=host, port=port), hosts, ports),
    st.builds(
        lambda path, mode, backlog: Address("unix", path=path, mode=mode, backlog=backlog), paths, modes, backlogs
    ),
    st.builds(lambda path, mode: Address("unix-dgram", path=path, mode=mode), paths, modes),
    st.builds(
        lambda name, position, domain: Address("systemd", name=name, position=position, domain=domain),
        names,
        positions,
        domains,
    ),
    st.builds(lambda index, domain: Address("systemd", index=index, domain=domain), st.integers(0, 999), domains),
)


@given(addresses)
def test_round_trip_of_values(address):
    """An address prints as a text that reads back as the same address."""
    assert parse(str(address)) == address


@given(st.text(PRINTABLE + " \t\n\0é☃", max_size=40) | st.text(":[]./@=\\" + string.digits + "tcpudnix6", max_size=25))
@example("8080")
@example("tcp:8080:interface=\\:\\:1")
@example("[::1]:80")
@example("unix:/a\\:b:mode=660")
@example("systemd:name=a\\=b")
@example("tcp:1:interface=*:backlog=3")
def test_any_text(text):
    """Any text is an address, which then round-trips, or is refused in one line that shows the allowed forms."""
    try:
        address = parse(text)
    except AddressError as error:
        message = str(error)
        assert "\n" not in message and message.startswith(repr(text)) and ALLOWED_FORMS in message
    else:
        assert parse(str(address)) == address
        assert str(parse(str(address))) == str(address)


@given(
    st.sampled_from(["a", "b-c", "", "x" * 63, "x" * 64, "9"]).flatmap(
        lambda one: st.lists(st.just(one) | st.sampled_from(["d", ""]), min_size=1, max_size=90)
    )
)
@example(["a", "", "b"])
@example(["a"] * 127)
@example(["a"] * 128)
def test_host_names(labels):
    """RFC 1035: labels of 1 to 63 octets, 253 together; what is accepted can be asked for."""
    text = ".".join(labels)
    try:
        parsed = parse(f"{text}:80")
    except AddressError:
        return
    assert len(text) <= 254
    parsed.host.encode("idna")


@pytest.mark.parametrize("text", ["unix:address=", "unix-dgram:address=", "unix:", "unix:address=:mode=660"])
def test_empty_paths(text):
    """No path at all."""
    with pytest.raises(AddressError, match=r"the path is empty|exactly one path"):
        parse(text)


@pytest.mark.parametrize(
    "text", ["a..b:80", ".a:80", ".:80", f"{'x' * 64}:80", f"{'a.' * 126}aa:80", "tcp:80:interface=a..b", "[::::]:80"]
)
def test_hosts_that_nobody_could_resolve(text):
    """Python raises UnicodeError for the names when they are looked up."""
    with pytest.raises(AddressError, match="is not a"):
        parse(text)
