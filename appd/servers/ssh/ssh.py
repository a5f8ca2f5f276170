"""`<ssh>`: a section → a server."""

from __future__ import annotations

from typing import Any

from appd import hosting
from appd.config.settings import Settings
from appd.errors import ConfigurationError, Problem
from appd.lending import Host, Section
from appd.limits import StreamLimits
from appd.servers.sectioned import SectionedServerType, read_limits, root_problems
from appd.service import ServerService

__all__ = ["server_type"]

# LoginGraceTime of sshd is 120 s, most of it for people who type; an hour is what sftp clients keep a connection for.
USUAL = StreamLimits(idle_timeout=3600, login_timeout=60)


class _SshServerType(SectionedServerType):
    limits = USUAL.keys
    processes = "all"
    processes_note = "one with a `manhole`"
    section_says = "says who may log in"

    def make(self, name: str, section: Section) -> Any:
        """See SectionedServerType."""
        settings, host = section.settings, section.host
        try:
            import twisted.conch.ssh.keys  # noqa: F401  # what it needs is an extra, and said here
        except ImportError as error:
            message = (
                f"<ssh> needs a package that is not installed ({error.name}): python3-{error.name} of Debian, "
                "Twisted[conch] of PyPI (appd[ssh])"
            )
            raise ConfigurationError(settings.problem(message)) from None
        from appd.auth.sections import portals_or_problems
        from appd.servers.ssh.hostkeys import HostKeys
        from appd.servers.ssh.transport import SshFactory

        keys = HostKeys(settings, lenient=host.log is None)
        portal, unknown = portals_or_problems(settings, host, name)
        problems = [*keys.check(), *_contradictions(settings), *unknown]
        if problems or portal is None:
            raise ConfigurationError(*problems)
        namespace: dict[str, Any] = {"reactor": host.reactor, "settings": host.settings}
        realm = _realm(settings, host, name, namespace)
        factory = SshFactory(host.reactor, lambda transport: portal(realm, transport), keys, name)
        service = ServerService(
            name,
            "ssh",
            section.listeners,
            host.reactor,
            factory,
            description=_description(settings),
            # Operators want to know which worker they look into.
            processes=settings.processes or ("one" if settings.manhole else self.processes),
            limits=read_limits(section, USUAL),
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
    return problems + root_problems(settings)


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
