"""Transports of accepted streams that send what they can at once.

Twisted's own put every write into a buffer, ask the reactor when the socket is writable (epoll_ctl(2)), and send in
its next turn (epoll_wait(2), send(2), epoll_ctl(2) again), though the socket is nearly always writable. Here

* what is written while data is received is sent, in one piece, when the protocol is through with that data. So a
  protocol that writes a line in three parts makes one packet of it, as with Twisted's;
* what is written at another time is sent in the write itself, if Nagle's algorithm (RFC 896) is off, as TLS has it, and
  over UNIX sockets; else it waits for the next turn as Twisted has it: the second of two small packets would wait for
  the peer's acknowledgement of the first, which may take 40 ms;
* only what the socket does not take waits for writability, and then everything is as Twisted has it.

What comes fast is taken in larger pieces: after a read that was full the next one takes up to four times as much.
With eight messages of 64 KB on their way on each of 64 connections an echo costs half of what it did with reads that
stay small, as the receive queues are kept short.

Nothing else changes. What Twisted does when a buffer has become empty (ask a producer for more, close, close one side)
it still does, in the next turn: for that the transport asks for writability after all. An error of a send is not told
in the write: it is found again in the next turn, and ends the connection from there.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet import main, tcp, unix

__all__ = ["CountedTCPServer", "CountedUNIXServer", "PacedTCPServer", "PacedUNIXServer"]

# What a read takes, in bytes: the second figure after one that took the first or more.
_READ = 64 * 1024
_LARGE_READ = 256 * 1024
# What one send gives the kernel at most, in bytes; Twisted's limit is half of it.
_MOST_SENT = 256 * 1024
# Room for what may come with a read: unix(7) sends 253 descriptors at once, and who sent them where it is asked to.
_ANCILLARY_ROOM = 2048
# What may wait to be sent before a paced connection is not read any more, in bytes.
_MOST_UNSENT = 128 * 1024


def _keep_large_memory() -> None:
    """Has glibc's malloc(3) keep the memory of large reads, in place of mapping and unmapping it for each.

    mallopt(3), M_MMAP_THRESHOLD: what was had from mmap(2) and is given back whole raises the threshold to its own
    size. The buffer of a read is never given back whole, as bytes are cut to what has come.
    """
    bytearray(2 * _LARGE_READ)


class _PromptMixin:
    """Sends at the end of a read, or in the write, what Twisted sends a turn later."""

    _reading = False
    _owes = False
    """Whether writing was asked for during a read."""
    _at_once = False
    """Whether Nagle's algorithm is off."""
    _failed = False
    """Whether a send has found the connection broken; the kernel tells it once."""
    stirred = True
    """Whether something has come or gone since the record of connections has last looked."""
    _next_read = _READ
    """How much the next read takes."""
    _keeps_memory = False
    """Whether `_keep_large_memory` has been called in this process."""

    def _dataReceived(self, data: bytes | None) -> Any:
        transport: Any = self
        if not data:
            return main.CONNECTION_LOST if self._failed else main.CONNECTION_DONE
        if len(data) >= _READ:
            if self._next_read == _READ:
                self._read_more()
        elif self._next_read != _READ:
            self._next_read = _READ
        self.stirred = self._reading = True
        try:
            transport.protocol.dataReceived(data)
        finally:
            self._reading = False
        if self._owes:
            self._pay()
        return None

    def _read_more(self) -> None:
        """Takes larger pieces from now on, until a read is not full."""
        if not _PromptMixin._keeps_memory:
            _PromptMixin._keeps_memory = True
            _keep_large_memory()
        self._next_read = _LARGE_READ

    def _pay(self) -> None:
        """Sends what was written during a read, or waits for what was asked for in it."""
        transport: Any = self
        self._owes = False
        if transport.connected and not transport._aborting:
            if transport._tempDataLen and not transport.dataBuffer:
                self._send()
            else:
                transport.startWriting()

    def write(self, data: bytes) -> None:
        """See ITransport.write."""
        transport: Any = self
        if transport.TLS or not (self._reading or self._at_once) or type(data) is not bytes:
            super().write(data)  # type: ignore[misc]  # the transport this is mixed into has it
            return
        if not data or not transport.connected or transport._writeDisconnected:
            return
        transport._tempDataBuffer.append(data)
        transport._tempDataLen += len(data)
        if transport.dataBuffer or transport._aborting:
            transport._maybePauseProducer()
            transport.startWriting()
        elif not self._reading or transport._tempDataLen > transport.bufferSize:
            self._send()
        else:
            self._owes = True

    def _send(self) -> None:
        """Sends what was written since the buffer was last empty."""
        transport: Any = self
        parts = transport._tempDataBuffer
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        transport._tempDataBuffer = []
        transport._tempDataLen = 0
        sent = transport.writeSomeData(data)
        if sent == len(data):
            if (
                transport.disconnecting
                or transport._writeDisconnecting
                or (transport.producer is not None and (not transport.streamingProducer or transport.producerPaused))
            ):
                transport.startWriting()
            return
        # The rest, or all when it failed: doWrite will find out again what is wrong.
        transport.dataBuffer = data
        transport.offset = 0 if isinstance(sent, Exception) else sent
        transport._maybePauseProducer()
        transport.startWriting()

    def writeSomeData(self, data: Any) -> Any:
        """See IFileDescriptor; Twisted's own, in fewer steps."""
        transport: Any = self
        try:
            sent = transport.socket.send(data if len(data) <= _MOST_SENT else memoryview(data)[:_MOST_SENT])
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return 0
            self._failed = True
            return main.CONNECTION_LOST
        self.stirred = True
        return sent

    def startWriting(self) -> None:
        """Waits for writability; during a read that can be left to its end."""
        if self._reading:
            self._owes = True
        else:
            super().startWriting()  # type: ignore[misc]  # the transport this is mixed into has it

    def stopWriting(self) -> None:
        """Waits for it no more."""
        self._owes = False
        super().stopWriting()  # type: ignore[misc]  # the transport this is mixed into has it


class _CountedMixin:
    """A transport that its port's record of connections knows of until it is lost."""

    server: Any

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.server.connections.add(self)

    def login_done(self) -> None:
        """See `appd.limits.logged_in`."""
        self.server.connections.logged_in(self)

    def connectionLost(self, reason: Any) -> None:
        try:
            super().connectionLost(reason)  # type: ignore[misc]  # the transport this is mixed into has it
        finally:
            self.server.connections.discard(self)


class CountedTCPServer(_CountedMixin, _PromptMixin, tcp.Server):
    """A TCP connection."""

    hostname: Any

    @property
    def peer_host(self) -> str:
        """The address of the peer."""
        host: str = self.hostname
        return host

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See ITCPTransport.setTcpNoDelay."""
        super().setTcpNoDelay(enabled)
        self._at_once = bool(enabled)

    def doRead(self) -> Any:
        """See IReadDescriptor."""
        try:
            data = self.socket.recv(self._next_read)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        return self._dataReceived(data)


class CountedUNIXServer(_CountedMixin, _PromptMixin, unix.Server):
    """A connection over a UNIX socket."""

    peer_host = ""
    _at_once = True

    def doRead(self) -> Any:
        """See IReadDescriptor; what comes with descriptors is Twisted's to deal with."""
        try:
            data, ancillary, _flags, _address = self.socket.recvmsg(self._next_read, _ANCILLARY_ROOM)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._ancillaryLevelSOLSOCKETTypeSCMRIGHTS(content)
        return self._dataReceived(data)

    def writeSomeData(self, data: Any) -> Any:
        """See IFileDescriptor; descriptors go along."""
        if not self._sendmsgQueue:
            return _PromptMixin.writeSomeData(self, data)
        sent = unix.Server.writeSomeData(self, data)
        if isinstance(sent, Exception):
            self._failed = sent is main.CONNECTION_LOST
        elif sent:
            self.stirred = True
        return sent


class _PacedMixin:
    """A connection that is not read while much of what was answered waits to be sent.

    For protocols of requests and answers: who asks and takes no answers would else have them all kept in memory. It is
    done here, where TLS has nothing in between, and the protocol does not notice.
    """

    _held = _wants = False

    def doRead(self) -> Any:
        """See IReadDescriptor."""
        transport: Any = self
        if len(transport.dataBuffer) - transport.offset + transport._tempDataLen <= _MOST_UNSENT:
            return super().doRead()  # type: ignore[misc]  # the transport this is mixed into has it
        transport.stopReading()
        self._held = self._wants = True
        return None

    def startReading(self) -> None:
        """Waits for something to read; as soon as all is sent, if too much is not."""
        self._wants = True
        if not self._held:
            super().startReading()  # type: ignore[misc]  # the transport this is mixed into has it

    def stopReading(self) -> None:
        """Waits for it no more."""
        self._wants = False
        super().stopReading()  # type: ignore[misc]  # the transport this is mixed into has it

    def stopWriting(self) -> None:
        """Is called when all is sent."""
        super().stopWriting()  # type: ignore[misc]  # the transport this is mixed into has it
        held, self._held = self._held, False
        if held and self._wants:
            self.startReading()


class PacedTCPServer(_PacedMixin, CountedTCPServer):
    """A TCP connection that is read as its answers are taken."""


class PacedUNIXServer(_PacedMixin, CountedUNIXServer):
    """The same over a UNIX socket."""
