"""The `dns` server type: a section → a server."""

from __future__ import annotations

from typing import Any

from appd.errors import ConfigurationError, Problem
from appd.lending import Section
from appd.limits import StreamLimits
from appd.servers.sectioned import SectionedServerType, read_limits
from appd.service import ServerService

__all__ = ["server_type"]

# RFC 7766, 6.2.3: some seconds; a busy client connects anew.
_USUAL = StreamLimits(idle_timeout=30)
_TRUSTED = ("127.0.0.0/8", "::1/128", "unix")


class _DnsServerType(SectionedServerType):
    """Answers from zones, and for trusted clients from others."""

    kinds = frozenset({"stream", "datagram"})
    limits = _USUAL.keys
    processes = "all"
    section_says = "says what is answered"

    def make(self, name: str, section: Section) -> ServerService:
        """See SectionedServerType."""
        settings, host = section.settings, section.host
        try:
            import dns.message  # noqa: F401  # what it needs is an extra, and said here
        except ImportError:
            message = "<dns> needs a package that is not installed: python3-dnspython of Debian, dnspython of PyPI"
            raise ConfigurationError(settings.problem(message)) from None
        from appd.servers.dns.answering import Answering
        from appd.servers.dns.clients import Networks, Rates
        from appd.servers.dns.forwarding import Cache, Resolver
        from appd.servers.dns.protocols import Datagrams, Service, Streams

        zones = _zones(settings)
        resolver = None
        if settings.forward:
            cache = Cache(settings.cache)
            resolver = Resolver(settings.forward, cache, settings.forward_timeout, host.reactor, name)
        shared = Service(
            Answering(zones, settings.response_size, forwards=resolver is not None),
            resolver,
            Networks(settings.trusted or _TRUSTED),
            Networks(settings.transfer),
            Rates(settings.response_rate),
            host.reactor,
        )
        limits = read_limits(section, _USUAL)
        if section.tls is not None:
            section.tls.speaks("dot")  # RFC 7858, 3.1: its name for ALPN
        parts = [f"{len(zones)} zones"] if len(zones) else []
        parts += [f"forward to {one}" for one, _port in settings.forward]
        service = ServerService(
            name,
            "dns",
            section.listeners,
            host.reactor,
            Streams(shared),
            lambda: Datagrams(shared),
            description=", ".join(parts),
            processes=settings.processes or self.processes,
            limits=limits,
            paced=True,
        )
        shared.count = service.count_request
        service.outgoing = resolver is not None
        return service


def _zones(settings: Any) -> Any:
    from appd.servers.dns.zones import Zones, read_zone

    problems: list[Problem] = []
    zones: list[Any] = []
    seen: set[str] = set()
    if not settings.zone and not settings.forward:
        problems.append(settings.problem("<dns> knows nothing: add a zone, or forward"))
    for number, (origin, path) in enumerate(settings.zone):
        try:
            zones.append(read_zone(origin, path))
            if origin in seen:
                problems.append(settings.problem(f"zone {origin} is there twice", "zone", number))
            seen.add(origin)
        except OSError as error:
            reason = f"cannot read {error.filename or path}: {error.strerror}"
            problems.append(settings.problem(f"zone {origin}: {reason}", "zone", number))
        except ValueError as error:
            problems.append(settings.problem(f"zone {origin}: {path}: {error}", "zone", number))
    if problems:
        raise ConfigurationError(*problems)
    return Zones(zones)


server_type = _DnsServerType()
