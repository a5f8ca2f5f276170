"""`<pb>`: Perspective Broker over any stream socket.

Who logs in is asked of an `<auth>` section, one portal for each connection, so that failures are slowed and counted by
peer. PB's login never sends the password but the answer to a challenge (IUsernameHashedPassword), which a file of
hashes cannot verify.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.cred.credentials import IUsernameHashedPassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.spread.pb import Error, IPBRoot, PBServerFactory
from zope.interface import implementer

from appd import hosting
from appd.errors import ConfigurationError
from appd.lending import Section
from appd.limits import StreamLimits, logged_in
from appd.servers.nonsense import ending_with
from appd.servers.sectioned import SectionedServerType, read_limits
from appd.service import ServerService

__all__ = ["server_type"]

# With a realm. Objects are used for as long as the other end wants.
USUAL = StreamLimits(login_timeout=60)


class _Refused(UnauthorizedLogin, Error):
    """A login that is refused, for clients the same as UnauthorizedLogin.

    PB logs the traceback of every error that it sends, unless it is one of its own, which belongs to the answers.
    """


# What a client is told is the name.
_Refused.__module__, _Refused.__name__ = UnauthorizedLogin.__module__, UnauthorizedLogin.__name__
_Refused.__qualname__ = UnauthorizedLogin.__qualname__


class _PortalOfConnection(Portal):
    """A portal that is made when somebody logs in: the root is asked for before there is a transport."""

    def __init__(self, realm: Any, make: Callable[[Any, Any], Any], broker: Any) -> None:
        super().__init__(realm)
        self._make = make
        self._broker = broker

    def login(self, credentials: Any, mind: Any, *interfaces: Any) -> Any:
        transport = self._broker.transport

        def admitted(result: Any) -> Any:
            logged_in(transport)
            return result

        def refused(failure: Any) -> None:
            failure.trap(UnauthorizedLogin)
            raise _Refused()

        return self._make(self.realm, transport).login(credentials, mind, *interfaces).addCallbacks(admitted, refused)


@implementer(IPBRoot)
class _Login:
    """The root object of those who have not logged in."""

    def __init__(self, realm: Any, make: Callable[[Any, Any], Any]) -> None:
        self._realm = realm
        self._make = make

    def rootObject(self, broker: Any) -> Any:
        """What logs in."""
        return IPBRoot(_PortalOfConnection(self._realm, self._make, broker)).rootObject(broker)


class _Factory(PBServerFactory):  # type: ignore[misc, unused-ignore]  # old releases have no types
    noisy = False

    def __init__(self, root: Any, server: str, most: int) -> None:
        super().__init__(root)
        self._server = server
        self._most = most

    def buildProtocol(self, addr: Any) -> Any:
        """See PBServerFactory."""
        broker = super().buildProtocol(addr)
        # The list that all of a message is in; each has one of its own.
        return ending_with(
            broker, self._server, lambda: broker.listStack[0][1] if broker.listStack else None, self._most
        )


class _PbType(SectionedServerType):
    limits = USUAL.keys
    section_says = "names its root"

    def make(self, name: str, section: Section) -> ServerService:
        """See SectionedServerType."""
        settings, host = section.settings, section.host
        if (settings.root is None) == (settings.realm is None):
            raise ConfigurationError(settings.problem(f"server {name!r}: one of root and realm is needed"))
        if (settings.realm is None) != (settings.auth is None):
            raise ConfigurationError(settings.problem(f"server {name!r}: realm and auth go together"))
        limits = read_limits(section, USUAL)
        root = hosting.called(settings, "root" if settings.root is not None else "realm")
        if settings.root is not None:
            if IPBRoot(root, None) is None:
                raise ConfigurationError(
                    settings.problem(f"{settings.root} made {root!r}, which is no root object (IPBRoot)", "root")
                )
            limits = limits._replace(login_timeout=0.0)
        else:
            root = self._login(name, section, root)
        return ServerService(
            name,
            "pb",
            section.listeners,
            host.reactor,
            _Factory(root, name, settings.message_size),
            description=settings.root or settings.realm,
            processes=settings.processes or self.processes,
            limits=limits,
            paced=True,
        )

    @staticmethod
    def _login(name: str, section: Section, realm: Any) -> _Login:
        from appd.auth.portal import takes
        from appd.auth.sections import auth_of, portals_of

        settings, host = section.settings, section.host
        if not IRealm.providedBy(realm):
            message = f"{settings.realm} made {realm!r}, which is no realm (IRealm)"
            raise ConfigurationError(settings.problem(message, "realm"))
        make = portals_of(settings, host, name)
        if not takes(auth_of(settings, host), IUsernameHashedPassword):
            message = (
                f"server {name!r}: PB's login is a challenge, and <auth {settings.auth}> keeps hashes alone: "
                "give it a checker that knows passwords, like `checker file:/path`"
            )
            raise ConfigurationError(settings.problem(message, "auth"))
        return _Login(realm, make)


server_type = _PbType()
