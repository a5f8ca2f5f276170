"""`<server>`: a server type by name, or a factory by dotted name.

The names that zope.app.twisted had win over installed server types, and these over dotted names.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from zope.interface import implementer

from appd import hosting
from appd.config.loader import section_of
from appd.config.settings import Settings
from appd.errors import ConfigurationError
from appd.interfaces import IServerType, Section
from appd.limits import StreamLimits, unused_limits
from appd.registry import Registry
from appd.servers.http.mounts import LIMITS
from appd.servers.sectioned import read_limits
from appd.service import ServerService
from appd.systemd.confinement import is_outgoing
from appd.tls.policy import nothing_uses_tls

__all__ = ["server_type"]

# HTTP with `debug on`: alone on a terminal an error drops into pdb.
_DEBUGGING = "postmortemdebugginghttp"
# What appd calls them.
_CALLED = {"sftp": "ssh"}
# These name a type themselves.
_OURS = frozenset({"server", "sshserver", "sslserver"})

# Of a factory that we know nothing of.
_USUAL = StreamLimits()


@implementer(IServerType)
class _NamedServerType:
    """Finds what the `type` key names and has it make the server."""

    # What the type it names does not serve is refused when the server has been made.
    kinds = frozenset({"stream", "datagram"})
    # What the type it names has no use for is refused when it is known who is meant.
    limits = LIMITS | StreamLimits(login_timeout=1).keys
    starts_tls = True
    # As the type that it names has it; nobody can tell of a factory.
    outgoing = False
    processes = "one"
    processes_note = "that of a factory; otherwise as the type has it that `type` names"

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
            raise TypeError("<server> names its type in a section of the file; create the type itself instead")
        settings = section.settings
        wanted = settings.type.lower()
        if wanted == "https" and any(one.tls is None for one in section.listeners):
            raise ConfigurationError(settings.problem("type HTTPS needs tls-address and <tls>, not address", "type"))
        if wanted in ("http", "https", _DEBUGGING):
            _check_limits(name, settings, LIMITS)
            _check_tls(name, section, None)
            return _http_over_application(name, db, section)
        registry = Registry()
        called = _CALLED.get(wanted, wanted)
        registration = registry.find(called) if called not in _OURS and ":" not in called else None
        if registration is not None:
            inner = section_of(registration, registry, settings, settings.options)
            server_type = registration.load()
            _check_limits(name, settings, getattr(server_type, "limits", frozenset()))
            _check_tls(name, section, server_type)
            made = server_type.create(name, db, section=section._replace(settings=inner))
            if isinstance(made, ServerService):
                made.outgoing = is_outgoing(server_type, made)
            return made
        if ":" not in settings.type:
            near = registry.nearest(settings.type, ("http",))
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ConfigurationError(
                settings.problem(
                    f"no server type is called {settings.type!r}: {hint}`appd types` lists them, "
                    "and a factory of your own is package.module:callable",
                    "type",
                )
            )
        _check_limits(name, settings, _USUAL.keys)
        _check_tls(name, section, None)
        return _from_factory(name, section)


def _check_limits(name: str, settings: Settings, used: frozenset[str]) -> None:
    problems = unused_limits(settings, name, f"type {settings.type}", used)
    if problems:
        raise ConfigurationError(*problems)


def _check_tls(name: str, section: Section, server_type: Any) -> None:
    """As `appd.worker.plan` asks of a section of a type's own: a `<tls>` has a use."""
    over_tls = any(one.tls is not None for one in section.listeners)
    if section.tls is not None and not over_tls and not getattr(server_type, "starts_tls", False):
        raise ConfigurationError(section.settings.tls.problem(nothing_uses_tls(name)))


def _http_over_application(name: str, db: Any, section: Section) -> Any:
    from appd.servers.http.http import serve_application

    settings = section.settings
    if db is None:
        raise ConfigurationError(
            settings.problem(
                "type HTTP serves what application-object makes, and the file has no application-object", "type"
            )
        )
    if settings.options is not None and settings.options.values["values"]:
        raise ConfigurationError(settings.options.problem("type HTTP takes no options; <http> has keys for everything"))
    return serve_application(name, db, section, debug=settings.type.lower() == _DEBUGGING)


def _from_factory(name: str, section: Section) -> ServerService:
    settings = section.settings
    hosted = hosting.load(settings.type, settings, "type")
    if not callable(hosted):
        raise ConfigurationError(settings.problem(f"{settings.type} is not callable: it is {hosted!r}", "type"))
    arguments = hosting.with_options(hosted, settings.options, settings.type)
    missing = hosting.missing_options(hosted, arguments)
    if missing:
        raise ConfigurationError(settings.problem(f"{settings.type} needs <options> {', '.join(missing)}", "type"))
    factory = hosting.call(f"{settings.type} failed", lambda: hosted(**arguments), settings, "type")
    if not IProtocolFactory.providedBy(factory):
        raise ConfigurationError(
            settings.problem(
                f"{settings.type} made {factory!r}, which is no Twisted protocol factory (IProtocolFactory)", "type"
            )
        )
    return ServerService(
        name,
        settings.type,
        section.listeners,
        section.host.reactor,
        factory,
        description=settings.type,
        processes=settings.processes or server_type.processes,
        limits=read_limits(section, _USUAL),
    )


server_type = _NamedServerType()
