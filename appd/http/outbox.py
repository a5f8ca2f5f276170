"""What a client has not taken yet of a response: in memory, beyond that in a file.

A response goes out at once as far as the socket takes it; an outbox is made for the rest. Whoever makes the response
adds to it, whoever polls the socket sends from it, so that the thread of an application is free long before a slow
reader has all. Files are sent by the kernel (sendfile(2)) and never lie in it as bytes.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from threading import Condition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

__all__ = ["Outbox", "Stretch"]

# Of what waits, so many bytes are kept in memory.
_IN_MEMORY = 262144
# Bytes for one send(2) or sendfile(2): the thread that polls serves others in between.
_AT_ONCE = 1048576
_PLAIN = (socket.SocketType, socket.socket)


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
        if type(to) in _PLAIN:
            sent = os.sendfile(to.fileno(), self.fd, self.offset, min(self.left, _AT_ONCE))
        else:  # TLS, which has to see every byte
            sent = to.send_file(self.fd, self.offset, self.left)  # type: ignore[attr-defined]  # see `TlsSocket`
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


class Outbox:
    """The rest of one response.

    Args:
        to: The socket, non-blocking.

    Attributes:
        lock: Held by whoever touches the rest; notified when there is less of it, or none for ever.
        size: How many bytes wait.
        armed: Whether somebody polls for the socket to take more.
        finished: Whether the response is complete; nobody adds any more.
        broken: Whether the client gets no more.

    Resource handling: owns a temporary file when there is much, and the files that were added as owned; `close`.
    """

    def __init__(self, to: socket.socket) -> None:
        self.lock = Condition()
        self.size = 0
        self.armed = False
        self.finished = False
        self.broken = False
        self._to = to
        self._pieces: deque[memoryview | Stretch] = deque()
        self._in_memory = 0
        self._file: IO[bytes] | None = None
        self._end = 0

    def add(self, data: bytes | memoryview) -> None:
        """Keeps bytes. With the lock.

        Raises:
            OSError: There is no room for the file.
        """
        if not data:
            return
        self.size += len(data)
        if self._file is None and self._in_memory + len(data) <= _IN_MEMORY:
            self._in_memory += len(data)
            self._pieces.append(memoryview(data))
            return
        if self._file is None:
            from tempfile import TemporaryFile  # late: it imports shutil and random

            self._file = TemporaryFile(buffering=0)  # noqa: SIM115  # as long as the outbox
        offset, view = self._end, memoryview(data)
        while view:
            written = os.pwrite(self._file.fileno(), view, self._end)
            self._end += written
            view = view[written:]
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, Stretch) and last.fd == self._file.fileno() and last.offset + last.left == offset:
            last.left += self._end - offset
        else:
            self._pieces.append(Stretch(self._file.fileno(), offset, self._end - offset))

    def add_file(self, stretch: Stretch) -> None:
        """Keeps a part of a file. With the lock."""
        if stretch.left:
            self.size += stretch.left
            self._pieces.append(stretch)
        else:
            stretch.close()

    def flush(self) -> int:
        """Sends what the socket takes, but not for ever. With the lock.

        Returns:
            How many bytes.

        Raises:
            OSError: The connection is broken, or a file.
            EOFError: A file has become shorter.
        """
        before = self.size
        try:
            while self._pieces and before - self.size < 4 * _AT_ONCE:
                self._send(self._pieces[0])
        except BlockingIOError:
            pass
        if not self.size and self._file is not None:
            # The next byte that has to wait may wait in memory.
            self._file.close()
            self._file, self._end = None, 0
        return before - self.size

    def _send(self, piece: memoryview | Stretch) -> None:
        if isinstance(piece, Stretch):
            self.size -= piece.send(self._to)
            if not piece.left:
                piece.close()
                self._pieces.popleft()
            return
        sent = self._to.send(piece[:_AT_ONCE])
        self.size -= sent
        self._in_memory -= sent
        if sent == len(piece):
            self._pieces.popleft()
        else:
            self._pieces[0] = piece[sent:]

    def close(self) -> None:
        """Gives up the rest. With the lock."""
        self.broken = True
        self.size = self._in_memory = 0
        for one in self._pieces:
            if isinstance(one, Stretch):
                one.close()
        self._pieces.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
        self.lock.notify_all()
