"""Twisted's reactor on epoll(7), with a shorter way to connections of ours that have something to be read.

For each event Twisted asks the descriptor what its log lines begin with, copies dicts for that, calls through four
functions, and asks whether the descriptor is one still: a sixth of all that an echo of a few bytes takes. Here an
event that asks no more than that a transport or a port of ours is read has that done with it. What hosted
code sees is the same: the prefix of its log lines, what becomes of an exception, when a connection is lost. All other
events, and all other descriptors, go Twisted's own way.
"""

from __future__ import annotations

import errno
import select
import sys
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.python import context, log

from appd.listening.datagrams import AdoptedUDPPort, AdoptedUNIXDatagramPort
from appd.listening.ports import AdoptedTCPPort, AdoptedUNIXPort
from appd.listening.transports import CountedTCPServer, CountedUNIXServer

__all__ = ["PromptReactor", "install"]

_OURS = frozenset(
    (
        AdoptedTCPPort,
        AdoptedUDPPort,
        AdoptedUNIXDatagramPort,
        AdoptedUNIXPort,
        CountedTCPServer,
        CountedUNIXServer,
    )
)
_CAN_BE_READ = select.EPOLLIN
# Of an end that comes with it (EPOLLHUP, EPOLLERR) reading tells.
_READ_OR_WRITE = select.EPOLLIN | select.EPOLLOUT


class PromptReactor(EPollReactor):
    """The reactor."""

    def doPoll(self, timeout: float | None) -> None:
        """Waits for events, and does what they are about; see `EPollReactor.doPoll`."""
        reactor: Any = self
        selectables = reactor._selectables
        try:
            events = reactor._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        said = context.get(log.ILogContext)
        contexts = context.theContextTracker.currentContext().contexts
        for fd, event in events:
            one = selectables.get(fd)
            if event & _READ_OR_WRITE != _CAN_BE_READ or type(one) not in _OURS:
                if one is not None:
                    log.callWithLogger(one, reactor._doReadOrWrite, one, fd, event)
                continue
            # Whoever begins something in a thread keeps this one: it is nobody else's.
            contexts.append({log.ILogContext: {**said, "system": one.logstr}})
            try:
                try:
                    why = one.doRead()
                except BaseException as error:
                    why = error
                    log.err()
                if why:
                    reactor._disconnectSelectable(one, why, True)
            except KeyboardInterrupt:
                raise
            except BaseException:
                log.err()
            finally:
                contexts.pop()

    doIteration = doPoll


def install() -> None:
    """Makes it the reactor of the process, if there is none: hosted code may have imported one by now."""
    if "twisted.internet.reactor" not in sys.modules:
        from twisted.internet.main import installReactor

        installReactor(PromptReactor())
