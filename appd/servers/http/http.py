"""The `http` server type: a section → a server that listens when it is started."""

from __future__ import annotations

from appd.declaring import implements
from appd.errors import ConfigurationError
from appd.http.site import Site, of_application
from appd.lending import Host
from appd.servers import ServerType, SSLServerType
from appd.servers.http.forerunner import Forerunner, may_begin
from appd.servers.http.mounts import LIMITS, not_by_twisted, read_limits, read_site
from appd.startup.bare import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from appd.address import Address
    from appd.config.settings import Settings
    from appd.http.basic import Guard
    from appd.lending import Section
    from appd.service import ServerService

__all__ = ["https_type", "serve_application", "server_type"]

# What RFC 9110 gives http needs a privilege; this is the port that everybody takes instead.
_PORT = 8080


@implements("IServerType")
class _HttpServerType:
    """Serves the mounts of a section, or without a section the application object."""

    kinds = frozenset({"stream"})
    limits = LIMITS
    processes = "all"
    starts_tls = False
    outgoing = False

    def create(
        self,
        name: str,
        db: Any,
        ip: str | None = None,
        port: int | None = None,
        backlog: int = 50,
        address: Address | str | None = None,
        section: Section | None = None,
    ) -> ServerService:
        """Makes a server; see `appd.interfaces.IServerType.create`. Without a section `db` is a WSGI application."""
        if section is not None:
            return _service(name, partial(_read_section, name, section), section)
        if not callable(db):
            raise TypeError(f"without a section, http serves a WSGI application, and {db!r} is not callable")
        plain = ServerType(lambda application: _over(name, application), _PORT, name="http")
        return plain.create(name, db, ip, port, backlog, address)

    def forerun(self, name: str, section: Section) -> Forerunner | None:
        """Makes what may serve before Twisted is imported; `create` goes on with it.

        Args:
            name: As for `create`.
            section: Its host has no reactor and no threads yet.

        Returns:
            None when that may not be.

        Raises:
            ConfigurationError: The settings are wrong; every problem at once.
        """
        site = _checked(partial(_read_section, name, section), section)
        made = Forerunner(name, site, section) if may_begin(site, section.listeners) else None
        # Hosted code has been called: `create` may not do so again.
        section.host.shared[_key(name)] = (site, made)
        return made


def _key(name: str) -> str:
    return f"appd.servers.http.forerunner:{name}"


def _read_section(name: str, section: Section) -> Site:
    return read_site(section.settings, name, section.host, partial(_guard, name, section.host))


def _guard(name: str, host: Host, settings: Settings) -> Guard:
    """What stands before a mount with a key `auth`.

    Raises:
        ConfigurationError: No `<auth>` of that name is in the file.
    """
    from appd.auth.gate import Gate
    from appd.auth.sections import auth_of
    from appd.http.basic import Guard

    auth = auth_of(settings, host)
    if auth.passwords is None and not auth.checkers:
        message = f"auth {settings.auth} has SSH keys only, and HTTP asks for a password"
        raise ConfigurationError(settings.problem(message, "auth"))
    return Guard(auth.name, Gate(auth, name, host.reactor))


def serve_application(name: str, db: Any, section: Section, *, debug: bool = False) -> ServerService:
    """Makes a server that answers everything by one WSGI application: `type HTTP` of `<server>`.

    Args:
        name: What the server is called.
        db: The application.
        section: The section, which has a key `type`.
        debug: As the key of `<http>`.

    Raises:
        ConfigurationError: It is no application.
    """
    settings = section.settings
    if not callable(db):
        raise ConfigurationError(
            settings.problem(
                f"type {settings.type} serves a WSGI application, but application-object made {db!r}, "
                "which is not callable",
                "type",
            )
        )
    limits = read_limits(settings.limits)
    return _service(
        name, lambda: of_application(db, "application-object")._replace(limits=limits, debug=debug), section
    )


def _service(name: str, read: Callable[[], Site], section: Section) -> ServerService:
    from appd.servers.http.service import HttpService

    site, made = section.host.shared.pop(_key(name), (None, None))
    return HttpService(name, site or _checked(read, section), section, made)


def _checked(read: Callable[[], Site], section: Section) -> Site:
    # One without a kind is a name that systemd will pass: all that `appd check` has of it.
    by_twisted = any(one.kind and not hasattr(one, "duplicate") for one in section.listeners)
    problems = not_by_twisted(section.settings) if by_twisted else []
    if section.tls is not None and any(hasattr(one, "duplicate") or not one.kind for one in section.listeners):
        section.tls.by_stdlib(alone=not by_twisted)
    try:
        site = read()
    except ConfigurationError as error:
        raise ConfigurationError(*problems, *error.problems) from None
    if problems:
        raise ConfigurationError(*problems)
    for one in section.listeners:
        if one.tls is not None:
            one.tls.speaks(*(("h2", "http/1.1") if site.http2 else ("http/1.1",)))
    return site


def _over(name: str, application: Any) -> Any:
    """The factory for a server that no file describes: it borrows the reactor's threads."""
    from twisted.internet import reactor

    from appd.servers.http.web.factory import SiteFactory

    threads: Any = reactor.getThreadPool()  # type: ignore[attr-defined]  # the module stands for the reactor
    return SiteFactory(name, of_application(application, "application"), Host(reactor, threads, settings=None))  # type: ignore[arg-type]  # nobody reads them


server_type = _HttpServerType()

# HTTPS of zope.app.twisted, for programs; a file has tls-address. The port is that of its own.
https_type = SSLServerType(lambda application: _over("https", application), 8443, name="https")
