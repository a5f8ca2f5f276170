"""What the sandbox of a unit keeps servers from that open connections of their own.

The drop-in `inbound-only.conf` leaves a service AF_UNIX alone (RestrictAddressFamilies= of systemd.exec(5)): what it
has inherited serves on, and socket(2) of any other family fails with EAFNOSUPPORT. Whoever needs one should hear so at
the start, and not at the first connection.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["forbids_outgoing", "is_outgoing", "may_connect", "mend"]

_FAMILIES = frozenset({"AF_INET", "AF_INET6"})


def mend(service: str) -> str:
    """What an administrator does about it.

    Args:
        service: The name of the unit.
    """
    return f"it opens connections of its own: remove inbound-only.conf from {service}, or allow AF_INET and AF_INET6"


def is_outgoing(server_type: Any, service: Any = None) -> bool:
    """Whether a server opens connections of its own.

    Args:
        server_type: Its type; one without the attribute does not.
        service: The server that was made, which may know better; None when there is none yet.
    """
    said = getattr(service, "outgoing", None)
    return bool(getattr(server_type, "outgoing", False) if said is None else said)


def may_connect(make: Callable[[int, int], socket.socket] = socket.socket) -> bool:
    """Whether this process may make internet sockets. What else may be wrong with them is not asked here.

    Args:
        make: Makes a socket of a family and a type.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            make(family, socket.SOCK_STREAM).close()
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:
                continue
        return True
    return False


def forbids_outgoing(texts: Iterable[str]) -> bool:
    """Whether a unit leaves its service no internet sockets.

    Args:
        texts: The text of the .service unit, then those of its drop-ins in the order of their names.
    """
    from appd.systemd.units import lines_of_service  # late: a start does not read units

    allowed: set[str] | None = None
    for key, value in lines_of_service(texts):
        if key == "RestrictAddressFamilies":
            allowed = _restricted(allowed, value)
    return allowed is not None and not allowed & _FAMILIES


def _restricted(before: set[str] | None, value: str) -> set[str] | None:
    """One more line: an empty one takes back the ones before, `~` takes away, and without a list all are allowed."""
    words = set(value.lstrip("~").split())
    if not value:
        return None
    if value.startswith("~"):
        return (set(_FAMILIES) if before is None else before) - words
    return (before or set()) | (words - {"none"})
