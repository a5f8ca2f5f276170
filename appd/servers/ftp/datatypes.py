"""Text of an `<ftp>` section → plain values; see `appd.config.datatypes`."""

from __future__ import annotations

import ipaddress
import os
import re

from appd.config.datatypes import address, placed, switch

__all__ = ["address", "host", "ports", "switch", "user_folder"]


@placed
def user_folder(text: str, file: str) -> str:
    """A folder, with %u for the user and %% for a percent sign; relative to the file that holds the line."""
    if re.search(r"%(?:[^u%]|\Z)", text.replace("%%", "")):
        raise ValueError(f"{text!r}: %u is the user, %% a percent sign")
    return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(file)).replace("%", "%%"), text))


def ports(text: str) -> tuple[int, int]:
    """Two ports, FIRST-LAST."""
    match = re.match(r"(\d{1,5})\s*-\s*(\d{1,5})\Z", text, re.A)
    if match is None or not 0 < int(match[1]) <= int(match[2]) < 65536:
        raise ValueError(f"{text!r} is not of the form FIRST-LAST, ports from 1 to 65535")
    return int(match[1]), int(match[2])


def host(text: str) -> str:
    """An IPv4 address: PASV has no room for another."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError(f"{text!r} is no IPv4 address") from None
