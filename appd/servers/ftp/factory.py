"""What makes the control connections of an FTP server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import ServerFactory
from zope.interface import implementer

from appd.interfaces import IDrainable
from appd.servers.ftp.data import Pool
from appd.servers.ftp.session import Session
from appd.servers.ftp.shell import Folders

__all__ = ["FtpFactory"]


@implementer(IDrainable)
class FtpFactory(ServerFactory):
    """Makes connections.

    Args:
        settings: The section.
        reactor: The reactor.
        threads: The threads for files.
        make_portal: Realm and transport → the portal of a connection; None where nobody logs in.
        starter: What starts TLS; None without.

    Attributes:
        lull: How long nothing must have been asked on a connection before a drain ends it, in seconds.
        pool: Where data connections come in.
    """

    noisy = False
    protocol = Session
    welcomeMessage = "appd"
    lull = 2.0

    def __init__(
        self, settings: Any, reactor: Any, threads: Any, make_portal: Callable[[Any, Any], Any] | None, starter: Any
    ) -> None:
        self.reactor = reactor
        self.starter = starter
        self.anonymous = settings.anonymous
        self.login_without_tls = settings.login_without_tls
        self.passive_host = settings.passive_host
        self.pool = Pool(reactor, settings.passive_ports, starter.over if starter is not None else None)
        self.open: set[Session] = set()
        self.draining = False
        self._folders = Folders(settings.root, settings.read_only, reactor, threads)
        self._make_portal = make_portal

    def portal_for(self, transport: Any) -> Any:
        """The portal of a connection; None where nobody logs in."""
        return self._make_portal(self._folders, transport) if self._make_portal is not None else None

    def anonymous_shell(self) -> Any:
        """The files that everybody may read."""
        return self._folders.shell("anonymous", read_only=True)

    def drain(self) -> None:
        """Ends the connections, each when it is idle."""
        self.draining = True
        for one in list(self.open):
            one.drain()
