"""`<ssh>`: a section → a server."""

from __future__ import annotations

import os
from typing import Any

from zope.interface import implementer

from appd import hosting
from appd.config.settings import Settings
from appd.errors import ConfigurationError, Problem
from appd.interfaces import Host, IServerType, Section
from appd.limits import StreamLimits, read_stream_limits
from appd.service import ServerService

__all__ = ["server_type"]

# LoginGraceTime of sshd is 120 s, most of it for people who type; an hour is what sftp clients keep a connection for.
USUAL = StreamLimits(idle_timeout=3600, login_timeout=60)


@implementer(IServerType)
class _SshServerType:
    kinds = frozenset({"stream"})
    limits = USUAL.keys
    outgoing = False
    starts_tls = False

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
            raise TypeError("an SSH server needs a section, which says who may log in")
        settings, host = section.settings, section.host
        try:
            import twisted.conch.ssh.keys  # noqa: F401  # what it needs is an extra, and said here
        except ImportError as error:
            message = (
                f"<ssh> needs a package that is not installed ({error.name}): python3-{error.name} of Debian, "
                "Twisted[conch] of PyPI (appd[ssh])"
            )
            raise ConfigurationError(settings.problem(message)) from None
        from appd.auth.sections import portals_of
        from appd.servers.ssh.hostkeys import HostKeys
        from appd.servers.ssh.transport import SshFactory

        keys = HostKeys(settings, lenient=host.log is None)
        problems = keys.check() + _contradictions(settings)
        make_portal = None
        try:
            make_portal = portals_of(settings, host, name)
        except ConfigurationError as error:
            problems += error.problems
        if problems or make_portal is None:
            raise ConfigurationError(*problems)
        namespace: dict[str, Any] = {"reactor": host.reactor, "settings": host.settings}
        realm = _realm(settings, host, name, namespace)
        portal = make_portal
        factory = SshFactory(host.reactor, lambda transport: portal(realm, transport), keys, name)
        service = ServerService(
            name,
            "ssh",
            section.listeners,
            host.reactor,
            factory,
            description=_description(settings),
            # Operators want to know which worker they look into.
            processes=settings.processes or ("one" if settings.manhole else "all"),
            limits=read_stream_limits(settings.limits, USUAL),
        )
        namespace["server"] = service
        return service


def _contradictions(settings: Settings) -> list[Problem]:
    problems: list[Problem] = []
    if not (settings.root or settings.realm or settings.manhole):
        problems.append(settings.problem("<ssh> serves nothing: it needs root, realm or manhole"))
    if settings.realm and (settings.root or settings.manhole):
        problems.append(settings.problem("realm says what users get, and so do root and manhole: one of them", "realm"))
    for attribute in ("read_only", "open_files"):
        if attribute in settings.places and not settings.root:
            key = attribute.replace("_", "-")
            problems.append(settings.problem(f"{key} is for the files of root, which is not there", attribute))
    root = settings.root
    if root and "%" not in root and not os.path.isdir(root):
        what = "it is no folder" if os.path.exists(root) else "there is no such folder"
        problems.append(settings.problem(f"root {root}: {what}", "root"))
    return problems


def _realm(settings: Settings, host: Host, name: str, namespace: dict[str, Any]) -> Any:
    from twisted.cred.portal import IRealm

    from appd.servers.ssh.session import Users
    from appd.servers.ssh.shell import Shell

    if not settings.realm:
        operators = frozenset(settings.manhole)
        return Users(
            settings.root,
            settings.read_only,
            settings.open_files,
            operators,
            host.threads,
            lambda user: Shell(user, {**namespace, "user": user.name}, name),
        )
    found = hosting.load(settings.realm, settings, "realm")
    if not IRealm.providedBy(found) and callable(found):
        made_by = found
        found = hosting.call(f"{settings.realm} failed", made_by, settings, "realm")
    if not IRealm.providedBy(found):
        message = f"realm {settings.realm} is {found!r}, which is no twisted.cred IRealm"
        raise ConfigurationError(settings.problem(message, "realm"))
    return found


def _description(settings: Settings) -> str:
    parts = [f"realm {settings.realm}"] if settings.realm else []
    parts += [f"sftp {settings.root}"] if settings.root else []
    parts += ["manhole"] if settings.manhole else []
    return ", ".join(parts)


server_type = _SshServerType()
