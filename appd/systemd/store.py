"""Sockets that appd bound itself, kept by the supervisor for every worker and generation.

A worker that binds passes the descriptor up with FDSTORE=1, in sd_notify(3)'s own words; the supervisor hands it on to
systemd's store, which keeps it over a restart where FileDescriptorStoreMax= allows. A name says which address it is.
"""

from __future__ import annotations

import os
import stat

from appd.address import Address
from appd.startup.bare import socket
from appd.startup.patterns import pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from appd.systemd.notify import Notifier

__all__ = ["PREFIX", "Store", "store_name"]

PREFIX = "appd-"
# What `store_name` makes; a name with a colon or a NUL in it would spoil LISTEN_FDNAMES.
_NAME = pattern(PREFIX + r"[A-Za-z0-9./_=@%-]+")


def store_name(address: Address, server: str) -> str:
    """What a bound address is called in the store.

    Args:
        address: Where it is bound.
        server: The server, which tells two addresses of port 0 apart.

    Returns:
        A FDNAME: printable, without a colon, which sd_pid_notify_with_fds(3) would refuse.
    """
    plain = address._replace(mode=None, backlog=None)
    text = f"{server}={plain}" if address.kind in ("tcp", "udp") and address.port == 0 else str(plain)
    return PREFIX + "".join(
        one if (one.isascii() and one.isalnum()) or one in "./_-=@" else f"%{ord(one):02X}" for one in text
    )


class Store:
    """Name → descriptor.

    Attributes:
        binds_late: How long a name that was forgotten is not ended, in seconds: hosted code may bind it a moment later.

    Resource handling: owns its descriptors; `let_go` and `close` close them. The path of a UNIX socket goes with them.
    """

    binds_late = 5.0

    def __init__(self, kept: Iterable[tuple[str, int]] = ()) -> None:
        self._kept = dict(kept)
        self._leaving: dict[str, tuple[int, float]] = {}

    def items(self) -> Iterable[tuple[str, int]]:
        """Name and descriptor of each, in the order they came."""
        return self._kept.items()

    def __contains__(self, name: object) -> bool:
        return name in self._kept

    def __getitem__(self, name: str) -> int:
        return self._kept[name]

    def take(self, words: Mapping[str, str], fds: list[int]) -> str | None:
        """Takes over the descriptor of a message with FDSTORE=1.

        Args:
            words: The words of the message.
            fds: Its descriptors; what is taken is removed.

        Returns:
            The name, None when it is no socket of appd's.
        """
        name = words.get("FDNAME", "")
        if not fds or words.get("FDSTORE") != "1" or _NAME.fullmatch(name) is None or not _is_socket(fds[-1]):
            return None
        self.keep(name, fds.pop())
        return name

    def keep(self, name: str, fd: int) -> None:
        """Takes over a descriptor; one of the same name is closed, and not ended: it may be of the same socket."""
        earlier = [self._kept[name]] if name in self._kept else []
        if name in self._leaving:
            earlier.append(self._leaving.pop(name)[0])
        for one in earlier:
            os.close(one)
        self._kept[name] = fd

    def keep_only(self, wanted: Collection[str], notifier: Notifier, now: float) -> list[str]:
        """Forgets everything but some names, and has systemd do the same. `let_go` is to follow.

        Args:
            wanted: Those that are used.
            notifier: What tells systemd.
            now: The time, in seconds.

        Returns:
            What was forgotten.
        """
        gone = [name for name in self._kept if name not in wanted]
        for name in gone:
            fd = self._kept.pop(name)
            _remove_path(fd)
            self._leaving[name] = fd, now
            notifier.tell(also={"FDSTOREREMOVE": "1", "FDNAME": name})
        return gone

    def let_go(self, now: float) -> None:
        """Ends what was forgotten, when no worker waits for connections on it any more.

        A worker that drains, and what hosted code has started, may have the socket open for another hour. Who connects
        would wait for as long in a queue that nobody serves, and the address could not be bound again. But hosted code
        of the workers that have taken over may bind a moment after its start, and has the same socket by then.

        Args:
            now: The time, in seconds; what was forgotten less than `binds_late` ago stays.
        """
        for name, (fd, since) in list(self._leaving.items()):
            if now - since >= self.binds_late:
                del self._leaving[name]
                _end(fd)

    def close(self, environ: Mapping[str, str]) -> None:
        """Closes everything. Where systemd keeps the sockets over a restart, the paths stay, which clients know.

        Args:
            environ: FDSTORE= says how many systemd keeps; it does so from 254 on, the shipped unit for earlier ones.
        """
        keeps = environ.get("FDSTORE", "0") not in ("", "0")
        self.let_go(float("inf"))
        for fd in self._kept.values():
            if not keeps:
                _remove_path(fd)
            os.close(fd)
        self._kept.clear()


def _is_socket(fd: int) -> bool:
    return stat.S_ISSOCK(os.fstat(fd).st_mode)


def _remove_path(fd: int) -> None:
    """Removes the path of a UNIX socket, if it is one and has one."""
    if not _is_socket(fd):
        return
    sock = socket.socket(fileno=fd)
    try:
        path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
        if isinstance(path, str) and path.startswith("/") and stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except OSError:
        return
    finally:
        sock.detach()


def _end(fd: int) -> None:
    """Undoes listen(2), for every process that has the socket, and closes it."""
    if not _is_socket(fd):
        os.close(fd)
        return
    sock = socket.socket(fileno=fd)
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # one of datagrams, or none
    finally:
        sock.close()
