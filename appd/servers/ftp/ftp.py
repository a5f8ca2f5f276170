"""`<ftp>`: a section → a server."""

from __future__ import annotations

from typing import Any

from appd.config.settings import Settings
from appd.errors import ConfigurationError, Problem
from appd.lending import Section
from appd.limits import StreamLimits
from appd.servers.sectioned import SectionedServerType, read_limits, root_problems
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


class _FtpServerType(SectionedServerType):
    limits = USUAL.keys
    starts_tls = True
    processes_note = "`all` is refused: the data connection of a session would come to any of them"
    section_says = "says whose files it serves"

    def make(self, name: str, section: Section) -> Any:
        """See SectionedServerType."""
        from appd.auth.sections import portals_or_problems

        settings, host = section.settings, section.host
        problems = _contradictions(settings, section.tls is not None)
        make_portal, unknown = portals_or_problems(settings, host, name)
        if problems or unknown:
            raise ConfigurationError(*problems, *unknown)
        from appd.servers.ftp.factory import FtpFactory

        limits = read_limits(section, USUAL)
        starter = section.tls.starter(host.reactor) if section.tls is not None else None
        return _FtpService(
            tuple(settings.passive_address),
            name,
            "ftp",
            section.listeners,
            host.reactor,
            FtpFactory(settings, host.reactor, host.threads, make_portal, starter),
            description=f"ftp {settings.root}",
            # The data connection of a session comes to whichever process accepts it.
            processes=self.processes,
            limits=limits,
            paced=True,
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
    return problems + root_problems(settings)


server_type = _FtpServerType()
