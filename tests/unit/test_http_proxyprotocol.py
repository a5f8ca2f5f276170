"""The PROXY protocol: headers of both versions, good and bad."""

from __future__ import annotations

import socket

import pytest

from appd.http.core.errors import Refused
from appd.http.core.proxyprotocol import Proxied, read_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + b"\x30\x39\x00\x50"
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    + b"\x30\x39\x01\xbb"
)
MAPPED = (
    bytes(10)
    + b"\xff\xff"
    + socket.inet_aton("192.0.2.1")
    + bytes(10)
    + b"\xff\xff"
    + socket.inet_aton("192.0.2.2")
    + V4[-4:]
)


def v2(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    """A header of version 2."""
    return SIGNATURE + bytes([command, family]) + (len(block) if length is None else length).to_bytes(2, "big") + block


def tlv(kind: int, value: bytes) -> bytes:
    """An extension."""
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


FROM_4, TO_4 = ("192.0.2.1", 12345), ("192.0.2.2", 80)
FROM_6, TO_6 = ("2001:db8::1", 12345), ("2001:db8::2", 443)

GOOD = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r\n", FROM_4, TO_4, None),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::1 2001:DB8:0:0:0:0:0:2 12345 443\r\n", FROM_6, TO_6, None),
    "v1 IPv4 as IPv6": (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 12345 80\r\n", FROM_4, TO_4, None),
    "v1 largest and smallest port": (
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65535 0\r\n",
        ("192.0.2.1", 65535),
        ("192.0.2.2", 0),
        None,
    ),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None, None, None),
    "v1 UNKNOWN with addresses": (b"PROXY UNKNOWN ffff:f::f ffff:f::f 65535 65535\r\n", None, None, None),
    "v1 of 107 bytes": (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None, None, None),
    "v2 TCP4": (v2(0x21, 0x11, V4), FROM_4, TO_4, None),
    "v2 UDP4": (v2(0x21, 0x12, V4), FROM_4, TO_4, None),
    "v2 TCP6": (v2(0x21, 0x21, V6), FROM_6, TO_6, None),
    "v2 IPv4 as IPv6": (v2(0x21, 0x21, MAPPED), FROM_4, TO_4, None),
    "v2 UNIX": (v2(0x21, 0x31, b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")), ("", 0), ("", 0), None),
    "v2 UNSPEC": (v2(0x21, 0x00, b""), None, None, None),
    "v2 UNSPEC with an extension": (v2(0x21, 0x00, tlv(0xEE, b"x")), None, None, None),
    "v2 LOCAL": (v2(0x20, 0x00, b""), None, None, None),
    "v2 LOCAL with addresses": (v2(0x20, 0x11, V4), None, None, None),
    "v2 LOCAL with what is none": (v2(0x20, 0x77, b"anything"), None, None, None),
    "v2 with extensions": (
        v2(0x21, 0x11, V4 + tlv(0x01, b"h2") + tlv(0x04, b"") + tlv(0xEE, b"x" * 300)),
        FROM_4,
        TO_4,
        None,
    ),
    "v2 with TLS": (v2(0x21, 0x11, V4 + tlv(0x20, b"\x01\0\0\0\0" + tlv(0x21, b"TLSv1.3"))), FROM_4, TO_4, True),
    "v2 without TLS": (v2(0x21, 0x11, V4 + tlv(0x20, b"\x00\0\0\0\x01")), FROM_4, TO_4, False),
    # The sum is of the crc32c package.
    "v2 with a checksum": (v2(0x21, 0x11, V4 + tlv(0x03, bytes.fromhex("70a8eb95"))), FROM_4, TO_4, None),
}

BAD = {
    "an HTTP request": b"GET / HTTP/1.1\r\n",
    "a PUT": b"PUT / HTTP/1.1\r\n",
    "small letters": b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    "a TLS client": b"\x16\x03\x01",
    "v1 that ends with LF": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
    "v1 with two spaces": b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    "v1 with a space at the end": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
    "v1 without ports": b"PROXY TCP4 192.0.2.1 192.0.2.2\r\n",
    "v1 with a port beyond the last": b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
    "v1 with a zero before a port": b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
    "v1 with a signed port": b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
    "v1 with zeros in an address": b"PROXY TCP4 192.0.2.001 192.0.2.2 1 2\r\n",
    "v1 with three parts of an address": b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
    "v1 with IPv6 as TCP4": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "v1 with IPv4 as TCP6": b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
    "v1 with a zone": b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
    "v1 with a name": b"PROXY TCP4 localhost localhost 1 2\r\n",
    "v1 with UDP": b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
    "v1 with UNKNOWN and CR": b"PROXY UNKNOWN \r \r\n",
    "v1 with UNKNOWNX": b"PROXY UNKNOWNX\r\n",
    "v1 of 108 bytes": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "v1 without an end": b"PROXY UNKNOWN " + b"x" * 93,
    "v2 with a byte of the signature changed": b"\r\n\r\n\0\r\nQUIT\r",
    "v2 of version 1": v2(0x11, 0x11, V4),
    "v2 of version 3": v2(0x31, 0x11, V4),
    "v2 with command 2": v2(0x22, 0x11, V4),
    "v2 with family 4": v2(0x21, 0x41, V4),
    "v2 with transport 3": v2(0x21, 0x13, V4),
    "v2 with UNSPEC for TCP": v2(0x21, 0x01, b""),
    "v2 with IPv4 unspecified": v2(0x21, 0x10, V4),
    "v2 shorter than its addresses": v2(0x21, 0x11, V4[:-1]),
    "v2 IPv6 shorter than its addresses": v2(0x21, 0x21, V4),
    "v2 UNIX shorter than its addresses": v2(0x21, 0x31, bytes(215)),
    "v2 that is too long": v2(0x21, 0x11, V4, 16385),
    "v2 with an extension beyond its end": v2(0x21, 0x11, V4 + b"\x01\x00\x03h2"),
    "v2 with half an extension": v2(0x21, 0x11, V4 + b"\x01\x00"),
    "v2 with too little about TLS": v2(0x21, 0x11, V4 + tlv(0x20, b"\x01\0\0\0")),
    "v2 with a wrong checksum": v2(0x21, 0x11, V4 + tlv(0x03, b"abcd")),
    "v2 with a short checksum": v2(0x21, 0x11, V4 + tlv(0x03, b"abc")),
}


@pytest.mark.parametrize("case", GOOD)
def test_good_headers(case):
    """Read, with what follows left alone; and not read before they are complete."""
    data, source, target, tls = GOOD[case]
    assert read_proxy_header(data) == Proxied(source, target, tls, len(data))
    assert read_proxy_header(data + b"GET / HTTP/1.1\r\n\r\n") == Proxied(source, target, tls, len(data))
    for end in range(len(data)):
        assert read_proxy_header(data[:end]) is None


@pytest.mark.parametrize("case", BAD)
def test_bad_headers(case):
    """Refused as soon as it is seen, and not taken back when more comes."""
    with pytest.raises(Refused) as refused:
        read_proxy_header(BAD[case])
    with pytest.raises(Refused) as later:
        read_proxy_header(BAD[case] + b"more" * 10)
    assert refused.value.status == later.value.status == 400
