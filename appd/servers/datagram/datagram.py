"""The `datagram` server type: a section → a server."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.protocol import AbstractDatagramProtocol

from appd import hosting
from appd.errors import ConfigurationError, HostError, Problem
from appd.lending import Section
from appd.servers.datagram.groups import join
from appd.servers.sectioned import SectionedServerType
from appd.service import ServerService

__all__ = ["server_type"]


class _DatagramService(ServerService):
    """A server whose sockets are in multicast groups when it listens."""

    def __init__(self, section: Section, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._settings = section.settings
        self._joined: set[int] = set()

    def _listen(self, listener: Any) -> Any:
        port = super()._listen(listener)
        try:
            self._set_up(port)
            if listener is self.listeners[-1]:
                self._check()
        except BaseException:
            port.stopListening()
            raise
        return port

    def _set_up(self, port: Any) -> None:
        port.batch = self._settings.batch
        sock = port.getHandle()
        if sock.family == socket.AF_UNIX:
            return
        for number, group in enumerate(self._settings.group):
            try:
                if join(sock, group):
                    self._joined.add(number)
            except OSError as error:
                problem = self._settings.problem(
                    f"server {self.name!r}: cannot join group {group}: {error.strerror}", "group", number
                )
                raise HostError(problem, number=error.errno) from None

    def _check(self) -> None:
        problems: list[Problem] = [
            self._settings.problem(f"server {self.name!r}: no socket of its can join group {group}", "group", number)
            for number, group in enumerate(self._settings.group)
            if number not in self._joined
        ]
        if problems:
            raise ConfigurationError(*problems)


class _DatagramServerType(SectionedServerType):
    """Serves a DatagramProtocol."""

    kinds = frozenset({"datagram"})
    section_says = "names the protocol"

    def make(self, name: str, section: Section) -> ServerService:
        """See SectionedServerType."""
        settings = section.settings
        dotted = settings.protocol
        hosted = hosting.load(dotted, settings, "protocol")
        if not callable(hosted):
            raise ConfigurationError(settings.problem(f"{dotted} is not callable: it is {hosted!r}", "protocol"))
        arguments = hosting.with_options(hosted, settings.options, dotted)
        missing = hosting.missing_options(hosted, arguments)
        if missing:
            raise ConfigurationError(settings.problem(f"{dotted} needs <options> {', '.join(missing)}", "protocol"))

        def make() -> Any:
            made = hosting.call(f"{dotted} failed", lambda: hosted(**arguments), settings, "protocol")
            if not isinstance(made, AbstractDatagramProtocol):
                raise ConfigurationError(
                    settings.problem(f"{dotted} made {made!r}, which is no DatagramProtocol", "protocol")
                )
            return made

        # The first one now, so that what is wrong with it is found before anything listens.
        ready = [make()]
        return _DatagramService(
            section,
            name,
            "datagram",
            section.listeners,
            section.host.reactor,
            datagram=lambda: ready.pop() if ready else make(),
            description=dotted,
            processes=settings.processes or self.processes,
        )


server_type = _DatagramServerType()
