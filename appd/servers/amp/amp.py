"""`<amp>`: AMP over any stream socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory
from twisted.protocols.amp import AMP, IResponderLocator
from zope.interface import implementer

from appd import hosting
from appd.errors import ConfigurationError
from appd.interfaces import IServerType, Section
from appd.limits import StreamLimits, read_stream_limits
from appd.service import ServerService

__all__ = ["server_type"]

USUAL = StreamLimits()


class _AmpFactory(Factory):
    noisy = False

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def buildProtocol(self, address: Any) -> AMP:
        """A protocol that answers as the responder does."""
        made = self._make()
        protocol: AMP = made if isinstance(made, AMP) else AMP(locator=made)
        protocol.factory = self
        return protocol


@implementer(IServerType)
class _AmpType:
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
    ) -> ServerService:
        """Makes a server; see `appd.interfaces.IServerType.create`. It needs a section."""
        if section is None:
            raise TypeError("<amp> names its responder in a section of the file")
        settings = section.settings
        make = hosting.with_arguments(settings, "responder")
        # The first one, of nobody, shows whether it is one.
        first = hosting.call(f"{settings.responder} failed", make, settings, "responder")
        if not IResponderLocator.providedBy(first):
            message = f"{settings.responder} made {first!r}, which is no responder (amp.AMP or amp.CommandLocator)"
            raise ConfigurationError(settings.problem(message, "responder"))
        return ServerService(
            name,
            "amp",
            section.listeners,
            section.host.reactor,
            _AmpFactory(make),
            description=settings.responder,
            processes=settings.processes or "one",
            limits=read_stream_limits(settings.limits, USUAL),
        )


server_type = _AmpType()
