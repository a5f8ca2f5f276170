"""The descriptors that systemd passed: found, asked for what they are, and claimed once.

sd_listen_fds(3) says how many there are and FileDescriptorName= what they are called. Neither says what they *are*, so
the kernel is asked (socket(7): SO_DOMAIN, SO_TYPE, SO_PROTOCOL, SO_ACCEPTCONN). One name may cover several sockets: two
ListenStream= lines of one unit share theirs.

This runs before Twisted is imported: importing `twisted.internet.endpoints` deletes LISTEN_PID and LISTEN_FDS from the
environment, and appd is the one owner of the descriptors. They stay open until the process ends; ports work on
duplicates, so that closing a port never takes a socket from systemd.
"""

from __future__ import annotations

import errno
import os
import stat

from appd.address import Address
from appd.errors import ConfigurationError
from appd.startup.bare import socket
from appd.startup.records import NamedTuple
from appd.systemd.store import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

__all__ = ["ClaimError", "Inheritance", "InheritedSocket", "inherit", "probe", "takes"]

_SO_PROTOCOL = getattr(socket, "SO_PROTOCOL", 38)
_SO_DOMAIN = getattr(socket, "SO_DOMAIN", 39)
_IPPROTO_MPTCP = 262

_LISTEN = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_LISTEN_FDS_START = 3
# What the names of sockets are usually made of.
_USUAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@/:")
_FAMILIES: dict[int, str] = {socket.AF_INET: "INET", socket.AF_INET6: "INET6", socket.AF_UNIX: "UNIX"}
_DIRECTIVES = {"stream": "ListenStream=", "datagram": "ListenDatagram="}


class InheritedSocket(NamedTuple):
    """One descriptor and what the kernel says of it.

    Attributes:
        fd: The descriptor. `Inheritance` owns it and never closes it.
        index: Its place in LISTEN_FDS, from 0.
        name: Its FileDescriptorName=; "" when LISTEN_FDNAMES is absent.
        family: The domain, socket.AF_*.
        kind: `stream`, `datagram` or `connection` (one accepted stream, Accept=yes).
        where: The address it is bound to, for people.
        refusal: Why it cannot be served; "" when it can.
    """

    fd: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    name: str
    family: int
    kind: str
    where: str
    refusal: str = ""

    @property
    def domain(self) -> str:
        """INET, INET6, UNIX, or the number of another family."""
        return _FAMILIES.get(self.family, str(self.family))

    def __str__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"descriptor {self.fd}{name} ({self.domain} {self.kind}, {self.where})"


class ClaimError(ValueError):
    """An address names no descriptor that fits. The message is one line for the administrator."""


def inherit(
    environ: Mapping[str, str] = os.environ,
    listen_fds: Callable[[], Mapping[int, str]] | None = None,
) -> Inheritance:
    """Takes over the descriptors that systemd passed to this process.

    Args:
        environ: Where LISTEN_FDNAMES is looked up.
        listen_fds: What finds descriptor → name. The default is sd_listen_fds_with_names(3), which also checks
            LISTEN_PID, sets close-on-exec and removes the LISTEN_* variables, so that no child takes them for its own.

    Returns:
        The inheritance; empty when nothing was passed.

    Raises:
        ConfigurationError: The variables are malformed, or name a descriptor that is not open.
    """
    has_names = "LISTEN_FDNAMES" in environ
    described = ", ".join(f"{key}={environ[key]!r}" for key in ("LISTEN_FDS", "LISTEN_FDNAMES") if key in environ)
    try:
        found = (listen_fds or _listen_fds)()
        sockets = [probe(fd, index, name if has_names else "") for index, (fd, name) in enumerate(found.items())]
    except (OSError, ValueError) as error:
        # Without LISTEN_PID or with another's, systemd-python finds nothing and raises nothing.
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(
            f"the descriptors passed to this process cannot be used: {reason} ({described})"
        ) from None
    return Inheritance(sockets)


def _listen_fds() -> Mapping[int, str]:
    found = plain_listen_fds(os.environ, os.getpid())
    if found is None:
        from systemd import daemon

        found = daemon.listen_fds_with_names(unset_environment=True)
    return found


def plain_listen_fds(environ: MutableMapping[str, str], pid: int) -> dict[int, str] | None:
    """Reads the variables of sd_listen_fds(3) as systemd sets them; loading libsystemd takes a start 1 ms.

    Args:
        environ: The variables; those of systemd are removed when they have been read.
        pid: The number of this process.

    Returns:
        Descriptor → name, or None where the variables are not the usual ones: that is for libsystemd to judge.
    """
    given = [environ.get(key) for key in _LISTEN]
    if given == [None, None, None]:
        return {}
    owner, count, names = given
    found = names.split(":") if names else []
    if owner != str(pid) or count != str(len(found)) or not all(found) or not _USUAL.issuperset(names or " "):
        return None
    for key in _LISTEN:
        del environ[key]
    return dict(enumerate(found, _LISTEN_FDS_START))


def probe(fd: int, index: int = 0, name: str = "") -> InheritedSocket:
    """Asks the kernel what a descriptor is, and makes it non-blocking and close-on-exec.

    Args:
        fd: The descriptor; the caller keeps it.
        index: Its place in LISTEN_FDS.
        name: Its FileDescriptorName=.

    Returns:
        What it is; `refusal` says so when it is nothing that appd can serve.

    Raises:
        OSError: The descriptor is not open.
    """
    mode = os.fstat(fd).st_mode
    os.set_inheritable(fd, False)
    if not stat.S_ISSOCK(mode):
        what = "a FIFO" if stat.S_ISFIFO(mode) else "a file or device"
        return InheritedSocket(fd, index, name, 0, "other", what, f"it is {what}, not a socket")
    os.set_blocking(fd, False)
    sock = socket.socket(fileno=fd)
    try:
        return _probe_socket(sock, fd, index, name)
    finally:
        sock.detach()


def _probe_socket(sock: socket.socket, fd: int, index: int, name: str) -> InheritedSocket:
    family = sock.getsockopt(socket.SOL_SOCKET, _SO_DOMAIN)
    type_ = sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    protocol = sock.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL)
    kind, refusal = "other", ""
    if family not in _FAMILIES:
        word = "AF_VSOCK" if family == getattr(socket, "AF_VSOCK", 40) else f"address family {family}"
        refusal = f"{word} is not served by any server type yet"
    elif type_ == socket.SOCK_DGRAM and (family == socket.AF_UNIX or protocol == socket.IPPROTO_UDP):
        kind = "datagram"
    elif type_ == socket.SOCK_SEQPACKET:
        refusal = "SOCK_SEQPACKET (ListenSequentialPacket=) is not served by any server type yet"
    elif type_ == socket.SOCK_STREAM and (family == socket.AF_UNIX or protocol in (socket.IPPROTO_TCP, _IPPROTO_MPTCP)):
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            kind = "stream"
        elif _is_connected(sock):
            kind = "connection"
        else:
            refusal = "it is a stream socket that neither listens nor is connected"
    else:
        refusal = f"socket type {type_} with protocol {protocol} is not served by any server type"
    return InheritedSocket(fd, index, name, family, kind, _where(sock), refusal)


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError as error:
        # A peer that has already gone: the connection is still ours to end.
        return error.errno == errno.EINVAL or _was_reset(sock)
    return True


def _was_reset(sock: socket.socket) -> bool:
    """Whether there was a connection, of which getpeername(2) knows nothing any more."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except OSError as error:
        return error.errno not in (errno.ENOTCONN, errno.EINVAL)
    return True


def _where(sock: socket.socket) -> str:
    try:
        bound = sock.getsockname()
    except OSError:
        return "unbound"
    return describe(bound)


def describe(bound: object) -> str:
    """Writes what getsockname(2) or getpeername(2) says as people write addresses.

    Args:
        bound: A tuple for INET and INET6, text or bytes (abstract) for UNIX.
    """
    if isinstance(bound, tuple) and len(bound) >= 2:
        host = f"[{bound[0]}]" if ":" in str(bound[0]) else bound[0]
        return f"{host}:{bound[1]}"
    if isinstance(bound, bytes):
        return "@" + bound.lstrip(b"\0").decode("utf-8", "backslashreplace")
    return str(bound) or "unnamed"


def takes(kinds: Iterable[str]) -> str:
    """Names kinds of socket with the directives of systemd.socket(5) that make them.

    Args:
        kinds: Of `stream` and `datagram`.
    """
    return " or ".join(f"{kind} ({_DIRECTIVES[kind]})" for kind in sorted(kinds))


class Inheritance:
    """The descriptors of this process, and which server has claimed each.

    Resource handling: the descriptors stay open as long as the process lives; nobody closes them.
    """

    def __init__(self, sockets: Iterable[InheritedSocket] = ()) -> None:
        self.sockets = tuple(sockets)
        self.by_name: dict[str, tuple[InheritedSocket, ...]] = {}
        for one in self.sockets:
            self.by_name[one.name] = (*self.by_name.get(one.name, ()), one)
        self._claims: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"<Inheritance {', '.join(map(str, self.sockets)) or 'of nothing'}>"

    def find(self, address: Address) -> tuple[InheritedSocket, ...]:
        """The descriptors that a `systemd:` address means.

        Args:
            address: An address of kind `systemd`.

        Raises:
            ClaimError: Nobody passed such a name, the number is out of range, or the domain is another.
        """
        found = self._by_index(address) if address.index is not None else self._by_name(address)
        for one in found:
            if one.refusal:
                raise ClaimError(f"{one}: {one.refusal}")
            if address.domain and address.domain != one.domain:
                raise ClaimError(
                    f"{address} wants {address.domain}, but {one} is {one.domain}: correct domain=, or leave it out"
                )
        return found

    def claim(self, address: Address, server: str, kinds: frozenset[str]) -> tuple[InheritedSocket, ...]:
        """Gives the descriptors of an address to one server, for good.

        Args:
            address: An address of kind `systemd`.
            server: The name of the server.
            kinds: What it serves, of `stream` and `datagram`; whoever serves streams takes a `connection` too.

        Raises:
            ClaimError: As `find`; or the kind is wrong, or another server has it.
        """
        found = self.find(address)
        for one in found:
            served = "stream" if one.kind == "connection" else one.kind
            if served not in kinds:
                raise ClaimError(
                    f"{one} is a {served} socket, but the server takes {takes(kinds)}: see the .socket unit"
                )
            owner = self._claims.get(one.fd)
            if owner is not None:
                raise ClaimError(f"{one} is already served by {owner!r}")
        self._claims.update((one.fd, server) for one in found)
        return found

    def owner(self, one: InheritedSocket) -> str | None:
        """The name of the server that claimed a descriptor, None when nobody did."""
        return self._claims.get(one.fd)

    def unclaimed(self) -> tuple[InheritedSocket, ...]:
        """The descriptors that no server claimed."""
        return tuple(one for one in self.sockets if one.fd not in self._claims and not one.name.startswith(PREFIX))

    def _by_index(self, address: Address) -> tuple[InheritedSocket, ...]:
        assert address.index is not None
        if address.index < len(self.sockets):
            return (self.sockets[address.index],)
        raise ClaimError(
            f"{address}: no such descriptor, {self._summary()} (ListenStream= and ListenDatagram= of the .socket unit)"
        )

    def _by_name(self, address: Address) -> tuple[InheritedSocket, ...]:
        found = self.by_name.get(address.name, ())
        if not found:
            elsewhere = f"; without systemd: --bind {address.name}=ADDRESS, or a <socket {address.name}> in the file"
            raise ClaimError(
                f"{address}: no descriptor of that name, {self._summary()} (FileDescriptorName= of the .socket unit "
                f"names it; stop the service, start the socket, start the service{'' if self.sockets else elsewhere})"
            )
        if address.position is None:
            return found
        if address.position < len(found):
            return (found[address.position],)
        raise ClaimError(
            f"{address}: only {len(found)} of that name, {self._summary()} (ListenStream= lines of the .socket unit)"
        )

    def _summary(self) -> str:
        if not self.sockets:
            return "nothing was inherited"
        names = ", ".join(f"{one.name or f'index {one.index}'} ({one.kind} {one.where})" for one in self.sockets[:20])
        more = f" and {len(self.sockets) - 20} more" if len(self.sockets) > 20 else ""
        return f"inherited: {names}{more}"
