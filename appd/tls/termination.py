"""What a listener of a `tls-address` holds: the policy, the certificates as they are now, and who uses them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from appd.errors import ConfigurationError, Problem
from appd.tls.policy import Policy, read_policy

if TYPE_CHECKING:
    import ssl

    from appd.config.settings import Settings
    from appd.tls import openssl, stdlib
    from appd.tls.keeping import Keeping
    from appd.tls.material import Material, Refused
    from appd.tls.starting import StartTls

__all__ = ["Termination", "make_termination"]

_Contexts = TypeVar("_Contexts")


class Termination:
    """TLS of one server.

    Args:
        server: The name of the server.
        policy: How it speaks TLS.
        material: Its certificates; None where they cannot be looked at (`appd check`), and nothing listens.

    Attributes:
        renewed: Called with the new material before it is taken; each makes ready what it needs and returns what takes
            it into use. One that raises ValueError keeps everything as it was.
        handshake: How long a client may take for the handshake on Twisted's transports, in seconds.
        former: What the worker before this one served, until it is known whether that is needed.
        refused: What lies in the files, where that is served in its place; None else.
        changed: Called when other certificates have been taken.
    """

    def __init__(self, server: str, policy: Policy, material: Material | None) -> None:
        self.server = server
        self.policy = policy
        self.material = material
        self.handshake = 10.0
        self.renewed: list[Callable[[Material], Callable[[], None]]] = []
        self.former: Material | None = None
        self.refused: Refused | None = None
        self.changed: Callable[[], None] = lambda: None
        self._openssl: Callable[[], openssl.Contexts] | None = None
        self._libraries: tuple[str, ...] = ("openssl",)

    def speaks(self, *protocols: str) -> None:
        """Says what the server type speaks over TLS, the best first, for ALPN (RFC 7301). Before anything listens."""
        self.policy = self.policy._replace(alpn=protocols)

    def wrap(self, factory: Any, reactor: Any) -> Any:
        """A protocol factory that serves another over TLS, on Twisted's transports.

        Args:
            factory: What serves.
            reactor: The reactor, for deadlines.

        Raises:
            ConfigurationError: The library refuses the certificates.
        """
        from appd.tls.transport import TlsFactory

        self._on_transports()
        return TlsFactory(self.server, self.policy, self._on_transports, factory, reactor, self.handshake)

    def starter(self, reactor: Any) -> StartTls:
        """For a protocol that begins TLS in the middle of a connection (STARTTLS), when its server is made.

        Args:
            reactor: The reactor, for deadlines.
        """
        from appd.tls.starting import StartTls

        return StartTls(
            self._on_transports, reactor, lambda: self.handshake, lambda factory: self.wrap(factory, reactor)
        )

    def _on_transports(self) -> openssl.Contexts:
        """The contexts for Twisted's transports as they are now; made when first asked for."""
        if self._openssl is None:
            from appd.tls.openssl import Contexts

            self._openssl = self._kept(Contexts)
        return self._openssl()

    def by_stdlib(self, *, alone: bool) -> None:
        """Says that an engine with sockets of its own serves, on Python's ssl. When it is made.

        Args:
            alone: Whether no Twisted transport serves beside it.
        """
        self._libraries = ("stdlib",) if alone else ("stdlib", "openssl")

    def problems(self) -> list[Problem]:
        """What the libraries that serve cannot do of what is asked for, and whether they take the certificates; where
        they do not, those of the worker before this one serve, if there are such."""
        problems, former, material = self._refusals(), self.former, self.material
        self.former = None
        if not problems or former is None or material is None:
            return problems
        self.material = former
        if self._refusals():
            return problems
        from appd.tls.material import Refused

        # As a renewal that tries them again will say it.
        self.refused = self.refused or Refused([Problem(problems[0].message)], material.fingerprint)
        return []

    def _refusals(self) -> list[Problem]:
        problems: dict[str, Problem] = {}
        for name in self._libraries:
            library = import_module(f"appd.tls.{name}")
            refused = [Problem(one, self.policy.ciphers_place) for one in library.refusals(self.policy)]
            if not refused and self.material is not None:
                try:
                    library.Contexts(self.policy, self.material)
                except ValueError as error:
                    refused.append(Problem(str(error), self.policy.place))
            problems |= {str(one): one for one in refused}
        return list(problems.values())

    def on_sockets(self, session_class: type[ssl.SSLObject] | None = None) -> stdlib.OnSockets:
        """For an engine that has sockets of its own, when it begins to listen.

        Args:
            session_class: What a session is, with its socket; Python's own without one.

        Returns:
            What makes connections by the certificates as they are now; any thread may ask it.

        Raises:
            ConfigurationError: The library refuses the certificates.
        """
        from appd.tls.stdlib import Contexts, OnSockets

        def make(policy: Policy, material: Material) -> Contexts:
            made = Contexts(policy, material)
            if session_class is not None:
                made.default.sslobject_class = session_class
            return made

        return OnSockets(self.policy, self._kept(make))

    def _kept(self, make: Callable[[Policy, Material], _Contexts]) -> Callable[[], _Contexts]:
        """Contexts that follow the certificates."""
        assert self.material is not None, "nothing listens where the certificates cannot be read"
        try:
            now = [make(self.policy, self.material)]
        except ValueError as error:
            raise ConfigurationError(Problem(str(error), self.policy.place)) from None

        def renew(material: Material) -> Callable[[], None]:
            fresh = make(self.policy, material)
            return lambda: now.__setitem__(0, fresh)

        self.renewed.append(renew)
        return lambda: now[0]

    def renew(self, material: Material) -> None:
        """Takes other certificates for every connection that begins from now on.

        Args:
            material: The certificates, checked.

        Raises:
            ValueError: A library refuses them, and nothing has changed.
        """
        ready = [one(material) for one in self.renewed]
        for take in ready:
            take()
        self.material = material
        self.changed()


def make_termination(
    server: str, settings: Settings, *, lenient: bool, keeping: Keeping | None = None
) -> tuple[Termination, list[Problem]]:
    """A `<tls>` section → what a listener needs, everything read and checked.

    Args:
        server: The name of the server.
        settings: The section.
        lenient: Whether what this process may not look at is passed over: `appd check` is not the service.
        keeping: Has what the worker before this one served, for want of anything better, and keeps what this one does.

    Returns:
        It, and what could not be looked at. What its library cannot do: `problems`, once that is known.

    Raises:
        ConfigurationError: Every problem at once.
    """
    policy = read_policy(settings)
    # From here on Python's ssl and cryptography are imported; pyOpenSSL only for whom needs it.
    from appd.tls import stdlib
    from appd.tls.keeping import read_or_keep

    problems: list[Problem] = []
    if stdlib.refusals(policy):
        from appd.tls import openssl

        # Which of both serves is not known yet; what neither can do is told with all the rest.
        problems += [Problem(one, policy.ciphers_place) for one in openssl.refusals(policy)]
    made = Termination(server, policy, None)
    unseen: list[Problem] = []
    made.former = keeping.former(server, policy) if keeping is not None else None
    try:
        made.material, unseen, made.refused = read_or_keep(policy, made.former, lenient=lenient)
    except ConfigurationError as error:
        problems += error.problems
    if problems:
        raise ConfigurationError(*sorted(problems, key=lambda one: one.place or policy.place))
    if keeping is not None:
        keeping.hold(server, made, policy)
    return made, unseen
