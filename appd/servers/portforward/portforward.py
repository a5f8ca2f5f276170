"""The `portforward` server type: a section → a service that passes connections on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appd.address import Address, parse
from appd.config.datatypes import one_of
from appd.errors import ConfigurationError
from appd.lending import Host, Section
from appd.limits import StreamLimits
from appd.servers.sectioned import SectionedServerType, read_limits
from appd.service import ServerService

if TYPE_CHECKING:
    from appd.config.settings import Settings
    from appd.tls.outgoing import Outgoing

__all__ = ["proxy_protocol", "server_type", "target"]

proxy_protocol = one_of("off", "v1", "v2")
_USUAL = StreamLimits()


def target(text: str) -> Address:
    """Where connections go: HOST:PORT, or the path of a UNIX socket."""
    found = parse(text)
    if found.kind == "unix" or (found.kind == "tcp" and found.host and found.port):
        return found
    raise ValueError(f"{text!r} is nothing to connect to: HOST:PORT like 127.0.0.1:8080, or a path like /run/x.sock")


def _connector(settings: Settings, host: Host) -> tuple[Any, Address, Outgoing | None]:
    """The endpoint of a section, where that is, and how it speaks TLS there.

    Raises:
        ConfigurationError: The section contradicts itself, or its certificates are wrong.
    """
    from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint

    to, tls_to, client_tls = settings.to, settings.tls_to, settings.client_tls
    where: Address = tls_to or to
    if (to is None) == (tls_to is None):
        raise ConfigurationError(
            settings.problem("<portforward> needs to or tls-to, one of them", "to" if to is not None else "")
        )
    if client_tls is not None and tls_to is None:
        raise ConfigurationError(client_tls.problem("nothing uses <client-tls>: write tls-to in place of to"))
    if where.path:
        # A name in the abstract namespace begins with a NUL there.
        path = "\0" + where.path[1:] if where.path.startswith("@") else where.path
        endpoint: Any = UNIXClientEndpoint(host.reactor, path, timeout=settings.connect_timeout)
    else:
        endpoint = HostnameEndpoint(host.reactor, where.host, where.port, timeout=settings.connect_timeout)
    if tls_to is None:
        return endpoint, where, None
    if where.path and (client_tls is None or not client_tls.server_name):
        raise ConfigurationError(
            settings.problem("tls-to with a path needs the server-name of a <client-tls>: a path has none", "tls_to")
        )
    from appd.tls.outgoing import make_outgoing

    outgoing, _unseen = make_outgoing(client_tls, lenient=host.log is None, keeping=host.keeping())
    return endpoint, where, outgoing


class _PortforwardServerType(SectionedServerType):
    """Passes connections on."""

    limits = _USUAL.keys
    outgoing = True
    processes = "all"
    section_says = "says where to"

    def make(self, name: str, section: Section) -> ServerService:
        """See SectionedServerType."""
        from appd.servers.portforward.forwarding import Forwarding

        settings, reactor = section.settings, section.host.reactor
        endpoint, where, outgoing = _connector(settings, section.host)
        limits = read_limits(section, _USUAL)
        service = ServerService(
            name,
            "portforward",
            section.listeners,
            reactor,
            Forwarding(
                name,
                endpoint,
                str(where),
                reactor,
                settings.connect_timeout,
                settings.proxy_protocol,
                outgoing.creator(where.host) if outgoing is not None else None,
            ),
            description=f"to {where}{' over TLS' if outgoing is not None else ''}",
            processes=settings.processes or self.processes,
            limits=limits,
        )
        from appd.tls.target import Target

        service.connects = [Target(where.host, where.port, where.path, outgoing)]
        return service


server_type = _PortforwardServerType()
