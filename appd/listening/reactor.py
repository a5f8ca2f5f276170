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
from appd.listening.ride import RidingReactor
from appd.listening.transports import CountedTCPServer, CountedUNIXServer

__all__ = ["PromptReactor", "adopt", "install"]

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
# A datagram that nobody took comes back as an error of the socket, which recvfrom(2) tells. For Twisted an error with
# nothing to be read is the end: connectionRefused would never be called.
_DATAGRAMS = frozenset((AdoptedUDPPort, AdoptedUNIXDatagramPort))
_CAN_BE_READ_OR_FAILS = select.EPOLLIN | select.EPOLLERR


class PromptReactor(RidingReactor):
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
            kind = type(one)
            if kind not in _OURS or (
                event & _READ_OR_WRITE != _CAN_BE_READ and (event & ~_CAN_BE_READ_OR_FAILS or kind not in _DATAGRAMS)
            ):
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

    doIteration = doPoll  # type: ignore[assignment]  # its argument has another name there


def install() -> None:
    """Makes it the reactor of the process. Where hosted code has imported Twisted's epoll reactor that becomes one."""
    if "twisted.internet.reactor" in sys.modules:
        adopt(sys.modules["twisted.internet.reactor"])
    else:
        from twisted.internet.main import installReactor

        installReactor(PromptReactor())


def adopt(reactor: Any) -> bool:
    """Has a reactor that was made already be one of these, if it is Twisted's epoll reactor and does not run yet.

    Args:
        reactor: The reactor.

    Returns:
        Whether it is one.
    """
    if type(reactor) is EPollReactor and not reactor._started:
        reactor.__class__ = PromptReactor
    return isinstance(reactor, PromptReactor)
