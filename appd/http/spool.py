"""What of a response lies in files: those that are served, and the one that is made for what a client has not taken."""

from __future__ import annotations

import os

from appd.startup.bare import deque, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

__all__ = ["AT_ONCE", "IN_MEMORY", "Spool", "Stretch"]

# Of what waits for a client, so many bytes are kept in memory.
IN_MEMORY = 262144
# Bytes for one send(2) or sendfile(2): the thread that polls serves others in between.
AT_ONCE = 1048576
# From so many bytes on what is added goes to another file.
_FILE = 4194304


class Stretch:
    """A part of a file.

    Args:
        fd: The file.
        offset: Where it begins.
        left: How many bytes.
        owned: Whether the descriptor is closed when they are sent, or given up.

    Attributes:
        spooled: Whether a `Spool` has to know what was taken of it.
    """

    __slots__ = ("fd", "left", "offset", "owned", "spooled")

    def __init__(self, fd: int, offset: int, left: int, owned: bool = False) -> None:
        self.fd = fd
        self.offset = offset
        self.left = left
        self.owned = owned
        self.spooled = False

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


class _File:
    """A file of a spool, which goes when all that was put into it is taken and it is not the last one."""

    __slots__ = ("end", "file", "left")

    def __init__(self) -> None:
        from tempfile import TemporaryFile  # late: it imports shutil and random

        self.file: IO[bytes] = TemporaryFile(buffering=0)  # noqa: SIM115  # as long as the spool
        self.end = self.left = 0


class Spool:
    """Files without names, for what does not fit into memory: first in, first out. One thread at a time.

    There are several, one after the other, so that what a slow reader has taken of a response without an end gives its
    room back: beside what waits, the files have at most `_FILE` bytes and the last part that was added.

    Attributes:
        fd: The file that is added to; None while there is none.

    Resource handling: owns the files from the first `add` until `close`.
    """

    __slots__ = ("_files", "fd")

    def __init__(self) -> None:
        self.fd: int | None = None
        self._files: deque[_File] = deque()

    def add(self, data: bytes | memoryview) -> Stretch:
        """Keeps bytes.

        Returns:
            Where they are.

        Raises:
            OSError: There is no room.
        """
        if not self._files or self._files[-1].end >= _FILE:
            self._files.append(_File())
            self._forget()
        last, view = self._files[-1], memoryview(data)
        fd, offset = last.file.fileno(), last.end
        self.fd = fd
        while view:
            written = os.pwrite(fd, view, last.end)
            last.end += written
            last.left += written
            view = view[written:]
        made = Stretch(fd, offset, last.end - offset)
        made.spooled = True
        return made

    def taken(self, size: int) -> None:
        """So many bytes are not needed any more: the first ones, which lie in one stretch."""
        if self._files:
            self._files[0].left -= size
            self._forget()

    def _forget(self) -> None:
        while len(self._files) > 1 and not self._files[0].left:
            self._files.popleft().file.close()

    def close(self) -> None:
        """Gives the files up; the next byte makes another."""
        for one in self._files:
            one.file.close()
        self._files.clear()
        self.fd = None
