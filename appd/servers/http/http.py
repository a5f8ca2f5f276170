"""The `http` server type: a section → a server that listens when it is started."""

from __future__ import annotations

from appd.config.settings import Settings
from appd.declaring import implements
from appd.errors import ConfigurationError, Place, Problem
from appd.http.site import Site, of_application
from appd.lending import Host, Section
from appd.servers import ServerType, SSLServerType
from appd.servers.http.forerunner import Forerunner, bound_by_twisted, may_begin
from appd.servers.http.mounts import LIMITS, read_limits, read_site
from appd.startup.bare import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from appd.address import Address
    from appd.http.basic import Guard
    from appd.service import ServerService

__all__ = ["https_type", "serve_application", "server_type"]

# What the servers share that a program makes, without a file: the lane, and how many calls it runs at once.
_SHARED: dict[str, Any] = {}
_THREADS = 8


@implements("IServerType")
class _HttpServerType(ServerType):
    """Serves the mounts of a section, or without a section the application object.

    Args:
        name: What the log calls it.
        port: The port when none is given: what RFC 9110 gives http needs a privilege.
    """

    def __init__(self, name: str, port: int) -> None:
        super().__init__(of_application, port, name=name, processes="all")
        self.limits = LIMITS

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
            raise TypeError(f"without a section, {self._name} serves a WSGI application, and {db!r} is not callable")
        from twisted.internet import reactor

        settings = Settings(self._name, None, Place("", 0), {"processes": None, "threads": _THREADS}, {}, {})
        section = Section(
            settings, [self._listener(ip, port, backlog, address)], Host(reactor, None, settings, shared=_SHARED)
        )
        made = _service(name, lambda: of_application(db, "application"), section)
        made.type_name = self._name
        return made

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


class _HttpsServerType(SSLServerType, _HttpServerType):  # type: ignore[misc]  # two contracts, in this order
    """The same over TLS, for programs; arguments as for that."""


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
    problems: list[Problem] = []
    by_twisted = any(map(bound_by_twisted, section.listeners))
    if by_twisted and section.settings.values.get("proxy_protocol"):
        message = "proxy-protocol on is not for an address that Twisted binds: haproxy:... is one that reads the header"
        problems.append(section.settings.problem(message, "proxy_protocol"))
    if section.tls is not None and not all(map(bound_by_twisted, section.listeners)):
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


server_type = _HttpServerType("http", 8080)

# HTTPS of zope.app.twisted, for programs; a file has tls-address.
https_type = _HttpsServerType("https", 8443)
