"""Multicast groups: what the file says of them, and how a socket joins one (ip(7), ipv6(7)).

A membership belongs to the socket, not to the process: an inherited one stays in its groups when the service has
stopped, so that a datagram to a group wakes the service like any other. It leaves them when its .socket unit is
stopped.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import re
import socket
import struct
from typing import NamedTuple

__all__ = ["Group", "group", "join"]

# IFNAMSIZ of net/if.h, less its NUL.
_INTERFACE = re.compile(r"[^\s/]{1,15}\Z")
_SIOCGIFINDEX = 0x8933  # netdevice(7)


class Group(NamedTuple):
    """A multicast group.

    Attributes:
        address: Its IP address.
        interface: The interface that it is joined on; "" lets the kernel choose.
    """

    address: str
    interface: str

    def __str__(self) -> str:
        return f"{self.address} {self.interface}".rstrip()


def group(text: str) -> Group:
    """ADDRESS or ADDRESS INTERFACE: 239.1.2.3, ff02::fb eth0."""
    address, _, interface = text.partition(" ")
    try:
        is_group = ipaddress.ip_address(address).is_multicast
    except ValueError:
        is_group = False
    interface = interface.strip()
    if not is_group or (interface and not _INTERFACE.match(interface)):
        raise ValueError(f"{text!r} is no multicast group like 239.1.2.3 or ff02::fb eth0")
    return Group(address, interface)


def join(sock: socket.socket, wanted: Group) -> bool:
    """Has a socket join a group; one that is in it already stays so.

    Args:
        sock: A UDP socket.
        wanted: The group.

    Returns:
        Whether the socket is of a family that can.

    Raises:
        OSError: The host refuses.
    """
    address = ipaddress.ip_address(wanted.address)
    index = _index(sock, wanted.interface) if wanted.interface else 0
    try:
        if address.version == 6:
            if sock.family != socket.AF_INET6:
                return False
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, address.packed + struct.pack("@I", index))
            return True
        if sock.family == socket.AF_INET6 and sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            return False
        # struct ip_mreqn: the group, an address of the interface, the number of the interface.
        request = address.packed + bytes(4) + struct.pack("@i", index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:  # in it already
            raise
    return True


def _index(sock: socket.socket, interface: str) -> int:
    # Asked of the socket: an inherited one lives in the network of the host, the process perhaps in one of its own.
    answer = fcntl.ioctl(sock.fileno(), _SIOCGIFINDEX, struct.pack("@16sI12x", interface.encode(), 0))
    index: int = struct.unpack_from("@I", answer, 16)[0]
    return index
