"""A connection that ends as a break: by a reset, after what it was given before.

Who reads to the end of a stream must be able to tell an end from a break (RFC 9293, 3.5; RFC 8446, 6.1). A reset has
the kernel drop what the peer has not taken yet, so that is waited for, as long as the peer takes anything. Over TLS
nothing says close_notify. A UNIX socket has no resets: its peer sees an end.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Any

from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["break_off", "flush", "reset"]

# How often it is looked whether everything is taken, in seconds: often at first, then seldom.
_FIRST_STEP, _LAST_STEP = 0.01, 0.5
# How long the peer may take nothing, in seconds.
_PATIENCE = 10.0
_SIOCOUTQ = 0x5411  # tcp(7): what the peer has not acknowledged


def reset(transport: Any) -> None:
    """Ends a connection by a reset, at once: what is not sent yet never is.

    Args:
        transport: A transport of Twisted's. Its own abortConnection says close_notify over TLS, which is a clean end.
    """
    _below(transport).abortConnection()


def break_off(transport: Any, reactor: Any) -> None:
    """Ends a connection by a reset when its peer has taken everything that was written, or takes nothing any more.

    Args:
        transport: A transport of Twisted's without a producer; it is read no more.
        reactor: The reactor.
    """
    below = _below(transport)
    if below.disconnecting or not below.connected:
        return  # it ends already
    below.pauseProducing()
    flush(transport)
    _Breaking(below, reactor).look()


def flush(transport: Any) -> None:
    """Has TLS give what it gathers to the socket."""
    over = transport if isinstance(transport, TLSMemoryBIOProtocol) else getattr(transport, "protocol", None)
    gathered = getattr(over, "_gathered", None)  # ours
    if gathered is not None:
        gathered.flush()
    aggregator = getattr(over, "_aggregator", None)  # Twisted's, from 22.8 on
    if aggregator is not None:
        aggregator.flush()


def _below(transport: Any) -> Any:
    """The transport of the socket."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


class _Breaking:
    """A connection that breaks as soon as all is taken."""

    def __init__(self, transport: Any, reactor: Any) -> None:
        self._transport = transport
        self._reactor = reactor
        self._step = _FIRST_STEP
        self._left = -1
        self._since = reactor.seconds()

    def look(self) -> None:
        """Breaks it, or looks again later."""
        transport = self._transport
        if not transport.connected:
            return
        left, now = _unsent(transport), self._reactor.seconds()
        if left != self._left:
            self._left, self._since = left, now
        if not left or now - self._since >= _PATIENCE:
            transport.abortConnection()
            return
        self._reactor.callLater(self._step, self.look)
        self._step = min(2 * self._step, _LAST_STEP)


def _unsent(transport: Any) -> int:
    """How many bytes the peer has not taken."""
    waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    if transport.socket.family == socket.AF_UNIX:
        return waiting  # the rest is the peer's already
    found = fcntl.ioctl(transport.socket.fileno(), _SIOCOUTQ, bytes(4))
    return waiting + int(struct.unpack("i", found)[0])
