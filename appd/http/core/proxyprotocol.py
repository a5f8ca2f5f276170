"""The PROXY protocol: who is at the far end of a proxy that passes a connection on as it is.

Both versions of HAProxy's specification (proxy-protocol.txt, 2020/03/05). The header comes once, before everything
else, and only from peers that are trusted to say it; a connection that must have one and begins otherwise is refused,
since a guess would let clients say who they are.
"""

from __future__ import annotations

from appd.http.core.errors import Refused
from appd.startup.bare import socket
from appd.startup.patterns import pattern
from appd.startup.records import NamedTuple

__all__ = ["Proxied", "read_proxy_header"]

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16  # signature, version and command, family, length

# 2.1: the longest line of version 1 has 107 bytes, its end included.
_LONGEST_LINE = 107
_LINE = pattern(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP(?P<family>[46]) (?P<source>[0-9a-fA-F.:]+) (?P<target>[0-9a-fA-F.:]+)"
    rb" (?P<from>0|[1-9][0-9]{0,4}) (?P<to>0|[1-9][0-9]{0,4}))"
)
# A header of version 2 can say 64 KB of itself; HAProxy's own buffer, which is what most senders are, has 16.
_LONGEST = 16384

# 2.2: the upper half is the family, the lower one the transport. Nothing else may be sent.
_INET, _INET6, _UNIX = 1, 2, 3
_STREAM, _DATAGRAM = 1, 2
_SIZES = {_INET: 12, _INET6: 36, _UNIX: 216}
# 2.2.x: of the extensions these are looked at.
_CRC32C, _SSL = 0x03, 0x20
_CLIENT_SSL = 0x01


class Proxied(NamedTuple):
    """What a proxy says of a connection.

    Attributes:
        source: Host and port of the client; ("", 0) for the client of a UNIX socket. None when the connection is the
            proxy's own, as of a health check, or it does not know: then the socket's addresses count.
        target: Host and port that the client connected to; None likewise.
        tls: Whether the client speaks TLS with the proxy, if that is said.
        used: The length of the header in bytes; what follows is the client's.
    """

    source: tuple[str, int] | None
    target: tuple[str, int] | None
    tls: bool | None
    used: int


def read_proxy_header(data: bytes) -> Proxied | None:
    """Reads the header of a connection.

    Args:
        data: All that has come so far.

    Returns:
        What it says; None while it is not complete.

    Raises:
        Refused: There is none, or it is none that may be sent. Close the connection without an answer.
    """
    start = data[: len(_SIGNATURE)]
    if _SIGNATURE.startswith(start):
        return _read_binary(data) if len(data) >= _FIXED else None
    if b"PROXY "[: len(start)] != start[:6]:
        raise Refused(400, "no PROXY protocol header, which proxy-protocol wants")
    end = data.find(b"\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(data) >= _LONGEST_LINE:
            raise Refused(400, f"a PROXY header of more than {_LONGEST_LINE} bytes")
        return None
    return _read_line(data[: end + 1])


def _read_line(line: bytes) -> Proxied:
    match = _LINE.fullmatch(line[:-2]) if line.endswith(b"\r\n") else None
    if match is None:
        raise Refused(400, "a PROXY header of version 1 that is none")
    if not match["family"]:
        return Proxied(None, None, None, len(line))
    family = socket.AF_INET if match["family"] == b"4" else socket.AF_INET6
    ends = []
    for host, port in ((match["source"], match["from"]), (match["target"], match["to"])):
        try:
            packed = socket.inet_pton(family, host.decode("ascii"))
        except OSError:
            raise Refused(400, "a PROXY header with an address that is none") from None
        if int(port) > 65535:
            raise Refused(400, "a PROXY header with a port that is none")
        ends.append((_host(packed), int(port)))
    return Proxied(ends[0], ends[1], None, len(line))


def _read_binary(data: bytes) -> Proxied | None:
    version, command = divmod(data[12], 16)
    if version != 2 or command not in (0, 1):
        raise Refused(400, f"a PROXY header of version {version}, command {command}")
    family, transport = divmod(data[13], 16)
    known = family in _SIZES and transport in (_STREAM, _DATAGRAM)
    if command and not known and data[13]:
        raise Refused(400, f"a PROXY header with the family {data[13]:#04x}")
    length = int.from_bytes(data[14:16], "big")
    size = _SIZES.get(family, 0)
    if length > _LONGEST or (command and length < size):
        raise Refused(400, f"a PROXY header of {length} bytes")
    used = _FIXED + length
    if len(data) < used:
        return None
    if not command:
        # LOCAL: whatever else is in it is ignored.
        return Proxied(None, None, None, used)
    tls = _read_extensions(data[:used], _FIXED + size)
    if not known:
        return Proxied(None, None, tls, used)
    if family == _UNIX:
        return Proxied(("", 0), ("", 0), tls, used)
    half = 4 if family == _INET else 16
    block = data[_FIXED : _FIXED + size]
    ports = int.from_bytes(block[-4:-2], "big"), int.from_bytes(block[-2:], "big")
    return Proxied((_host(block[:half]), ports[0]), (_host(block[half : 2 * half]), ports[1]), tls, used)


def _host(packed: bytes) -> str:
    """An address as text; an IPv4 one in IPv6's clothes as what it is."""
    if packed.startswith(bytes(10) + b"\xff\xff"):
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _read_extensions(header: bytes, at: int) -> bool | None:
    """Goes through the type-length-values (2.2.3) and returns whether the client speaks TLS."""
    tls = None
    while at < len(header):
        start = at + 3
        at = start + int.from_bytes(header[at + 1 : start], "big")
        if start > len(header) or at > len(header):
            raise Refused(400, "a PROXY header with an extension that goes beyond its end")
        kind = header[start - 3]
        if kind == _SSL:
            # 2.2.6: a byte of flags, four of the result of the verification, and more of its kind.
            if at - start < 5:
                raise Refused(400, "a PROXY header with too little about TLS")
            tls = bool(header[start] & _CLIENT_SSL)
        elif kind == _CRC32C:
            told = header[start:at]
            if len(told) != 4 or _crc32c(header[:start] + bytes(4) + header[at:]) != int.from_bytes(told, "big"):
                raise Refused(400, "a PROXY header with a wrong checksum")
    return tls


def _crc32c(data: bytes) -> int:
    """RFC 3309's checksum; zlib has another polynomial."""
    sum = 0xFFFFFFFF
    for byte in data:
        sum ^= byte
        for _ in range(8):
            sum = sum >> 1 ^ (0x82F63B78 if sum & 1 else 0)
    return sum ^ 0xFFFFFFFF
