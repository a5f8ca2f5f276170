"""journald's native protocol.

Follows https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ and, in how it sends, sd_journal_sendv(3). Two things are not as
there, and are why that function is not called. It is not called through ``systemd.journal`` because that keeps the
interpreter lock while it waits. And a journal that is not there is an error here, not a success: the entry then goes to
standard error.
"""

from __future__ import annotations

import errno

from appd.journal.entry import Entry, Value, is_field_name, to_bytes
from appd.journal.outlet import Patience, wait_writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from socket import socket

__all__ = ["SOCKET_PATH", "JournalSocket", "serialize"]

SOCKET_PATH = "/run/systemd/journal/socket"

# Beyond this a sealed memfd is passed: datagrams of that size need large contiguous pieces of kernel memory.
_DATAGRAM_MAX = 64 * 1024
# As libsystemd: room to go on while journald is busy.
_SEND_BUFFER = 8 * 1024 * 1024


def serialize(entry: Entry, fields: Mapping[str, Value]) -> bytes:
    r"""Give an entry in the format of the native protocol.

    Args:
        entry: The entry.
        fields: Fields of every entry of this process; the entry's own win.

    Returns:
        ``NAME=value\n`` for each field, or name, newline, length, value, newline where the value has newlines. Fields
        whose names journald would refuse are left out.
    """
    merged: dict[str, Value] = {**fields, **entry.fields, "PRIORITY": entry.priority, "MESSAGE": entry.message}
    parts = []
    for name, value in merged.items():
        if not is_field_name(name):
            continue
        data = to_bytes(value)
        if b"\n" in data:
            parts.append(b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data))
        else:
            parts.append(b"%b=%b\n" % (name.encode(), data))
    return b"".join(parts)


_SIOCOUTQ = 0x5411
# A process waits at its end at most a quarter of a second for journald, in such steps (seconds).
_SETTLE_STEP = 0.005
_SETTLE_STEPS = 50


class JournalSocket:
    """The way to journald.

    Resource handling: opens its socket at the first `send`, `close` closes it. Only one thread may use it.
    """

    def __init__(self, path: str = SOCKET_PATH) -> None:
        """Prepare; nothing is opened.

        Args:
            path: Where journald listens.
        """
        self._path = path
        self._socket: socket | None = None

    def send(self, data: bytes, patience: Patience) -> None:
        """Send one entry.

        Args:
            data: As `serialize` gives it.
            patience: Whether to go on waiting for a journald that is behind.

        Raises:
            OSError: There is no journal, the entry is not delivered.
            Stopped: Patience ended.
        """
        if self._socket is not None:
            try:
                return self._transmit(self._socket, data, patience)
            except OSError:
                # systemd-journald.socket was restarted: the old socket is refused for ever, a new one may not be.
                self.close()
        self._socket = self._connect()
        return self._transmit(self._socket, data, patience)

    def settle(self) -> None:
        """Wait a moment until journald has taken what was sent.

        journald looks up the unit of a sender in /proc when it takes an entry: those of a process that has gone by then
        belong to no unit, and `journalctl -u` does not show them.
        """
        import fcntl
        import time

        if self._socket is None:
            return
        for _ in range(_SETTLE_STEPS):
            # unix(7), SIOCOUTQ: what the receiver has not taken yet.
            waiting = fcntl.ioctl(self._socket.fileno(), _SIOCOUTQ, b"\0\0\0\0")
            if waiting == b"\0\0\0\0":
                break
            time.sleep(_SETTLE_STEP)
        time.sleep(_SETTLE_STEP)

    def close(self) -> None:
        """Close the socket; a later `send` opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket:
        """Open a non-blocking socket. It is connected, since poll(2) only then tells when journald's queue has room."""
        from appd.startup.bare import socket

        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _transmit(self, connection: socket, data: bytes, patience: Patience) -> None:
        """Send as a datagram, or in a memfd when it is too large for one."""
        if len(data) <= _DATAGRAM_MAX:
            try:
                return _when_writable(connection, lambda: connection.send(data), patience)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
        return _transmit_memfd(connection, data, patience)


def _when_writable(connection: socket, send: Callable[[], object], patience: Patience) -> None:
    """Try to send until journald's queue has room."""
    while True:
        try:
            send()
            return
        except BlockingIOError:
            wait_writable(connection.fileno(), patience)


def _transmit_memfd(connection: socket, data: bytes, patience: Patience) -> None:
    """Pass a memfd. journald maps only a fully sealed one without copying it."""
    import os
    import socket

    from appd.sealed import write_sealed

    memfd = write_sealed("appd-journal", data)
    try:
        _when_writable(connection, lambda: socket.send_fds(connection, [b""], [memfd]), patience)
    finally:
        os.close(memfd)
