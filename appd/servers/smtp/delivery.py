"""What is accepted for whom, and where it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.cred.portal import IRealm
from twisted.logger import Logger
from twisted.mail.interfaces import IMessageDelivery, IMessageDeliveryFactory
from twisted.mail.smtp import SMTPServerError, rfc822date
from zope.interface import implementer

from appd.servers.smtp.letters import Letter, Maildirs, Spool

__all__ = ["IntoMaildirs", "Senders", "received", "verdict_of"]

_log = Logger(namespace="appd.smtp")


def received(kind: str, helo: Any, host: str, recipient: str) -> bytes:
    """A Received field: RFC 5321, 4.4.

    Args:
        kind: The protocol, by the names of RFC 3848.
        helo: What the client called itself, and its address.
        host: What we call ourselves.
        recipient: For whom; "" where there are several.
    """
    said, address = (_printable(one) for one in helo)
    literal = f"IPv6:{address}" if ":" in address else address
    whose = f" for <{recipient}>" if recipient else ""
    date = rfc822date().decode()
    return f"Received: from {said or 'unknown'} ([{literal}])\n\tby {host} with {kind}{whose}; {date}".encode()


def _printable(text: Any) -> str:
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return "".join(one for one in str(text or "")[:255] if 32 < ord(one) < 127 and one not in "()<>[];")


@implementer(IMessageDelivery)
class IntoMaildirs:
    """Mail for the users of the domains.

    Args:
        maildirs: Where it goes.
        host: What we call ourselves.
    """

    def __init__(self, maildirs: Maildirs, host: str) -> None:
        self._maildirs = maildirs
        self._host = host
        self._spool: Spool | None = None
        self._sender = ""

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        """See IMessageDelivery."""
        return received(recipients[0].protocol.kind, helo, self._host, "")

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        """See IMessageDelivery."""
        self._spool = None
        self._sender = str(origin)
        return origin

    def validateTo(self, user: Any) -> Any:
        """See IMessageDelivery."""
        local, domain = user.dest.local.decode("latin-1"), user.dest.domain.decode("latin-1").lower()
        return self._maildirs.in_thread(self._maildirs.path_of, local, domain).addCallback(self._found, user)

    def _found(self, path: str | None, user: Any) -> Callable[[], Letter]:
        if path is None:
            raise SMTPServerError(550, b"5.1.1 no such user here")
        return lambda: self._letter(path, user)

    def _letter(self, path: str, user: Any) -> Letter:
        first = self._spool is None
        if self._spool is None:
            self._spool = Spool()
        return Letter(self._spool, first, self._sender, str(user.dest), path, self._maildirs.in_thread)


@implementer(IRealm)
class Senders:
    """Those who have logged in.

    Args:
        make: User → an IMessageDelivery, or an IMessageDeliveryFactory.
    """

    def __init__(self, make: Callable[[str | None], Any]) -> None:
        self._make = make

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """See IRealm."""
        user = avatarId.decode("utf-8", "replace") if isinstance(avatarId, bytes) else str(avatarId)
        made = self._make(user)
        kind = IMessageDelivery if IMessageDelivery.providedBy(made) else IMessageDeliveryFactory
        return kind, made, lambda: None


def verdict_of(failure: Any, server: str) -> tuple[int, bytes]:
    """What a client is told of an error. A delivery says it with SMTPServerError; all else is ours, and may pass.

    Args:
        failure: The error, or a Failure with it.
        server: The name of the server, for the log.
    """
    error = getattr(failure, "value", failure)
    if isinstance(error, SMTPServerError):
        text = error.resp
        return error.code, text.encode("ascii", "replace") if isinstance(text, str) else text
    _log.warn("{appd_server}: mail cannot be delivered: {error!r}", appd_server=server, error=error)
    return 451, b"4.3.0 local error"
