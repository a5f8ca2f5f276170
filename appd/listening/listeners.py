"""Things that can listen, in one way, wherever their socket comes from."""

from __future__ import annotations

from appd.address import Address
from appd.errors import ConfigurationError, HostError, Place, Problem
from appd.listening.binding import BindOptions, bind, path_identity, unlink_bound
from appd.startup.bare import socket
from appd.systemd.activation import ClaimError, InheritedSocket, describe
from appd.systemd.store import store_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Protocol

    from appd.listening.connections import Connections
    from appd.tls.termination import Termination
else:
    Protocol = object

__all__ = ["BoundListener", "InheritedListener", "KeptListener", "Listener", "UnboundName", "located"]


class Listener(Protocol):
    """One socket of a server.

    Attributes:
        address: The address as the file has it.
        kind: `stream`, `datagram`, `connection`, or `` when nobody knows yet.
        inherited: Whether it came from systemd.
        tls: What makes it speak TLS; None when it is plain.
    """

    address: Address
    kind: str
    inherited: bool
    tls: Termination | None

    def prepare(self) -> None:
        """Makes the socket, when it is not there yet.

        Raises:
            HostError: The host refuses.
            ConfigurationError: It would be a socket that nobody can reach.
        """

    def listen(self, reactor: Any, serves: Any, connections: Connections) -> Any:
        """Begins to serve.

        Args:
            reactor: The reactor.
            serves: A protocol factory for a stream, a DatagramProtocol for a datagram socket.
            connections: The record of open connections.

        Returns:
            An IListeningPort, None for a `connection`, or a Deferred of a port.
        """

    def release(self) -> None:
        """Closes what `prepare` made. An inherited socket stays as it is.

        Raises:
            OSError: The path of a UNIX socket is left behind; the socket is closed all the same.
        """

    @property
    def where(self) -> str:
        """The address that the kernel says it has."""

    @property
    def host_and_port(self) -> tuple[str, int | str]:
        """For the start-up record: the host as configured, and the port (the path of a UNIX socket)."""


class _SocketListener:
    """A listener on a descriptor."""

    inherited = False
    tls: Termination | None = None

    def __init__(self, address: Address, kind: str, family: int) -> None:
        self.address = address
        self.kind = kind
        self.family = family

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address} {self.kind}>"

    def duplicate(self) -> socket.socket:
        """A duplicate of the socket, non-blocking, for who serves it without Twisted; the caller closes it.

        Raises:
            HostError: As `prepare`.
            ConfigurationError: As `prepare`.
        """
        self.prepare()
        made = socket.socket(self.family, socket.SOCK_STREAM, 0, socket.dup(self._fd()))
        made.setblocking(False)
        return made

    def fileno(self) -> int:
        """The descriptor, once it is prepared; it stays the listener's."""
        return self._fd()

    def prepare(self) -> None:
        """See `Listener.prepare`."""

    def _fd(self) -> int:
        raise NotImplementedError  # each kind of listener keeps its descriptor elsewhere

    def _listen(self, fd: int, reactor: Any, serves: Any, connections: Connections) -> Any:
        from appd.listening import ports

        if self.tls is not None:
            serves = self.tls.wrap(serves, reactor)
        if self.kind == "datagram":
            return ports.adopt_datagram(reactor, fd, self.family, serves, connections)
        if self.kind == "connection":
            return ports.adopt_connection(reactor, fd, self.family, serves, connections)
        return ports.adopt_stream(reactor, fd, self.family, serves, connections)


class InheritedListener(_SocketListener):
    """A descriptor that systemd passed.

    Args:
        address: The address that means it.
        inherited_socket: The descriptor.
    """

    inherited = True

    def __init__(self, address: Address, inherited_socket: InheritedSocket) -> None:
        super().__init__(address, inherited_socket.kind, inherited_socket.family)
        self.socket = inherited_socket

    def prepare(self) -> None:
        """The socket is there."""

    def listen(self, reactor: Any, serves: Any, connections: Connections) -> Any:
        return self._listen(self._fd(), reactor, serves, connections)

    def _fd(self) -> int:
        return self.socket.fd

    def release(self) -> None:
        """The socket is systemd's."""

    @property
    def where(self) -> str:
        return self.socket.where

    @property
    def host_and_port(self) -> tuple[str, int | str]:
        return _split_where(self.socket.where)


class KeptListener(_SocketListener):
    """A socket that an earlier worker bound and the supervisor kept.

    Args:
        address: The address as the file has it.
        kept: The descriptor.
        bound: Where it is bound.
    """

    def __init__(self, address: Address, kept: InheritedSocket, bound: Address) -> None:
        super().__init__(address, kept.kind, kept.family)
        self._kept = kept
        self._bound = bound
        self.stored = kept.name

    def prepare(self) -> None:
        """The socket is there."""

    def listen(self, reactor: Any, serves: Any, connections: Connections) -> Any:
        return self._listen(self._fd(), reactor, serves, connections)

    def _fd(self) -> int:
        return self._kept.fd

    def release(self) -> None:
        """The socket is the supervisor's."""

    @property
    def where(self) -> str:
        return self._kept.where

    @property
    def host_and_port(self) -> tuple[str, int | str]:
        return _bound_host_and_port(self._bound)


class BoundListener(_SocketListener):
    """A socket that appd makes.

    Args:
        address: The address as the file has it.
        bound: Where to bind; another than `address` when that is the name of a named socket.
        options: How to bind.
        server: The name of the server, for messages, and to tell addresses of port 0 apart in the store; "" when
            nobody asked for it in a file.
        place: Where a person mends what is wrong with it.

    Resource handling: `prepare` makes the socket, `release` closes it and removes its path.
    """

    def __init__(
        self, address: Address, bound: Address, options: BindOptions, *, server: str = "", place: Place | None = None
    ) -> None:
        family = socket.AF_UNIX if bound.path else socket.AF_UNSPEC
        super().__init__(address, "datagram" if bound.is_datagram else "stream", family)
        self._bound = bound
        self._options = options
        self.store_name = store_name(bound, server)
        self._server = server
        self._place = place
        self._socket: socket.socket | None = None
        self._identity: tuple[int, int] | None = None
        self.stored = ""
        """The name it has in the supervisor's store; "" without a supervisor. A stored socket outlives this process."""

    def prepare(self) -> None:
        if self._socket is None:
            try:
                self._socket = bind(self._bound, self._options)
            except HostError as error:
                raise HostError(*located(error.problems, self._server, self._place), number=error.errno) from None
            except ConfigurationError as error:
                raise ConfigurationError(*located(error.problems, self._server, self._place)) from None
            self._identity = path_identity(self._socket)
            self.family = self._socket.family

    def listen(self, reactor: Any, serves: Any, connections: Connections) -> Any:
        self.prepare()
        return self._listen(self._fd(), reactor, serves, connections)

    def _fd(self) -> int:
        assert self._socket is not None
        return self._socket.fileno()

    def release(self) -> None:
        if self._socket is not None:
            left_behind = None if self.stored else unlink_bound(self._socket, self._identity)
            self._socket.close()
            self._socket = None
            if left_behind is not None:
                raise left_behind

    @property
    def fd(self) -> int:
        """The descriptor, once it is prepared."""
        assert self._socket is not None
        return self._socket.fileno()

    @property
    def where(self) -> str:
        return describe(self._socket.getsockname()) if self._socket is not None else str(self._bound)

    @property
    def host_and_port(self) -> tuple[str, int | str]:
        return _bound_host_and_port(self._bound)


class UnboundName:
    """A name that systemd will pass: what `check` has in place of the socket. It cannot listen."""

    kind = ""
    inherited = True
    tls: Termination | None = None

    def __init__(self, address: Address) -> None:
        self.address = address

    def prepare(self) -> None:
        raise ClaimError(f"{self.address} was not passed")

    def listen(self, reactor: Any, serves: Any, connections: Connections) -> Any:
        raise ClaimError(f"{self.address} was not passed")

    def release(self) -> None:
        """There is nothing."""

    @property
    def where(self) -> str:
        return "passed by systemd"

    @property
    def host_and_port(self) -> tuple[str, int | str]:
        return "localhost", str(self.address)


def _bound_host_and_port(bound: Address) -> tuple[str, int | str]:
    if bound.path:
        return "localhost", bound.path
    return bound.host or "localhost", bound.port


def located(problems: Iterable[Problem], server: str, place: Place | None) -> list[Problem]:
    """Says of which server and where; what knows its place keeps it."""
    whose = f"server {server!r}: " if server else ""
    return [one._replace(message=f"{whose}{one.message}", place=one.place or place) for one in problems]


def _split_where(where: str) -> tuple[str, int | str]:
    host, colon, port = where.rpartition(":")
    if colon and port.isdigit() and where[0] not in "/@":
        return ("localhost" if host in ("0.0.0.0", "[::]") else host), int(port)
    return "localhost", where
