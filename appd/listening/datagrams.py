"""Datagram ports on sockets that somebody else made.

They take what has come in one turn, as Twisted's do, in fewer steps: an answer to who has just spoken goes to an
address that the kernel has given, so that nobody needs to look whether it is one.

Each datagram is a recvfrom(2): recvmmsg(2) would save some of these, but Python has it only by ctypes, with the
addresses as bytes.

Resource handling: a port works on a duplicate of the descriptor and closes that when it stops listening.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet import error, udp, unix
from twisted.logger import Logger

from appd.interfaces import IDatagramBatches
from appd.listening.connections import Connections

__all__ = ["AdoptedUDPPort", "AdoptedUNIXDatagramPort"]

_log = Logger(namespace="appd.datagrams")

# How many datagrams are taken before others in the reactor have their turn; Twisted takes 256 KB of them, which may be
# two hundred thousand.
_BATCH = 128
# After so many turns in which there were at least as many as were looked for, twice as many are.
_FULL = 4


def _no_single(_datagram: bytes, _address: Any) -> None:
    """In place of a method that a protocol of batches need not have."""


class _AdoptedDatagramMixin:
    """A datagram port on a socket that exists."""

    connections: Connections
    _speaker: Any = None
    """Whom the datagram that is being answered is from."""
    batch = _BATCH
    """How many are taken before others in the reactor have their turn."""
    _gathered: list[tuple[bytes, Any]] | None = None
    """What has been taken in this turn, for a protocol that wants it at once."""
    _most = 1
    """How many are taken in a turn: as many as there were before. One recvfrom(2) too many, which only says that there
    is nothing, costs as much as a datagram."""
    _full = 0
    """In how many turns there were at least so many."""

    def doRead(self) -> None:
        """Takes what has come; see IReadDescriptor."""
        port: Any = self
        receive, size = port.socket.recvfrom, port.maxPacketSize
        received = port.protocol.datagramReceived if self._gathered is None else _no_single
        is_ipv6 = port.addressFamily == socket.AF_INET6
        gathered = self._gathered
        taken, most = 0, min(self._most, self.batch)
        try:
            while taken < most and port.connected:
                try:
                    data, address = receive(size)
                except BlockingIOError:
                    if gathered is None:
                        self._most, self._full = max(taken, 1), 0
                    return
                except ConnectionRefusedError:
                    # What was sent to somebody earlier has come back; of a connected socket the protocol is told.
                    if port._connectedAddr:
                        port.protocol.connectionRefused()
                    return
                taken += 1
                if is_ipv6:
                    address = address[:2]  # host and port, as Twisted has it
                if gathered is not None:
                    gathered.append((data, address))
                    continue
                self._speaker = address
                try:
                    received(data, address)
                except Exception:
                    _log.failure("datagramReceived of {protocol} failed", protocol=type(port.protocol).__name__)
            self._full += 1
            if self._full >= _FULL and most < self.batch:
                self._most, self._full = most * 2, 0
        finally:
            self._speaker = None
            if gathered:
                self._give(gathered)
            if taken:
                self.connections.count(taken)

    def _bindSocket(self) -> None:
        port: Any = self
        existing, port._preexistingSocket = port._preexistingSocket, None
        port._realPortNumber = existing.getsockname()[1] if port.addressFamily != socket.AF_UNIX else None
        port.connected = 1
        port.socket = existing
        port.fileno = existing.fileno
        if IDatagramBatches.providedBy(port.protocol):
            self._gathered = []
            self._most = self.batch

    def _give(self, gathered: list[tuple[bytes, Any]]) -> None:
        """Gives a protocol all at once."""
        port: Any = self
        self._gathered = []
        try:
            port.protocol.datagramsReceived(gathered)
        except Exception:
            _log.failure("datagramsReceived of {protocol} failed", protocol=type(port.protocol).__name__)

    def connectionLost(self, reason: Any = None) -> None:
        """Ends; past Twisted's, which writes a line of its own about it."""
        from twisted.internet import base

        port: Any = self
        port._realPortNumber = None
        base.BasePort.connectionLost(port, reason)
        port.connected = 0
        port.protocol.doStop()
        port.socket.close()
        del port.socket
        del port.fileno
        if hasattr(port, "d"):
            port.d.callback(None)
            del port.d


class AdoptedUDPPort(_AdoptedDatagramMixin, udp.MulticastPort):
    """UDP, multicast too (IMulticastTransport)."""

    def write(self, datagram: bytes, addr: Any = None) -> Any:
        """See IUDPTransport.write."""
        if addr is not self._speaker or addr is None:
            return super().write(datagram, addr)
        try:
            return self.socket.sendto(datagram, addr)
        except OSError as failed:
            if failed.errno == errno.EMSGSIZE:
                raise error.MessageLengthError("message too long") from None
            if failed.errno == errno.ECONNREFUSED:
                return None
            raise


class AdoptedUNIXDatagramPort(_AdoptedDatagramMixin, unix.DatagramPort):
    """UNIX datagrams."""

    _preexistingSocket: Any = None

    def write(self, datagram: bytes, address: Any = None) -> Any:
        """See IUNIXDatagramTransport. What cannot be delivered is lost, as datagrams may be."""
        # A sender that has bound no name of its own cannot be answered.
        if address is None:
            return None
        try:
            return super().write(datagram, address)
        except (ConnectionRefusedError, FileNotFoundError, PermissionError):
            # It has gone, or lets nobody answer. A line in the log for each would be a flood.
            return None
