"""Transports of accepted streams that send what they can at once.

Twisted's own put every write into a buffer, ask the reactor when the socket is writable (epoll_ctl(2)), and send in
its next turn (epoll_wait(2), send(2), epoll_ctl(2) again), though the socket is nearly always writable. Here

* what is written while data is received is sent, in one piece, when the protocol is through with that data. So a
  protocol that writes a line in three parts makes one packet of it, as with Twisted's;
* what is written at another time is sent in the write itself, if Nagle's algorithm (RFC 896) is off, as TLS has it, and
  over UNIX sockets; else it waits for the next turn as Twisted has it: the second of two small packets would wait for
  the peer's acknowledgement of the first, which may take 40 ms;
* only what the socket does not take waits for writability, and then everything is as Twisted has it.

Nothing else changes. What Twisted does when a buffer has become empty (ask a producer for more, close, close one side)
it still does, in the next turn: for that the transport asks for writability after all. An error of a send is not told
in the write: it is found again in the next turn, and ends the connection from there.
"""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet import main, tcp, unix

__all__ = ["CountedTCPServer", "CountedUNIXServer", "PacedTCPServer", "PacedUNIXServer"]

# What may wait to be sent before a paced connection is not read any more, in bytes.
_MOST_UNSENT = 128 * 1024


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

    def _dataReceived(self, data: bytes | None) -> Any:
        transport: Any = self
        if not data:
            return main.CONNECTION_LOST if self._failed else main.CONNECTION_DONE
        self.stirred = self._reading = True
        try:
            transport.protocol.dataReceived(data)
        finally:
            self._reading = False
        if self._owes:
            self._pay()
        return None

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
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_LOST if self._failed else main.CONNECTION_DONE
        # What follows is _dataReceived again: a call less for every read.
        self.stirred = self._reading = True
        try:
            self.protocol.dataReceived(data)
        finally:
            self._reading = False
        if self._owes:
            self._pay()
        return None

    def writeSomeData(self, data: Any) -> Any:
        """See IFileDescriptor; Twisted's own, in fewer steps."""
        try:
            sent = self.socket.send(data if len(data) <= self.SEND_LIMIT else memoryview(data)[: self.SEND_LIMIT])
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return 0
            self._failed = True
            return main.CONNECTION_LOST
        self.stirred = True
        return sent


class CountedUNIXServer(_CountedMixin, _PromptMixin, unix.Server):
    """A connection over a UNIX socket."""

    peer_host = ""
    _at_once = True

    def writeSomeData(self, data: Any) -> Any:
        """See IFileDescriptor; descriptors go along."""
        sent = super().writeSomeData(data)
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
