"""What makes the connections of a mail server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.mail.imap4 import PLAINCredentials
from twisted.mail.smtp import LOGINCredentials
from zope.interface import implementer

from appd.interfaces import IDrainable
from appd.servers.smtp.delivery import Senders
from appd.servers.smtp.protocol import Connection

__all__ = ["SmtpFactory"]

_log = Logger(namespace="appd.smtp")
# A hash of a password answers no challenge, so that these two are all there are.
_MECHANISMS = {b"PLAIN": PLAINCredentials, b"LOGIN": LOGINCredentials}


@implementer(IDrainable)
class SmtpFactory(ServerFactory):
    """Makes connections.

    Args:
        server: The name of the server.
        policy: What its section says: `appd.servers.smtp.smtp.Policy`.
        reactor: The reactor.
        make_portal: Realm and transport → the portal of a connection; None where nobody logs in.
        starter: What starts TLS; None without.

    Attributes:
        lull: How long nothing must have come on a connection before a drain ends it, in seconds.
    """

    noisy = False
    lull = 1.0

    def __init__(
        self, server: str, policy: Any, reactor: Any, make_portal: Callable[[Any, Any], Any] | None, starter: Any
    ) -> None:
        self.server = server
        self.policy = policy
        self.reactor = reactor
        self.starter = starter
        self.open: set[Connection] = set()
        self.draining = False
        self._make_portal = make_portal

    def portal_for(self, transport: Any) -> Any:
        """The portal of a connection; None where nobody logs in."""
        return self._make_portal(Senders(self.policy.make), transport) if self._make_portal is not None else None

    def buildProtocol(self, addr: Any) -> Any:
        """See ServerFactory."""
        made = Connection(_MECHANISMS if self._make_portal is not None else {}, self.starter)
        made.factory = self
        return made

    def count(self, connection: Connection) -> None:
        """A message was delivered."""
        _log.debug("{appd_server}: a message from {appd_peer}", appd_server=self.server, appd_peer=connection._peer)

    def drain(self) -> None:
        """Ends the connections, each when it is idle."""
        self.draining = True
        for one in list(self.open):
            one.drain()
