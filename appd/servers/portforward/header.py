"""The PROXY protocol as a sender writes it: both versions of HAProxy's proxy-protocol.txt, 2020/03/05."""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

__all__ = ["Ends", "write_header"]

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_VERSION_2, _PROXY = 0x20, 0x01
# 2.2: address family and transport in one byte.
_TCP4, _TCP6 = 0x11, 0x21
# 2.2.6: the client speaks TLS with us; whether it has shown a certificate is not said here.
_SSL, _CLIENT_SSL = 0x20, 0x01


class Ends(NamedTuple):
    """The ends of a connection.

    Attributes:
        source: Host and port of the client.
        target: Host and port that it has connected to.
    """

    source: tuple[str, int]
    target: tuple[str, int]


def write_header(version: str, ends: Ends | None, *, tls: bool = False) -> bytes:
    """The header of a connection.

    Args:
        version: `v1` or `v2`.
        ends: Its ends; None for UNIX sockets, whose addresses mean nothing to another host.
        tls: Whether the client speaks TLS with us; version 1 cannot say it.
    """
    family = source = target = None
    if ends is not None:
        source, target = _plain(ends.source[0]), _plain(ends.target[0])
        # A client of IPv4 on a socket of both families is one of IPv4; both ends are of one family.
        family = source.version if source.version == target.version else None
    if version == "v1":
        if family is None or ends is None:
            return b"PROXY UNKNOWN\r\n"
        return f"PROXY TCP{family} {source} {target} {ends.source[1]} {ends.target[1]}\r\n".encode("ascii")
    extension = struct.pack("!BHBI", _SSL, 5, _CLIENT_SSL, 1) if tls else b""
    if family is None or ends is None or source is None or target is None:
        return _SIGNATURE + struct.pack("!BBH", _VERSION_2 | _PROXY, 0, len(extension)) + extension
    addresses = source.packed + target.packed + struct.pack("!HH", ends.source[1], ends.target[1])
    kind = _TCP4 if family == 4 else _TCP6
    return (
        _SIGNATURE
        + struct.pack("!BBH", _VERSION_2 | _PROXY, kind, len(addresses) + len(extension))
        + addresses
        + extension
    )


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
