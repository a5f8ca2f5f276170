"""Sockets that appd makes itself, when no .socket unit did.

They come out as systemd would make them: bound, listening, non-blocking, with the mode of the path set before anybody
can connect. A path that a dead process left behind is removed first; one that somebody answers on is in use.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping
from typing import NamedTuple

from appd.address import Address
from appd.errors import ConfigurationError, HostError

__all__ = ["BindOptions", "bind", "path_identity", "unlink_bound"]

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
        ConfigurationError: It would be a socket that nobody outside the unit can reach.
    """
    if address.path:
        return _bind_unix(address, options)
    family, target = _resolve(address)
    if (
        "INVOCATION_ID" in environ
        and not _is_loopback(target[0])
        and [name for _, name in socket.if_nameindex()] == ["lo"]
    ):
        raise ConfigurationError(
            f"{address}: nobody could reach it, this network namespace has only lo (PrivateNetwork= of the unit): "
            "pass the socket by a .socket unit, or remove PrivateNetwork="
        )
    type_ = socket.SOCK_DGRAM if address.is_datagram else socket.SOCK_STREAM
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


def unlink_bound(sock: socket.socket, identity: tuple[int, int] | None) -> None:
    """Removes the path of a UNIX socket that appd made, unless another has taken its place.

    Args:
        sock: The socket; the caller closes it.
        identity: What `path_identity` said right after `bind`.
    """
    if identity is not None and path_identity(sock) == identity:
        os.unlink(sock.getsockname())


def _bind_unix(address: Address, options: BindOptions) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if address.is_datagram else socket.SOCK_STREAM)
    try:
        abstract = address.path.startswith("@")
        if not abstract:
            _remove_stale(address)
        sock.bind("\0" + address.path[1:] if abstract else address.path)
        if not abstract:
            mode = address.mode if address.mode is not None else options.mode
            if mode is not None:
                os.chmod(address.path, mode)
            if options.user is not None or options.group is not None:
                os.chown(address.path, _user_id(address, options.user), _group_id(address, options.group))
        return _finish(sock, address, options)
    except OSError as error:
        sock.close()
        raise _refused(address, error) from None
    except BaseException:
        sock.close()
        raise


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
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if address.is_datagram else socket.SOCK_STREAM)
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


def _resolve(address: Address) -> tuple[int, tuple[str, int]]:
    if address.host == "":
        # A bare port listens on both, as ListenStream=8080 does; without IPv6 on IPv4 alone.
        if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):
            return socket.AF_INET6, ("::", address.port)
        return socket.AF_INET, ("0.0.0.0", address.port)
    try:
        found = socket.getaddrinfo(
            address.host,
            address.port,
            type=socket.SOCK_DGRAM if address.is_datagram else socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except OSError as error:
        raise HostError(f"{address}: the host name cannot be resolved: {error.strerror}") from None
    # A name like localhost has two addresses; the IPv4 one is what clients without IPv6 try.
    family, _type, _protocol, _name, target = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, target  # type: ignore[return-value]  # IPv6 has two more members, which bind takes as well


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def _user_id(address: Address, user: str | None) -> int:
    import pwd

    try:
        return -1 if user is None else int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ConfigurationError(f"{address}: there is no user {user!r}") from None


def _group_id(address: Address, group: str | None) -> int:
    import grp

    try:
        return -1 if group is None else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigurationError(f"{address}: there is no group {group!r}") from None


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
