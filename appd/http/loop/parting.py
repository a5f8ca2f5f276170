"""The end of a transport: all that is on its way goes out, and nobody is waited for beyond that.

Over TLS asyncio's `close` waits for the client's close_notify, for half a minute, and a client that is idle does not
look. A server that has said its own need not wait (RFC 8446, 6.1).
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appd.http.loop.alarm import Alarm

__all__ = ["is_gone", "part", "reset", "reset_when_closed"]

# How often one that is closing is looked at, in seconds; the lane gives a client as long for its end.
_STEP = 1.0
_UNHEARD = 3
_SIOCOUTQ = 0x5411  # tcp(7), unix(7): what the peer has not taken
_RESET = struct.pack("ii", 1, 0)


def is_gone(transport: Any, *, secure: bool, unheard: int) -> bool:
    """Whether what is written is dropped: by transports of TLS with a warning in the log for each time.

    A transport knows that it is lost a turn of the loop before its protocol is told, and much may be said in a turn.
    One of TLS whose client has ended without close_notify tells nobody before all that waits is sent, and until then
    says of whatever is written that there is room: who sends without an end would never wait, and hold up the loop.

    Args:
        transport: The transport.
        secure: Whether it is one of TLS.
        unheard: How often it was written to since something was heard of the client: to ask the system costs more than
            a small write, and the first few that are dropped nobody is warned of.
    """
    closing: bool = transport.is_closing()
    if closing or not secure or unheard < _UNHEARD:
        return closing
    sock = transport.get_extra_info("socket")
    if sock is None:
        return True
    asked = select.poll()
    asked.register(sock.fileno(), select.POLLRDHUP)
    return bool(asked.poll(0))


def part(alarm: Alarm, transport: Any, wait: float) -> None:
    """Closes a transport when all is sent.

    Args:
        alarm: What looks after it.
        transport: The transport.
        wait: How long its client may take nothing, in seconds; then it is reset.
    """
    transport.close()
    if transport.get_extra_info("ssl_object") is not None or transport.get_write_buffer_size():
        _Parting(alarm, transport, wait)


def reset(transport: Any) -> None:
    """Ends a transport by a reset: what is not sent yet never is."""
    reset_when_closed(transport)
    transport.abort()


def reset_when_closed(transport: Any) -> None:
    """Makes whatever closes the socket of a transport a reset, the end of the process too: socket(7), SO_LINGER."""
    with suppress(OSError, AttributeError):  # the socket has gone
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


class _Parting:
    """A transport that closes; see `part`."""

    __slots__ = ("_alarm", "_left", "_since", "_transport", "_wait", "deadline", "tick")

    def __init__(self, alarm: Alarm, transport: Any, wait: float) -> None:
        self._alarm = alarm
        self._transport = transport
        self._wait = wait
        self._left = -1
        self._since = time.monotonic()
        self.deadline, self.tick = 0.0, 0
        alarm.deadlines.put(self, self._since + _STEP)

    def expired(self) -> None:
        """Looks whether the client has taken everything, or anything."""
        transport, now = self._transport, time.monotonic()
        try:
            left = _unsent(transport)
        except (OSError, AttributeError, ValueError):
            # It has ended.
            return
        if not left:
            transport.abort()
            return
        if left != self._left:
            self._left, self._since = left, now
        elif now - self._since >= self._wait:
            reset(transport)
            return
        self._alarm.deadlines.put(self, now + _STEP)


def _unsent(transport: Any) -> int:
    """How many bytes the client has not taken; of TLS some lie where only the kernel knows of them."""
    found = fcntl.ioctl(transport.get_extra_info("socket").fileno(), _SIOCOUTQ, bytes(4))
    buffered: int = transport.get_write_buffer_size()
    return buffered + int(struct.unpack("i", found)[0])
