"""A listening socket of a server: where its connections come in."""

from __future__ import annotations

import sys

from appd.http.lane.client import Client
from appd.http.lane.environ import base_environ
from appd.portion import Portion
from appd.startup.bare import RLock, partial, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from appd.http.lane.server import Server
    from appd.http.lane.tlsclient import Security

__all__ = ["Door", "plain_host"]

_MAPPED = "::ffff:"


class Door:
    """A listening socket of a server.

    Args:
        server: The server.
        sock: The socket, listening and non-blocking.
        many_processes: Whether other processes serve the same.
        security: What makes it speak TLS; None when it is plain.

    Attributes:
        portion: How many connections are taken at once, where other processes serve the same.
        environ: What every WSGI call over it has.
        is_local: Whether it is a UNIX socket.
        address: Where it listens: host and port, or the path of a UNIX socket and None.

    Resource handling: owns the socket until `close`; nothing is done to what it listens on.
    """

    def __init__(
        self, server: Server, sock: socket.socket, *, many_processes: bool, security: Security | None = None
    ) -> None:
        self.server = server
        self.sock = sock
        self.fd = sock.fileno()
        self.deadline = 0.0
        self.tick = 0
        self.open = False
        self.security = security
        self.make = _client_class(security)
        # With the library's names for these, each connection would look for them anew.
        self._kind = int(sock.family), int(sock.type), sock.proto
        self._wrap: Any = partial(socket.SocketType, *self._kind)
        # Again by who has it: a connection that ends as soon as it begins may open the door.
        self._accepting = RLock()
        self.portion = Portion() if many_processes else None
        self.is_local = sock.family == socket.AF_UNIX
        name, port = ("localhost", "443" if security else "80") if self.is_local else _name_of(sock)
        self.address = _address_of(sock)
        self.environ = base_environ(name, port, many_processes=many_processes)

    def accept(self) -> int:
        """Accepts one connection, if there is one.

        Returns:
            Its descriptor, -1 for none. It is polled for; but who begins by saying something has mostly said it by now.
        """
        # Whoever pauses the door may count on it: what is not among the clients by then waits in the queue.
        with self._accepting:
            if not self.open:
                # Whoever has it polled was late: what waits would be told again and again.
                self.shut()
                return -1
            fd: int
            try:
                # As Python's own accept() begins. What that adds to a socket, such as names for its family, is nearly
                # half of its size, and a tenth of what a connection costs here.
                fd, address = self.sock._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return -1
            except OSError as error:
                self.server.cannot_accept(self, error)
                return -1
            self.begin(fd, address)
            if self.portion is not None and self.portion.take():
                self.give_way(self.portion.rest)
            return fd

    def begin(self, fd: int, address: Any) -> None:
        """Begins a connection.

        Args:
            fd: The socket, which belongs to the connection from now on.
            address: The address of the peer, as accept(2) gives it; "" for one that has left.
        """
        sock: socket.socket = self._wrap(fd)
        sock.setblocking(False)
        if self.is_local or not address:
            client = self.make(self, sock, "", 0)
        else:
            host = address[0]
            if host.startswith(_MAPPED):
                host = plain_host(host)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Many connections are of few peers, and each would keep a text of its own.
            client = self.make(self, sock, sys.intern(host), address[1])
        self.server.welcome(client)

    def give_way(self, seconds: float) -> None:
        """Leaves what comes next to the other processes for a moment."""
        self.server.lane.set_aside(self, seconds)

    def come_back(self) -> None:
        """The moment is over."""
        if self.portion is not None:
            self.portion.begin(self.fd)
        self.poll()

    def expired(self) -> None:
        """The rest is over."""
        self.poll()

    def resume(self) -> None:
        """Accepts connections."""
        self.open = True
        self.poll()

    def poll(self) -> None:
        """Waits for connections, if any are to be accepted."""
        with self._accepting:
            if self.open and not self.server.full:
                self.server.lane.open(self)

    def shut(self) -> None:
        """Does not wait for connections, for now; they wait in the queue of the socket."""
        self.server.lane.shut(self)

    def rest(self) -> None:
        """Accepts nothing for a moment."""
        self.server.lane.pause(self)

    def pause(self) -> None:
        """Accepts no further connection. The socket stays open: who connects now waits in its queue."""
        with self._accepting:
            self.open = False
        self.server.lane.deadlines.drop(self)
        self.shut()

    def close(self) -> None:
        """Closes the descriptor."""
        self.pause()
        if self in self.server.doors:
            self.server.doors.remove(self)
        self.sock.close()


def _address_of(sock: socket.socket) -> tuple[str, int | None] | None:
    """Where a socket listens, as ASGI has it: host and port, or the path of a UNIX socket and None."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        return plain_host(name[0]), name[1]
    return (name, None) if isinstance(name, str) and name else None


def plain_host(host: str) -> str:
    """An address; an IPv4 one in IPv6's clothes as what it is."""
    return host[len(_MAPPED) :] if host.startswith(_MAPPED) and "." in host else host


def _client_class(security: Security | None) -> type[Client]:
    """What a connection is; Python's ssl is imported only for those that need it."""
    if security is None:
        return Client
    from appd.http.lane.tlsclient import TlsClient

    return TlsClient


def _name_of(sock: socket.socket) -> tuple[str, str]:
    host, port, *_rest = sock.getsockname()
    return host, str(port)
