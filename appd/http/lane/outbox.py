"""What a client has not taken yet of a response: in memory, beyond that in a file.

A response goes out at once as far as the socket takes it; an outbox is made for the rest. Whoever makes the response
adds to it, whoever polls the socket sends from it, so that the thread of an application is free long before a slow
reader has all. Files are sent by the kernel (sendfile(2)) and never lie in it as bytes.
"""

from __future__ import annotations

from appd.http.spool import AT_ONCE, IN_MEMORY, Spool, Stretch
from appd.startup.bare import deque, socket

__all__ = ["Outbox"]


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
        # Late: a first answer seldom needs one.
        from threading import Condition

        self.lock = Condition()
        self.size = 0
        self.armed = False
        self.finished = False
        self.broken = False
        self._to = to
        self._pieces: deque[memoryview | Stretch] = deque()
        self._in_memory = 0
        self._spool = Spool()

    def add(self, data: bytes | memoryview) -> None:
        """Keeps bytes. With the lock.

        Raises:
            OSError: There is no room for the file.
        """
        if not data:
            return
        self.size += len(data)
        if self._spool.fd is None and self._in_memory + len(data) <= IN_MEMORY:
            self._in_memory += len(data)
            self._pieces.append(memoryview(data))
            return
        added = self._spool.add(data)
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, Stretch) and last.fd == added.fd and last.offset + last.left == added.offset:
            last.left += added.left
        else:
            self._pieces.append(added)

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
            while self._pieces and before - self.size < 4 * AT_ONCE:
                self._send(self._pieces[0])
        except BlockingIOError:
            pass
        if not self.size:
            # The next byte that has to wait may wait in memory.
            self._spool.close()
        return before - self.size

    def _send(self, piece: memoryview | Stretch) -> None:
        if isinstance(piece, Stretch):
            sent = piece.send(self._to)
            self.size -= sent
            if piece.spooled:
                self._spool.taken(sent)
            if not piece.left:
                piece.close()
                self._pieces.popleft()
            return
        sent = self._to.send(piece[:AT_ONCE])
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
        self._spool.close()
        self.lock.notify_all()
