"""A listening socket of a server whose connections begin on the loop, and a connection that is passed to it.

One connection is accepted for each event of a level-triggered poll, and so many at once as `Portion` allows: that
shares the load among processes which wait for the same socket better than to accept until nothing is left.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from appd.http.lane.door import Door, plain_host
from appd.http.loop.client import LoopClient

if TYPE_CHECKING:
    from asyncio import Future

    from appd.http.lane.server import Server
    from appd.http.loop.driver import Driver

__all__ = ["Adopted", "LoopDoor"]

# As the lane: how long nothing is accepted when there are no descriptors, in seconds.
_PAUSE = 0.5


class LoopDoor(Door):
    """See `Door`; what it does runs in the thread of the loop.

    Args:
        server: The server.
        sock: The socket, listening and non-blocking.
        driver: What has the connections.
        many_processes: Whether other processes serve the same.
        security: What makes it speak TLS; None when it is plain.

    Resource handling: as `Door`.
    """

    def __init__(
        self,
        server: Server,
        sock: socket.socket,
        driver: Driver,
        *,
        many_processes: bool,
        security: Any = None,
    ) -> None:
        super().__init__(server, sock, many_processes=many_processes, security=security)
        self.driver = driver
        self._reading = False

    def pause(self) -> None:
        """Accepts no further connection."""
        with self._accepting:
            self.open = False
        self.shut()

    def close(self) -> None:
        """Closes the descriptor."""
        with self._accepting:
            self.open = False
        if self in self.server.doors:
            self.server.doors.remove(self)
        if not self.driver.post(self._close):
            self.sock.close()

    def _close(self) -> None:
        self._shut()
        self.sock.close()

    # Any thread may call these.

    def poll(self) -> None:
        """Waits for connections, if any are to be accepted."""
        self.driver.post(self._poll)

    def _poll(self) -> None:
        if self.open and not self.server.full and not self._reading and self.sock.fileno() >= 0:
            self._reading = True
            self.driver.loop.add_reader(self.fd, self.accept)

    def shut(self) -> None:
        """Does not wait for connections."""
        self.driver.post(self._shut)

    def _shut(self) -> None:
        if self._reading:
            self._reading = False
            self.driver.loop.remove_reader(self.fd)

    def rest(self) -> None:
        """Accepts nothing for a moment."""
        self._shut()
        self.driver.loop.call_later(_PAUSE, self._poll)

    def give_way(self, seconds: float) -> None:
        """Leaves what comes next to the other processes for a moment."""
        self._shut()
        self.driver.loop.call_later(seconds, self.come_back)

    def come_back(self) -> None:
        """The moment is over."""
        if self.portion is not None and self.sock.fileno() >= 0:
            self.portion.begin(self.fd)
            self._poll()

    def begin(self, fd: int, address: Any) -> None:
        """Begins a connection."""
        self.take(fd, address)

    def take(self, fd: int, address: Any) -> Future[None] | None:
        """As `begin`.

        Returns:
            Done when it is one of the server's; None when it is already.
        """
        sock = socket.socket(*self._kind, fd)
        sock.setblocking(False)
        if self.is_local or not address:
            host, port = "", 0
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            host, port = sys.intern(plain_host(address[0])), address[1]
        if self.security is None:
            return self.driver.connect(LoopClient(self.driver, self, host, port), sock)
        # Late: it imports ssl, which only those need who speak TLS.
        from appd.http.loop.arrival import Arrival

        Arrival(self.driver, self, sock, host, port).begin()
        return None


class Adopted:
    """A connection that somebody else has accepted, until the loop has taken it: a process that serves nothing else
    ends when its server has none.

    Args:
        door: Where it comes in.
        fd: The socket, which belongs to this until it has begun.
        peer: The address of the peer, "" when it has none.
    """

    # As of a connection.
    counted = ""

    def __init__(self, door: LoopDoor, fd: int, peer: Any) -> None:
        self._door = door
        self._fd = fd
        self._peer = peer
        self._cut = False

    def begin(self) -> None:
        """Begins it, in the thread of the loop."""
        if self._cut:
            os.close(self._fd)
            self._begun()
            return
        coming = self._door.take(self._fd, self._peer)
        if coming is None:
            self._begun()
        else:
            coming.add_done_callback(self._begun)

    def _begun(self, _coming: object = None) -> None:
        self._door.server.lost(self)

    def drain(self, _ends: float) -> None:
        """It begins all the same, and then finds that its server drains."""

    def abort(self) -> None:
        """Has it not begin."""
        self._cut = True
