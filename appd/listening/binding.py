"""Sockets that appd makes itself, when no .socket unit did.

They come out as systemd would make them: bound, listening, non-blocking. A UNIX path is at no time open to more than
its mode says. A path that a dead process left behind is removed first; one that somebody answers on is in use. When
making a socket fails, nothing of it is left.
"""

from __future__ import annotations

import errno
import os
import stat

from appd.address import Address
from appd.errors import ConfigurationError, HostError, Place
from appd.startup.bare import socket
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BindOptions", "NamedSocket", "bind", "group_id", "path_identity", "unlink_bound", "user_id"]

# systemd's own default for Backlog=; the kernel caps it at net.core.somaxconn.
_DEFAULT_BACKLOG = 4096


class BindOptions(NamedTuple):
    """What a `<socket>` section says beyond the address; the names are those of systemd.socket(5).

    Attributes:
        backlog: Backlog=, None for appd's default.
        mode: SocketMode= of a UNIX path, None for what the umask gives.
        user: SocketUser=, a name or number.
        group: SocketGroup=, a name or number.
        ipv6_only: BindIPv6Only=: `default`, `both` or `ipv6-only`.
        reuse_port: ReusePort=.
    """

    backlog: int | None = None
    mode: int | None = None
    user: str | None = None
    group: str | None = None
    ipv6_only: str | None = None
    reuse_port: bool = False


class NamedSocket(NamedTuple):
    """A socket that a name stands for when systemd passed none of that name.

    Attributes:
        addresses: Where to bind; several share the name.
        options: What `<socket>` says beyond the address.
        origin: Who said so, for people.
        places: Where each address was written; nothing when that is not in the file.
    """

    addresses: tuple[Address, ...]
    options: BindOptions = BindOptions()
    origin: str = "--bind"
    places: tuple[Place, ...] = ()


def bind(
    address: Address, options: BindOptions = BindOptions(), environ: Mapping[str, str] = os.environ
) -> socket.socket:
    """Makes the socket of an address.

    Args:
        address: An address of kind tcp, udp, unix or unix-dgram.
        options: How.
        environ: Tells whether this is a service of systemd's, for the check of PrivateNetwork=.

    Returns:
        The socket: bound, non-blocking, close-on-exec, and listening if it is a stream. The caller closes it.

    Raises:
        HostError: The address is in use or not this host's, or permission is missing.
        ConfigurationError: It would be a socket that nobody outside the unit can reach, or its owner is unknown.
    """
    if address.path:
        return _bind_unix(address, options)
    family, target = _resolve(address)
    if "INVOCATION_ID" in environ and not _is_loopback(target[0]) and _is_private_network():
        raise ConfigurationError(
            f"{address}: nobody could reach it, this network namespace has only lo (PrivateNetwork= of the unit): "
            "pass the socket by a .socket unit, or remove PrivateNetwork="
        )
    type_ = _type_of(address)
    try:
        sock = socket.socket(family, type_)
    except OSError as error:
        raise _refused(address, error) from None
    try:
        if type_ == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and (address.host == "" or options.ipv6_only in ("both", "ipv6-only")):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, options.ipv6_only == "ipv6-only")
        sock.bind(target)
        return _finish(sock, address, options)
    except OSError as error:
        sock.close()
        raise _refused(address, error) from None


def path_identity(sock: socket.socket) -> tuple[int, int] | None:
    """What tells the path of a UNIX socket from a later one of the same name: device and inode; None without a path."""
    path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
    if not isinstance(path, str) or not path.startswith("/"):
        return None
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None


def unlink_bound(sock: socket.socket, identity: tuple[int, int] | None) -> OSError | None:
    """Removes the path of a UNIX socket that appd made, unless another has taken its place.

    Args:
        sock: The socket; the caller closes it.
        identity: What `path_identity` said right after `bind`.

    Returns:
        Why the path is still there, for the log; None when nothing of this socket is.
    """
    if identity is None or path_identity(sock) != identity:
        return None
    try:
        os.unlink(sock.getsockname())
    except FileNotFoundError:
        return None
    except OSError as error:
        return error
    return None


def user_id(user: str) -> int:
    """The number of a user.

    Args:
        user: A name of passwd(5), or a number.

    Raises:
        ValueError: There is none.
    """
    import pwd

    try:
        return _number(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):
        raise ValueError(f"there is no user {user!r}") from None


def group_id(group: str) -> int:
    """The number of a group.

    Args:
        group: A name of group(5), or a number.

    Raises:
        ValueError: There is none.
    """
    import grp

    try:
        return _number(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise ValueError(f"there is no group {group!r}") from None


def _number(text: str) -> int:
    # (uid_t) -1 means "leave it" for chown(2).
    if not text.isascii() or len(text) > 10 or int(text) >= 2**32 - 1:
        raise ValueError(text)
    return int(text)


def _bind_unix(address: Address, options: BindOptions) -> socket.socket:
    try:
        owner = user_id(options.user) if options.user is not None else -1
        group = group_id(options.group) if options.group is not None else -1
    except ValueError as error:
        raise ConfigurationError(f"{address}: {error}") from None
    try:
        sock = socket.socket(socket.AF_UNIX, _type_of(address))
    except OSError as error:
        raise _refused(address, error) from None
    try:
        if address.path.startswith("@"):
            sock.bind("\0" + address.path[1:])
        else:
            _remove_stale(address)
            _bind_path(sock, address, address.mode if address.mode is not None else options.mode, owner, group)
        return _finish(sock, address, options)
    except BaseException as error:
        unlink_bound(sock, path_identity(sock))
        sock.close()
        if isinstance(error, OSError):
            raise _refused(address, error) from None
        raise


def _bind_path(sock: socket.socket, address: Address, mode: int | None, owner: int, group: int) -> None:
    """Binds so that the path is never open to more than it will be; -1 leaves the owner or group as it is."""
    path = address.path
    if mode is not None:
        # Linux makes the path with the mode of the socket's own inode less the umask. A datagram socket takes what is
        # sent from bind(2) on. The umask itself would do as well, but hosted code may have threads that make files.
        os.fchmod(sock.fileno(), mode if owner == group == -1 else mode & 0o700)
    sock.bind(path)
    if group != -1:
        os.chown(path, -1, group)
    if mode is not None:
        os.chmod(path, mode)
    if owner != -1:  # last: who is no longer the owner may not change the mode
        os.chown(path, owner, -1)


def _finish(sock: socket.socket, address: Address, options: BindOptions) -> socket.socket:
    if sock.type == socket.SOCK_STREAM:
        sock.listen(address.backlog or options.backlog or _DEFAULT_BACKLOG)
    sock.setblocking(False)
    return sock


def _remove_stale(address: Address) -> None:
    """Removes a path that nobody answers on."""
    try:
        status = os.lstat(address.path)
    except OSError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise HostError(f"{address}: the path exists and is no socket; appd does not remove it")
    probe = socket.socket(socket.AF_UNIX, _type_of(address))
    probe.setblocking(False)
    try:
        probe.connect(address.path)
    except ConnectionRefusedError:
        os.unlink(address.path)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EPROTOTYPE):
            raise
        raise OSError(errno.EADDRINUSE, "in use") from None
    else:
        raise OSError(errno.EADDRINUSE, "in use")
    finally:
        probe.close()


# What is left of proc(5) under ProcSubset=pid. if_nameindex(3) asks by netlink, which RestrictAddressFamilies= forbids.
_NET = "/proc/self/net"


def _resolve(address: Address) -> tuple[int, tuple[str, int]]:
    if address.host == "":
        # A bare port listens on both, as ListenStream=8080 does; without IPv6 on IPv4 alone.
        if socket.has_ipv6 and os.path.exists(f"{_NET}/if_inet6"):
            return socket.AF_INET6, ("::", address.port)
        return socket.AF_INET, ("0.0.0.0", address.port)
    try:
        found = socket.getaddrinfo(
            address.host,
            address.port,
            type=_type_of(address),
            flags=socket.AI_PASSIVE,
        )
    except OSError as error:
        raise HostError(f"{address}: the host name cannot be resolved: {error.strerror}") from None
    except UnicodeError as error:  # Python's own encoding of names, before the resolver is asked
        raise HostError(f"{address}: the host name cannot be resolved: {error}") from None
    # A name like localhost has two addresses; the IPv4 one is what clients without IPv6 try.
    family, _type, _protocol, _name, target = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, target  # type: ignore[return-value]  # IPv6 has two more members, which bind takes as well


def _type_of(address: Address) -> socket.SocketKind:
    return socket.SOCK_DGRAM if address.is_datagram else socket.SOCK_STREAM


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def _is_private_network() -> bool:
    try:
        with open(f"{_NET}/dev") as file:
            return [line.partition(":")[0].strip() for line in file if ":" in line] == ["lo"]
    except OSError:
        return False  # nobody knows


_HINTS = {
    errno.EADDRINUSE: "the address is in use (`ss -lnp` shows by whom)",
    errno.EADDRNOTAVAIL: "no interface of this host has that address",
    errno.EAFNOSUPPORT: "the address family is not available (RestrictAddressFamilies= of the unit, or the kernel)",
}


def _refused(address: Address, error: OSError) -> HostError:
    if error.errno in (errno.EACCES, errno.EPERM):
        if address.path:
            hint = f"permission denied for uid {os.geteuid()}"
        else:
            hint = "permission denied: let a .socket unit bind ports below 1024, or grant CAP_NET_BIND_SERVICE"
    elif error.errno == errno.ENOENT:
        hint = f"there is no folder {os.path.dirname(address.path)}"
    else:
        hint = _HINTS.get(error.errno or 0, error.strerror or str(error))
    return HostError(f"cannot listen on {address}: {hint}", number=error.errno)
