"""The `http` server type: a section → a server that listens when it is started."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from appd.declaring import implements
from appd.errors import ConfigurationError
from appd.http.site import Site, of_application
from appd.lending import Host
from appd.servers import ServerType, SSLServerType
from appd.servers.http.forerunner import Forerunner
from appd.servers.http.mounts import LIMITS, not_by_twisted, read_limits, read_site

if TYPE_CHECKING:
    from appd.address import Address
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
            return _service(name, lambda: read_site(section.settings), section)
        if not callable(db):
            raise TypeError(f"without a section, http serves a WSGI application, and {db!r} is not callable")
        plain = ServerType(lambda application: _over(name, application), _PORT, name="http")
        return plain.create(name, db, ip, port, backlog, address)

    def forerun(self, name: str, section: Section) -> Forerunner:
        """Makes what may serve before Twisted is imported; `create` takes it over. As `create`, but for that."""
        made = _forerunner(name, lambda: read_site(section.settings), section)
        section.host.shared[_key(name)] = made
        return made


def serve_application(name: str, db: Any, section: Section) -> ServerService:
    """Makes a server that answers everything by one WSGI application: `type HTTP` of `<server>`.

    Args:
        name: What the server is called.
        db: The application.
        section: The section, which has a key `type`.

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
    return _service(name, lambda: of_application(db, "application-object")._replace(limits=limits), section)


def _key(name: str) -> str:
    return f"appd.servers.http.forerunner:{name}"


def _service(name: str, read: Callable[[], Site], section: Section) -> ServerService:
    from appd.servers.http.service import HttpService

    made = section.host.shared.pop(_key(name), None) or _forerunner(name, read, section)
    return HttpService(name, made, section)


def _forerunner(name: str, read: Callable[[], Site], section: Section) -> Forerunner:
    by_twisted = any(not hasattr(one, "duplicate") or one.tls is not None for one in section.listeners)
    problems = not_by_twisted(section.settings) if by_twisted else []
    try:
        site = read()
    except ConfigurationError as error:
        raise ConfigurationError(*problems, *error.problems) from None
    if problems:
        raise ConfigurationError(*problems)
    for one in section.listeners:
        if one.tls is not None:
            one.tls.speaks("http/1.1")
    return Forerunner(name, site, section)


def _over(name: str, application: Any) -> Any:
    """The factory for a server that no file describes: it borrows the reactor's threads."""
    from twisted.internet import reactor

    from appd.servers.http.web import SiteFactory

    threads: Any = reactor.getThreadPool()  # type: ignore[attr-defined]  # the module stands for the reactor
    return SiteFactory(name, of_application(application, "application"), Host(reactor, threads, settings=None))  # type: ignore[arg-type]  # nobody reads them


server_type = _HttpServerType()

# HTTPS of zope.app.twisted, for programs; a file has tls-address. The port is that of its own.
https_type = SSLServerType(lambda application: _over("https", application), 8443, name="https")
