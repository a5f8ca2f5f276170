"""The hand-over of a connection from the lane to another driver: one way, between two requests.

A mount says by its `driver` who serves it; None is the lane. When the first request for such a mount has come, and all
that was asked before has been answered, the lane stops to poll the socket and gives it away, with the core and all it
has received: the request that is due, and whatever came behind its head. The driver keeps the connection to its end;
later requests for mounts of the lane it has the lane's threads answer (`guest`).
"""

from __future__ import annotations

from appd.http.core.connection import Connection
from appd.http.core.request import Request
from appd.startup.bare import socket
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from appd.http.site import Mount
else:
    Protocol = object

__all__ = ["Driver", "Handed"]


class Handed(NamedTuple):
    """A connection that changes hands.

    Attributes:
        door: Where it came in; `door.server` is whose it is.
        sock: The socket, non-blocking; it belongs to the driver from now on.
        connection: The core. Its request is due: the head has been read, nothing of the body.
        request: The request; None where the connection speaks HTTP/2, and nothing was read of what has come.
        host: The address of the peer, "" when it has none.
        port: Its port.
        secure: Whether the client speaks TLS with a proxy in front.
        is_beyond: Whether the client is one of a proxy's UNIX socket.
        counted: The address that the connection is counted for; "" for none. Whoever ends it tells `Server.lost`.
    """

    door: Any
    sock: socket.socket
    connection: Connection
    request: Request | None
    host: str
    port: int
    secure: bool
    is_beyond: bool
    counted: str


class Driver(Protocol):
    """What serves mounts that are not the lane's. Any thread may call."""

    def mount(self, mount: Mount) -> Any:
        """Makes what answers for a mount: a `Mounted` that has this as its `driver`."""

    def take(self, handed: Handed) -> Any:
        """Takes a connection over, and puts what stands for it among `Server.clients`.

        Returns:
            That: it has `drain`, `abort`, `host` and `counted`, and tells `Server.lost` of its end.
        """
