"""The lines of a connection, one after the other."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.mail.smtp import ESMTP

__all__ = ["Lines", "WaitingPortal"]

# RFC 5321 asks for 1000 bytes in a message and RFC 4954 for 12288 in AUTH; more is only forgiven.
_LONGEST = 16384


class Lines(ESMTP):
    """Reads a line when the answer to the one before is known.

    Args:
        challengers: As for ESMTP.
        starter: What starts TLS; None without.
    """

    transport: Any
    factory: Any
    portal: Any

    def __init__(self, challengers: Any, starter: Any) -> None:
        super().__init__(dict(challengers), starter)
        self._received = b""
        self._pending = 0
        self._skipping = False
        self._starting = False
        self._asked = False

    def dataReceived(self, data: bytes) -> None:
        """See LineOnlyReceiver: one command at a time."""
        self._asked = True
        self._received += data
        self._go_on()

    def _go_on(self) -> None:
        buffer, place = self._received, 0
        while not self._pending and not self.transport.disconnecting:
            end = buffer.find(b"\r\n", place)
            if end < 0:
                break
            line, place = buffer[place:end], end + 2
            if self._skipping or len(line) > _LONGEST:
                if not self._skipping:
                    self.lineLengthExceeded(line)
                self._skipping = False
                continue
            self.lineReceived(line)
            if self._starting:
                # What came behind STARTTLS came before TLS, from whomever.
                self._starting = False
                place = len(buffer)
                self.factory.starter.begin(self)
        rest = buffer[place:]
        if len(rest) > _LONGEST and not self._pending and b"\r\n" not in rest:
            if not self._skipping:
                self.lineLengthExceeded(rest)
            # The last byte may be the first half of the end of the line.
            self._skipping, rest = True, rest[-1:]
        self._received = rest

    def _wait_for(self, done: defer.Deferred[Any]) -> None:
        """Reads no further command until something is done."""
        self._pending += 1
        self.transport.pauseProducing()

        def go_on(result: Any) -> Any:
            self._pending -= 1
            if not self._pending and self.transport is not None and self.transport.connected:
                self.transport.resumeProducing()
                self.factory.reactor.callLater(0, self._go_on)
            return result

        done.addBoth(go_on)


class WaitingPortal:
    """A portal whose logins hold up what the client sends behind them.

    Args:
        portal: The portal.
        wait_for: Called with the Deferred of a login.
    """

    def __init__(self, portal: Any, wait_for: Any) -> None:
        self._portal = portal
        self._wait_for = wait_for

    def login(self, *arguments: Any) -> Any:
        """See `twisted.cred.portal.Portal.login`."""
        done = self._portal.login(*arguments)
        self._wait_for(done)
        return done
