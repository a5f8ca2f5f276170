"""`<ftp>`: a section → a server."""

from __future__ import annotations

import os
from typing import Any

from zope.interface import implementer

from appd.config.settings import Settings
from appd.errors import ConfigurationError, Problem
from appd.interfaces import IServerType, Section
from appd.limits import StreamLimits, read_stream_limits
from appd.service import ServerService

__all__ = ["server_type"]

# vsftpd gives an idle session 300 s; a control connection is idle as long as its transfer lasts, so it is more here.
USUAL = StreamLimits(idle_timeout=3600, login_timeout=60)


class _FtpService(ServerService):
    """A server some of whose sockets are for data connections.

    Args:
        passive: The addresses of these.
        arguments: As for `ServerService`.
        named: As for `ServerService`.
    """

    def __init__(self, passive: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._passive = passive

    def _listen(self, listener: Any) -> Any:
        if listener.address not in self._passive:
            return super()._listen(listener)
        data = self.factory.pool.make_port()
        data.port = listener.listen(self.reactor, data, self.connections)
        return data.port


@implementer(IServerType)
class _FtpServerType:
    kinds = frozenset({"stream"})
    limits = USUAL.keys
    outgoing = False
    starts_tls = True

    def create(
        self,
        name: str,
        db: Any,
        ip: str | None = None,
        port: int | None = None,
        backlog: int = 50,
        address: Any = None,
        section: Section | None = None,
    ) -> Any:
        """Makes a server; see `appd.interfaces.IServerType.create`. It needs a section."""
        if section is None:
            raise TypeError("an FTP server needs a section, which says whose files it serves")
        settings, host = section.settings, section.host
        problems = _contradictions(settings, section.tls is not None)
        make_portal = None
        if settings.auth:
            from appd.auth.sections import portals_of

            try:
                make_portal = portals_of(settings, host, name)
            except ConfigurationError as error:
                problems += error.problems
        if problems:
            raise ConfigurationError(*problems)
        from appd.servers.ftp.factory import FtpFactory

        limits = read_stream_limits(settings.limits, USUAL)
        starter = None
        if section.tls is not None:
            section.tls.handshake = limits.handshake_timeout
            starter = section.tls.starter(host.reactor)
        return _FtpService(
            tuple(settings.passive_address),
            name,
            "ftp",
            section.listeners,
            host.reactor,
            FtpFactory(settings, host.reactor, host.threads, make_portal, starter),
            description=f"ftp {settings.root}",
            # The data connection of a session comes to whichever process accepts it.
            processes="one",
            limits=limits,
        )


def _contradictions(settings: Settings, has_tls: bool) -> list[Problem]:
    problems: list[Problem] = []
    if not settings.address and not settings.tls_address:
        problems.append(settings.problem("<ftp> has no address for control connections"))
    if not settings.auth and not settings.anonymous:
        problems.append(settings.problem("<ftp> lets nobody in: it needs auth, or anonymous on"))
    if settings.auth and not has_tls and not settings.login_without_tls:
        message = "auth needs <tls>: passwords come over TLS only (or login-without-tls on)"
        problems.append(settings.problem(message, "auth"))
    if settings.processes == "all":
        message = "processes all: the data connection of a session would come to any of them"
        problems.append(settings.problem(message, "processes"))
    if settings.passive_address and settings.passive_ports:
        message = "one of passive-address and passive-ports says where data connections come in"
        problems.append(settings.problem(message, "passive_ports"))
    root = settings.root
    if root and "%" not in root and not os.path.isdir(root):
        what = "it is no folder" if os.path.exists(root) else "there is no such folder"
        problems.append(settings.problem(f"root {root}: {what}", "root"))
    return problems


server_type = _FtpServerType()
