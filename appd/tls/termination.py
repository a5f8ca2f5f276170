"""What a listener of a `tls-address` holds: the policy, the certificates as they are now, and who uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from appd.errors import ConfigurationError, Problem
from appd.tls.policy import Policy, read_policy

if TYPE_CHECKING:
    from appd.config.settings import Settings
    from appd.tls.material import Material
    from appd.tls.openssl import Contexts

__all__ = ["Termination", "make_termination"]


class Termination:
    """TLS of one server.

    Args:
        server: The name of the server.
        policy: How it speaks TLS.
        material: Its certificates; None where they cannot be looked at (`appd check`), and nothing listens.

    Attributes:
        renewed: Called with the new material before it is taken; each makes ready what it needs and returns what takes
            it into use. One that raises ValueError keeps everything as it was.
    """

    def __init__(self, server: str, policy: Policy, material: Material | None) -> None:
        self.server = server
        self.policy = policy
        self.material = material
        self.renewed: list[Callable[[Material], Callable[[], None]]] = []
        self._contexts: Contexts | None = None

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

        self._prepare()
        return TlsFactory(self.server, self.policy, self._now, factory, reactor)

    def _prepare(self) -> None:
        from appd.tls.openssl import Contexts

        if self._contexts is not None:
            return
        assert self.material is not None, "nothing listens where the certificates cannot be read"
        try:
            self._contexts = Contexts(self.policy, self.material)
        except ValueError as error:
            raise ConfigurationError(Problem(str(error), self.policy.place)) from None
        self.renewed.append(self._renew)

    def _renew(self, material: Material) -> Callable[[], None]:
        from appd.tls.openssl import Contexts

        contexts = Contexts(self.policy, material)

        def take() -> None:
            self._contexts = contexts

        return take

    def _now(self) -> Contexts:
        assert self._contexts is not None
        return self._contexts

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


def make_termination(server: str, settings: Settings, *, lenient: bool) -> tuple[Termination, list[Problem]]:
    """A `<tls>` section → what a listener needs, everything read and checked.

    Args:
        server: The name of the server.
        settings: The section.
        lenient: Whether what this process may not look at is passed over: `appd check` is not the service.

    Returns:
        It, and what could not be looked at.

    Raises:
        ConfigurationError: Every problem at once.
    """
    policy = read_policy(settings)
    # From here on OpenSSL and cryptography are imported.
    from appd.tls import openssl
    from appd.tls.material import read_material

    problems = [Problem(one, policy.ciphers_place) for one in openssl.refusals(policy)]
    material: Material | None = None
    unseen: list[Problem] = []
    try:
        material, unseen = read_material(policy, lenient=lenient)
    except ConfigurationError as error:
        problems += error.problems
    if material is not None and not problems:
        try:
            openssl.Contexts(policy, material)
        except ValueError as error:
            problems.append(Problem(str(error), policy.place))
    if problems:
        raise ConfigurationError(*sorted(problems, key=lambda one: one.place or policy.place))
    return Termination(server, policy, material), unseen
