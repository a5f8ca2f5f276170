"""`<amp>`: AMP over any stream socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory
from twisted.protocols.amp import AMP, IResponderLocator

from appd import hosting
from appd.errors import ConfigurationError
from appd.lending import Section
from appd.limits import StreamLimits
from appd.servers.nonsense import ending_with
from appd.servers.sectioned import SectionedServerType, read_limits
from appd.service import ServerService

__all__ = ["server_type"]

USUAL = StreamLimits()


class _AmpFactory(Factory):
    noisy = False

    def __init__(self, make: Callable[[], Any], server: str, most: int) -> None:
        self._make = make
        self._server = server
        self._most = most

    def buildProtocol(self, address: Any) -> AMP:
        """A protocol that answers as the responder does."""
        made = self._make()
        protocol: AMP = made if isinstance(made, AMP) else AMP(locator=made)
        protocol.factory = self
        guarded: AMP = ending_with(protocol, self._server, lambda: protocol._currentBox, self._most)
        return guarded


class _AmpType(SectionedServerType):
    limits = USUAL.keys
    section_says = "names its responder"

    def make(self, name: str, section: Section) -> ServerService:
        """See SectionedServerType."""
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
            _AmpFactory(make, name, settings.message_size),
            description=settings.responder,
            processes=settings.processes or self.processes,
            limits=read_limits(section, USUAL),
            paced=True,
        )


server_type = _AmpType()
