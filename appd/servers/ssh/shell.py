"""A Python shell in the worker: twisted.conch's manhole. Whoever gets it may do all that the worker may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.conch.error import ConchError
from twisted.conch.insults.insults import ServerProtocol
from twisted.conch.interfaces import ISession
from twisted.conch.manhole import Manhole
from twisted.conch.manhole_ssh import TerminalSessionTransport
from twisted.logger import Logger
from zope.interface import implementer

__all__ = ["Shell"]

_log = Logger(namespace="appd.ssh")


class _Manhole(Manhole):
    """Tells the log what is typed."""

    def __init__(self, namespace: Mapping[str, Any], user: str, server: str) -> None:
        super().__init__(dict(namespace))
        self._user = user
        self._server = server

    def lineReceived(self, line: bytes) -> None:
        _log.info(
            "{appd_server}: manhole of {user!r}: {line}",
            appd_server=self._server,
            user=self._user,
            line=line.decode("utf-8", "replace"),
        )
        super().lineReceived(line)


@implementer(ISession)
class Shell:
    """One session.

    Args:
        user: Whose, an IConchUser with a `name`.
        namespace: What the shell knows by name.
        server: The name of the server.
    """

    def __init__(self, user: Any, namespace: Mapping[str, Any], server: str) -> None:
        self._user = user
        self._namespace = namespace
        self._server = server
        self._terminal: Any = None
        self._size = (80, 24)

    def getPty(self, term: Any, windowSize: Any, modes: Any) -> None:
        """See ISession."""
        self._size = (windowSize[1], windowSize[0])

    def openShell(self, proto: Any) -> None:
        """See ISession."""
        self._user.conn.transport.open_things += 1
        _log.info("{appd_server}: manhole of {user!r} opens", appd_server=self._server, user=self._user.name)
        self._terminal = ServerProtocol(_Manhole, self._namespace, self._user.name, self._server)
        TerminalSessionTransport(proto, self._terminal, self._user, *self._size)

    def execCommand(self, proto: Any, command: bytes) -> None:
        """See ISession."""
        raise ConchError("no command is run")

    def windowChanged(self, newWindowSize: Any) -> None:
        """See ISession."""
        self._size = (newWindowSize[1], newWindowSize[0])
        if self._terminal is not None and self._terminal.terminalProtocol is not None:
            self._terminal.terminalProtocol.terminalSize(*self._size)

    def eofReceived(self) -> None:
        """See ISession."""
        if self._terminal is not None:
            self._terminal.loseConnection()

    def closed(self) -> None:
        """See ISession."""
        if self._terminal is not None:
            self._terminal = None
            self._user.conn.transport.open_things -= 1
            _log.info("{appd_server}: manhole of {user!r} closes", appd_server=self._server, user=self._user.name)
