"""A TLS socket that behaves as the plain ones do which the lane knows: what it cannot do now is a BlockingIOError.

Python's ssl on the socket itself, without memory BIOs in between: a record goes from OpenSSL's buffer to the kernel at
once. A session belongs to whoever has its client; nothing here is locked.

What is told apart: `recv` says b"" for close_notify (RFC 8446, 6.1), after which one may still send, and raises for a
connection that was only cut off. OpenSSL has nothing left when `recv` returns, so that whoever polls the socket next
misses nothing.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable
from typing import Any

__all__ = ["TlsSocket"]

# The most that a record carries: RFC 8446, 5.1. OpenSSL gives no more at a time, and writes no more.
_RECORD = 16384
# Bytes of a file for one turn.
_FILE = 131072


class TlsSocket(ssl.SSLSocket):
    """The server's end of a connection; made by contexts whose `sslsocket_class` it is.

    Attributes:
        asked_name: The name that the client asked for (SNI), "" for none; see `appd.tls.stdlib`.
        wants_write: Whether what was to be read has to wait until the socket takes something: an answer to KeyUpdate.
        has_ended: Whether we have said that nothing more comes.
    """

    asked_name = ""
    wants_write = False
    has_ended = False

    # CPython's name for what does the work; every call by way of SSLSocket's own methods takes two more.
    _sslobj: Any

    def do_handshake(self, block: bool = False) -> None:
        """Goes on with the handshake as far as it goes.

        Raises:
            ssl.SSLWantReadError: The client is to say more.
            ssl.SSLWantWriteError: The socket takes nothing.
            OSError: It has failed.
        """
        if self._sslobj is None:
            raise _gone()
        self._sslobj.do_handshake()

    def recv(self, size: int = _RECORD, flags: int = 0) -> bytes:
        """Receives what has come, decrypted; with flags (MSG_PEEK) what lies in the socket, as it is.

        Raises:
            BlockingIOError: Nothing has come.
            OSError: The connection is broken.
        """
        if flags:
            return socket.socket.recv(self, size, flags)
        tls = self._sslobj
        try:
            data: bytes = tls.read(_RECORD)
        except ssl.SSLWantReadError:
            self.wants_write = False
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self.wants_write = True
            raise BlockingIOError from None
        except ssl.SSLZeroReturnError:  # its end, after ours
            return b""
        except AttributeError:
            raise _gone() from None
        if data and (tls.pending() or size > _RECORD):
            return self._read_on(data, size)
        return data

    def _read_on(self, data: bytes, most: int) -> bytes:
        """The rest of a longer piece, and in any case all that OpenSSL has."""
        parts, length = [data], len(data)
        try:
            while length < most or self._sslobj.pending():
                data = self._sslobj.read(_RECORD)
                if not data:
                    break
                parts.append(data)
                length += len(data)
        except OSError:
            # What has come comes first; what is the matter is told by the next call.
            pass
        return b"".join(parts)

    def send(self, data: Any, flags: int = 0) -> int:
        """Sends as many records as the socket takes.

        Returns:
            How many bytes. What is left has to be sent next, and nothing else.

        Raises:
            BlockingIOError: None.
            OSError: The connection is broken.
        """
        size = len(data)
        try:
            if size <= _RECORD:
                whole: int = self._sslobj.write(data)
                return whole
            view = memoryview(data)
            sent: int = self._sslobj.write(view[:_RECORD])
        except ssl.SSLWantWriteError:
            raise BlockingIOError from None
        except AttributeError:
            raise _gone() from None
        # Only a renegotiation would want to read here, and there is none. A record at a time: of a longer write that
        # stops in between OpenSSL would not say how far it came, and want the same again.
        try:
            while sent < size:
                sent += self._sslobj.write(view[sent : sent + _RECORD])
        except OSError:
            # The next call finds out what is the matter.
            pass
        return sent

    def sendmsg(self, buffers: Iterable[Any]) -> int:  # type: ignore[override]  # Python's refuses it
        """Sends several pieces as one; see `send`."""
        return self.send(b"".join(buffers))

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Sends a part of a file, as sendfile(2) does for plain sockets; see `send`.

        Returns:
            How many bytes; 0 when the file has no more.
        """
        data = os.pread(fd, min(count, _FILE), offset)
        return self.send(data) if data else 0

    def shutdown(self, how: int) -> None:
        """Says that nothing more comes, by TLS as far as that goes at once, and by TCP.

        Raises:
            OSError: The connection is broken.
        """
        self.say_end()
        socket.socket.shutdown(self, how)

    def say_end(self) -> bool:
        """Sends close_notify; the other side's is not waited for.

        Returns:
            Whether it is sent, or cannot be any more; else the socket takes nothing now.
        """
        if self.has_ended:
            return True
        try:
            self.unwrap()
        except ssl.SSLWantWriteError:
            return False
        except (OSError, ValueError):
            # Usually SSLWantReadError: ours is sent.
            pass
        self.has_ended = True
        return True


def _gone() -> OSError:
    """Both sides have said their ends, and OpenSSL's part is over."""
    return BrokenPipeError("the connection has ended")
