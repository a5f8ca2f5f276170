"""What of a response lies in files: those that are served, and the one that is made for what a client has not taken."""

from __future__ import annotations

import os

from appd.startup.bare import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

__all__ = ["AT_ONCE", "IN_MEMORY", "Spool", "Stretch"]

# Of what waits for a client, so many bytes are kept in memory.
IN_MEMORY = 262144
# Bytes for one send(2) or sendfile(2): the thread that polls serves others in between.
AT_ONCE = 1048576


class Stretch:
    """A part of a file.

    Args:
        fd: The file.
        offset: Where it begins.
        left: How many bytes.
        owned: Whether the descriptor is closed when they are sent, or given up.
    """

    __slots__ = ("fd", "left", "offset", "owned")

    def __init__(self, fd: int, offset: int, left: int, owned: bool = False) -> None:
        self.fd = fd
        self.offset = offset
        self.left = left
        self.owned = owned

    def send(self, to: socket.socket) -> int:
        """Sends what the socket takes.

        Raises:
            BlockingIOError: Nothing, at the moment.
            OSError: The connection is broken.
            EOFError: The file has become shorter.
        """
        send_file = getattr(to, "send_file", None)  # of TLS, which has to see every byte: see `TlsSocket`
        if send_file is None:
            sent = os.sendfile(to.fileno(), self.fd, self.offset, min(self.left, AT_ONCE))
        else:
            sent = send_file(self.fd, self.offset, self.left)
        if not sent:
            raise EOFError(f"{self.left} bytes of the file are missing")
        self.offset += sent
        self.left -= sent
        return sent

    def close(self) -> None:
        """Gives it up."""
        if self.owned:
            self.owned = False
            os.close(self.fd)


class Spool:
    """A file without a name, for what does not fit into memory. One thread adds at a time.

    Attributes:
        fd: The file; None while there is none.

    Resource handling: owns the file from the first `add` until `close`.
    """

    __slots__ = ("_end", "_file", "fd")

    def __init__(self) -> None:
        self.fd: int | None = None
        self._file: IO[bytes] | None = None
        self._end = 0

    def add(self, data: bytes | memoryview) -> Stretch:
        """Keeps bytes.

        Returns:
            Where they are.

        Raises:
            OSError: There is no room.
        """
        if self._file is None:
            from tempfile import TemporaryFile  # late: it imports shutil and random

            self._file = TemporaryFile(buffering=0)  # noqa: SIM115  # as long as the spool
            self.fd = self._file.fileno()
        fd, offset, view = self._file.fileno(), self._end, memoryview(data)
        while view:
            written = os.pwrite(fd, view, self._end)
            self._end += written
            view = view[written:]
        return Stretch(fd, offset, self._end - offset)

    def close(self) -> None:
        """Gives the file up; the next byte makes another."""
        if self._file is not None:
            self._file.close()
            self._file, self.fd, self._end = None, None, 0
