"""A TLS session with its socket, that behaves as the plain sockets do which the lane knows.

The session is Python's ssl between two buffers in memory (BIOs), and the socket is read and written here: a recv(2)
takes all that has come, where OpenSSL on the socket itself takes two for each record and another to learn that nothing
is left; a send(2) carries several records, the first one the ticket too. A session belongs to whoever has its client;
nothing here is locked.

What is told apart: `recv` says b"" for close_notify (RFC 8446, 6.1), after which one may still send, and raises for a
connection that was only cut off. Nothing is left in a buffer when `recv` returns, so that whoever polls the socket next
misses nothing; `may_have_more` says whether the socket may have.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

__all__ = ["TlsSocket"]

# The most that a record carries: RFC 8446, 5.1. OpenSSL gives no more at a time.
_RECORD = 16384
# Bytes for one send(2). The buffer of a connection keeps the size that it once had (44 KB) as long as it lasts; 16 KB
# cost a quarter of the rate of large answers, and 64 KB gain nothing.
_AT_ONCE = 32768
# Bytes of a file for one turn.
_FILE = 131072
# Who has so many bytes waiting that are no answers to requests, does not read what it asks for.
_MOST = 131072
_TAKES_NOTHING = "the client has much to answer, and takes no answer"
# What has to be said though nobody asks for data (an alert, answers to KeyUpdate) waits for data, up to here.
_ASIDE = 4096


class TlsSocket(ssl.SSLObject):
    """The server's end of a connection; made by contexts whose `sslobject_class` it is, and completed by `begin`.

    Attributes:
        plain: The socket.
        asked_name: The name that the client asked for (SNI), "" for none; see `appd.tls.stdlib`.
        may_have_more: Whether more may lie in the socket than `recv` has taken; whoever acts on it takes it back.
        has_ended: Whether we have said that nothing more comes.
    """

    plain: socket.socket
    asked_name = ""
    may_have_more = False
    has_ended = False

    # CPython's name for what does the work; every call by way of SSLObject's own methods takes one more.
    _sslobj: Any
    _coming: ssl.MemoryBIO
    _going: ssl.MemoryBIO
    # What the socket did not take, and how many bytes of data it stands for.
    _rest = b""
    _covers = 0
    _peer_has_ended = False
    # Whether a part of a record has been received.
    _has_part = False
    # What was the matter behind data that came first.
    _failure: OSError | None = None

    def begin(self, plain: socket.socket, coming: ssl.MemoryBIO, going: ssl.MemoryBIO) -> None:
        """Gives it what it works with.

        Args:
            plain: The socket, non-blocking; it belongs to this from now on.
            coming: What the session reads from.
            going: What it writes to.
        """
        self.plain = plain
        self._coming = coming
        self._going = going
        # Python finds what a session has itself sooner than what its class has.
        self.may_have_more = self._has_part = False
        self._rest = b""

    @property
    def owes(self) -> bool:
        """Whether something waits for the socket to take more."""
        return bool(self._rest)

    def shake(self, data: bytes = b"") -> int | None:
        """Goes on with the handshake as far as it goes.

        Args:
            data: What was received already. Without it more is received; unless something waits to be sent, which goes
                first.

        Returns:
            None until it is done; then how many bytes have come that are not decrypted yet: the first request. With TLS
            1.3 the ticket then waits for the first data to go with.

        Raises:
            BlockingIOError: Nothing has come, or the socket takes nothing: see `owes`.
            OSError: It has failed, or the connection is broken.
        """
        session = self._sslobj
        if not data:
            if self._rest:
                self._push()
            else:
                data = self.plain.recv(_RECORD)
                if len(data) == _RECORD:
                    self.may_have_more = True
                elif not data:
                    self._coming.write_eof()
        if data:
            self._coming.write(data)
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            self._push()
            return None
        except ssl.SSLError:
            self._say_why()
            raise
        if session.version() != "TLSv1.3":
            self._push()
        return self._coming.pending

    def recv(self, size: int = _RECORD, flags: int = 0) -> bytes:
        """Receives what has come, decrypted; with flags (MSG_PEEK) what lies in the socket, as it is.

        Args:
            size: How many bytes are taken from the socket.
            flags: As of recv(2).

        Raises:
            BlockingIOError: Nothing has come.
            OSError: The connection is broken.
        """
        if flags:
            return self.plain.recv(size, flags)
        data = self.plain.recv(size)
        if not data:
            if self._peer_has_ended:
                return data
            raise self._failure or ConnectionAbortedError("cut off without close_notify")
        if len(data) == size:
            self.may_have_more = True
        coming = self._coming
        coming.write(data)
        if self._has_part:
            return self.decrypt()
        try:
            # No more comes of it than has come: to make room for a whole record costs more than to read a small one.
            found: bytes = self._sslobj.read(len(data))
        except ssl.SSLError as error:
            return self._not_decrypted(error)
        if found and not coming.pending and self._going.pending <= _ASIDE:
            return found
        return self._decrypt_on(found)

    def decrypt(self) -> bytes:
        """As `recv`, of what was received already."""
        self._has_part = False
        try:
            data: bytes = self._sslobj.read(_RECORD)
        except ssl.SSLError as error:
            return self._not_decrypted(error)
        return self._decrypt_on(data)

    def _not_decrypted(self, error: ssl.SSLError) -> bytes:
        if isinstance(error, ssl.SSLWantReadError):
            self._has_part = True
            if self._going.pending:  # what was asked of the session itself: a renegotiation, other keys
                self._push()  # which may raise the same
            raise BlockingIOError from None
        if isinstance(error, ssl.SSLZeroReturnError):  # its end, after ours
            self._peer_has_ended = True
            return b""
        self._say_why()
        raise error

    def _decrypt_on(self, data: bytes) -> bytes:
        """What has come behind a record, and the end."""
        if not data:
            self._peer_has_ended = True
            return data
        parts = [data]
        try:
            while self._coming.pending:
                data = self._sslobj.read(_RECORD)
                if not data:
                    self._peer_has_ended = True
                    self._end_reading()
                    break
                parts.append(data)
        except ssl.SSLWantReadError:
            self._has_part = True
        except OSError as error:
            # What has come comes first.
            self._failure = error
            self._say_why()
            self._end_reading()
        if self._going.pending > _ASIDE:
            self._say_why()
            if len(self._rest) > _MOST:
                self._failure = ConnectionAbortedError(_TAKES_NOTHING)
                self._end_reading()
        return b"".join(parts)

    def _end_reading(self) -> None:
        """Has the socket say that the end has come, which the session has found behind data."""
        with suppress(OSError):  # it is the end in any case
            self.plain.shutdown(socket.SHUT_RD)

    def send(self, data: Any, flags: int = 0) -> int:
        """Sends as much as the socket takes.

        Returns:
            How many bytes. What is left has to be sent next, and nothing else: it may be encrypted already.

        Raises:
            BlockingIOError: None.
            OSError: The connection is broken.
        """
        sent = 0
        if self._rest:
            self._push()
            sent, self._covers = self._covers, 0
        size = len(data)
        if not sent and size <= _AT_ONCE:
            self._sslobj.write(data)
            going = self._going.read()
            try:
                taken = self.plain.send(going, flags)
            except BlockingIOError:
                taken = 0
            if taken == len(going):
                return size
            self._rest, self._covers = going[taken:], size
            raise BlockingIOError
        view = memoryview(data)
        while sent < size:
            part = view[sent : sent + _AT_ONCE]
            self._sslobj.write(part)
            going = self._going.read()
            taken = self._send(going, flags)
            if taken != len(going):
                self._rest, self._covers = going[taken:], len(part)
                if not sent:
                    raise BlockingIOError
                break
            sent += len(part)
        return sent

    def _push(self) -> None:
        """Sends what waits.

        Raises:
            BlockingIOError: The socket does not take all of it.
            OSError: The connection is broken.
        """
        data = self._going.read()
        if self._rest:
            data = self._rest + data
        if not data:
            return
        try:
            rest = data[self.plain.send(data) :]
        except BlockingIOError:
            rest = data
        except OSError:
            self._rest = data
            raise
        self._rest = rest
        if rest:
            if len(rest) > _MOST:
                raise ConnectionAbortedError(_TAKES_NOTHING)
            raise BlockingIOError

    def _send(self, data: bytes, flags: int = 0) -> int:
        """How many bytes the socket takes, which may be none."""
        try:
            return self.plain.send(data, flags)
        except BlockingIOError:
            return 0

    def _say_why(self) -> None:
        """Sends the alert or whatever else the session has to say, if there is something and it can be sent."""
        with contextlib.suppress(OSError):
            self._push()

    def sendmsg(self, buffers: Iterable[Any]) -> int:
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
        self.plain.shutdown(how)

    def say_end(self) -> bool:
        """Sends close_notify; the other side's is not waited for.

        Returns:
            Whether it is sent, or cannot be any more; else the socket takes nothing now.
        """
        if not self.has_ended:
            self.has_ended = True
            with suppress(OSError, ValueError):  # usually SSLWantReadError: ours is written
                self._sslobj.shutdown()
        try:
            self._push()
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    # As of the socket.

    def fileno(self) -> int:
        """The descriptor."""
        return self.plain.fileno()

    def getsockopt(self, *args: Any) -> Any:
        """See getsockopt(2)."""
        return self.plain.getsockopt(*args)

    def setsockopt(self, *args: Any) -> None:
        """See setsockopt(2)."""
        self.plain.setsockopt(*args)

    def close(self) -> None:
        """Closes the socket; nothing more is said."""
        self.plain.close()
