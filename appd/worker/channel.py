"""A worker's end of the line to its supervisor: it says when to go, to drain, to leave.

The end of the line is the end of the supervisor, and the worker leaves with it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

__all__ = ["Channel"]


@implementer(IReadDescriptor)
class Channel:
    """Reads the supervisor's words on the reactor.

    Args:
        descriptor: The worker's end; closed when the supervisor has gone.
        reactor: The reactor.
        words: Word → what to call; one argument when the word has one.
        gone: Called when the supervisor has gone.
    """

    def __init__(
        self, descriptor: int, reactor: Any, words: Mapping[str, Callable[..., None]], gone: Callable[[], None]
    ) -> None:
        os.set_inheritable(descriptor, False)
        self._connection = socket.socket(fileno=descriptor)
        self._connection.setblocking(False)
        self._reactor = reactor
        self._words = words
        self._gone = gone
        self._rest = b""
        reactor.addReader(self)

    def fileno(self) -> int:
        """The descriptor."""
        return self._connection.fileno()

    def logPrefix(self) -> str:
        """What Twisted calls it in its log."""
        return "supervisor"

    def doRead(self) -> None:
        """Takes what has come."""
        try:
            data = self._connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._reactor.removeReader(self)
            self._connection.close()
            self._gone()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, *arguments = line.decode().split() or [""]
            # A supervisor of a later version may know more words.
            if word in self._words:
                self._words[word](*arguments)

    def connectionLost(self, reason: Any = None) -> None:
        """The reactor ends."""
