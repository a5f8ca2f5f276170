"""Text of a `<dns>` section → plain values."""

from __future__ import annotations

import ipaddress
import os
import re

from appd.config.datatypes import placed, size

__all__ = ["network", "response_size", "upstream", "zone"]

_ORIGIN = re.compile(r"(?:[A-Za-z0-9_/-]{1,63}\.)*[A-Za-z0-9_/-]{1,63}\.?\Z|\.\Z", re.A)
_PORT = 53


@placed
def zone(text: str, file: str) -> tuple[str, str]:
    """ORIGIN PATH: a zone and its file."""
    origin, _, path = text.partition(" ")
    if not path.strip() or not _ORIGIN.match(origin) or len(origin) > 254:
        raise ValueError(f"{text!r} is not ORIGIN PATH, like example.org /etc/appd/example.org.zone")
    folder = os.path.dirname(os.path.abspath(file))
    return origin.lower().rstrip(".") + ".", os.path.normpath(os.path.join(folder, path.strip()))


def upstream(text: str) -> tuple[str, int]:
    """An IP address, with a port or without: 192.0.2.1, 192.0.2.1:5353, 2001:db8::1, [2001:db8::1]:5353."""
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ipaddress.ip_address(host)
        number = int(port) if port else _PORT
        if port and (not port.isascii() or not port.isdigit() or not 0 < number < 65536):
            raise ValueError
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address like 192.0.2.1 or [2001:db8::1]:5353") from None
    return host, number


def network(text: str) -> str:
    """A network or an address, or unix."""
    if text.lower() == "unix":
        return "unix"
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is neither a network like 192.0.2.0/24 nor unix: {error}") from None


def response_size(text: str) -> int:
    """The largest response over UDP, in bytes."""
    found = size(text)
    if not 512 <= found <= 65535:
        raise ValueError(f"{text!r} is not between 512 bytes, which RFC 1035 has, and 65535")
    return found
