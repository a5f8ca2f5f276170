"""TLS of connections that appd opens: who is at the other end is verified, always.

`<client-tls>` → `Outgoing` → an `ssl.SSLContext` for who has sockets or asyncio, or an endpoint of Twisted's. Without a
`ca` the authorities are those of the host. What the certificate is called is compared by service_identity (RFC 9525),
on top of what OpenSSL verifies; there is no way to switch either off: a server with a certificate that it signed itself
is trusted by naming that in `ca`.

The files are looked at when a connection is made, every few seconds at most; what has become wrong is logged, and what
was read before is used on.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from appd.errors import ConfigurationError, Place, Problem
from appd.tls.identity import is_called
from appd.tls.keeping import Keeping, read_or_keep
from appd.tls.material import Material, Refused, read_material
from appd.tls.policy import CIPHERS, Policy, cipher_words, read_source
from appd.tls.secretfile import as_file
from appd.tls.sources import fingerprint
from appd.tls.stdlib import load_pair

if TYPE_CHECKING:
    from appd.config.settings import Settings

__all__ = ["Outgoing", "has_roots", "make_outgoing"]

# How long files are taken to be what they were, in seconds.
_LOOK_AGAIN = 5.0
# Nobody has written it.
_NOWHERE = Place("", 0)
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def _warn(line: str) -> None:
    from twisted.logger import Logger

    Logger(namespace="appd.tls").warn("outgoing TLS: {line}", line=line)


def _verify_name(der: bytes | None, name: str | None) -> None:
    if der is None or not name or not is_called(der, name):
        raise ssl.SSLCertVerificationError(1, f"the certificate is not one for {name!r}")


class _Object(ssl.SSLObject):
    """TLS in memory, as asyncio and uvloop have it, which compares the name at the end of the handshake."""

    def do_handshake(self) -> None:
        super().do_handshake()
        _verify_name(self.getpeercert(True), self.server_hostname)


class _Socket(ssl.SSLSocket):
    """TLS on a socket, the same."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _verify_name(self.getpeercert(True), self.server_hostname)


class Outgoing:
    """How connections of one kind are made.

    Args:
        policy: The policy; its authorities are who may have signed, none for those of the host.
        material: What it names, read and checked; None where that cannot be looked at (`appd check`).
        server_name: The name that the other end must have; "" for the host that is connected to.
        clock: Seconds that only ever grow.
        tell: Called with what is wrong with files that have changed; it is logged without one.

    Attributes:
        unseen: What could not be looked at, for `appd check`.
        changed: Called when other files have been taken, in whatever thread.
    """

    def __init__(
        self,
        policy: Policy,
        material: Material | None,
        server_name: str = "",
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.policy = policy
        self.material = material
        self.unseen: tuple[Problem, ...] = ()
        self.changed: Callable[[], None] = lambda: None
        self._server_name = server_name
        self._clock = clock
        self._tell = tell or _warn
        self._told = ""
        self._lock = threading.Lock()
        self._looked = clock()
        self._made: dict[str, Any] = {}

    def name(self, host: str) -> str:
        """The name that the certificate of a host must have: `server_hostname` of whoever uses `context`."""
        return self._server_name or host

    def context(self, *protocols: str) -> ssl.SSLContext:
        """For connections on sockets or asyncio's, which say `server_hostname=outgoing.name(host)`.

        Args:
            protocols: What to offer by ALPN, the best first.

        Raises:
            ValueError: The library refuses what was read.
        """
        made: ssl.SSLContext = self._kept(
            f"ssl {protocols}", lambda: _make_context(self.policy, self.material, protocols)
        )
        return made

    def endpoint(self, reactor: Any, host: str, port: int, over: Any = None) -> Any:
        """An endpoint of Twisted's that connects by TLS: IStreamClientEndpoint.

        A handshake that fails ends the protocol's connection, with `appd.tls.connecting.NotTrusted` when it is for the
        certificate.

        Args:
            reactor: The reactor.
            host: Where to.
            port: The port.
            over: The endpoint below; HostnameEndpoint without one.
        """
        from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS

        return wrapClientTLS(self.creator(host), over or HostnameEndpoint(reactor, host, port))

    def creator(self, host: str) -> Any:
        """What Twisted's `startTLS` and `wrapClientTLS` take for a host: IOpenSSLClientConnectionCreator."""
        from appd.tls.connecting import Creator, make_context

        return Creator(self.name(host), lambda: self._kept("OpenSSL", lambda: make_context(self.policy, self.material)))

    def _kept(self, what: str, make: Callable[[], Any]) -> Any:
        """Something made of the files as they are."""
        with self._lock:
            now = self._clock()
            if self.material is not None and now - self._looked >= _LOOK_AGAIN:
                self._looked = now
                self._look()
            found = self._made.get(what)
            if found is None:
                found = self._made[what] = make()
            return found

    def _look(self) -> None:
        assert self.material is not None
        if fingerprint(self.policy.sources) == self.material.fingerprint:
            self._told = ""
            return
        try:
            fresh, _unseen = read_material(self.policy, before=self.material)
            _make_context(self.policy, fresh, ())
        except (ConfigurationError, ValueError, OSError) as error:
            self.goes_on(error)
            return
        self.material, self._told = fresh, ""
        self._made.clear()
        self.changed()

    def goes_on(self, error: Exception) -> None:
        """Tells, once, that what the files hold is not taken, and what was read before is used on.

        Args:
            error: Why.
        """
        problems = error.problems if isinstance(error, ConfigurationError) else (Problem(str(error)),)
        reason = "; ".join(one.message for one in problems)
        if reason != self._told:
            self._told = reason
            self._tell(f"{reason}; what was read before is used on")


def _make_context(policy: Policy, material: Material | None, protocols: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslobject_class = _Object
    context.sslsocket_class = _Socket
    # OpenSSL would look at the common name where there is no other: RFC 9525, 2 forbids it.
    context.hostname_checks_common_name = False
    context.minimum_version = _VERSIONS[policy.minimum_version]
    context.set_ciphers(policy.ciphers)
    if material is None or not policy.authorities:
        context.load_default_certs()
    if material is not None:
        if policy.authorities:
            with as_file(material.trust) as path:
                context.load_verify_locations(path)
        for pair in material.pairs:
            load_pair(context, pair)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def has_roots() -> bool:
    """Whether the host has authorities at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    paths = ssl.get_default_verify_paths()
    return bool(context.cert_store_stats()["x509_ca"] or (paths.capath and os.listdir(paths.capath)))


def make_outgoing(
    settings: Settings | None,
    *,
    lenient: bool = False,
    keeping: Keeping | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Outgoing, list[Problem]]:
    """A `<client-tls>` section → what connects, everything read and checked.

    Args:
        settings: The section, of the shared type `appd.client-tls`; None for what is usual.
        lenient: Whether what this process may not look at is passed over: `appd check` is not the service.
        keeping: Has what the worker before this one used, for want of anything better, and keeps what this one does.
        environ: Says where credentials lie.

    Returns:
        It, and what could not be looked at.

    Raises:
        ConfigurationError: Every problem at once.
    """
    if settings is None:
        policy = Policy(_NOWHERE, ())
        return Outgoing(policy, read_material(policy)[0]), []
    policy = _read(settings, environ)
    problems = _refusals(policy)
    former = keeping.former("", policy) if keeping is not None else None
    material: Material | None = None
    refused: Refused | None = None
    unseen: list[Problem] = []
    try:
        material, unseen, refused = read_or_keep(policy, former, lenient=lenient)
    except ConfigurationError as error:
        problems += error.problems
    if policy.private_key is not None and not policy.certificates:
        problems.append(settings.problem("<client-tls>: private-key goes with a certificate", "private_key"))
    if not problems and material is not None:
        wrong = _wrong_for_library(policy, material)
        if wrong and former is not None and not _wrong_for_library(policy, former):
            material, refused = former, refused or Refused([Problem(wrong)], material.fingerprint)
        elif wrong:
            problems.append(Problem(f"<client-tls>: {wrong}", policy.place))
    if problems:
        raise ConfigurationError(*problems)
    made = Outgoing(policy, material, settings.server_name or "")
    made.unseen = tuple(unseen)
    if refused is not None:
        made.goes_on(refused)
    if keeping is not None:
        keeping.hold("", made, policy)
    return made, unseen


def _wrong_for_library(policy: Policy, material: Material) -> str:
    """Why Python's ssl does not take it; "" when it does."""
    try:
        _make_context(policy, material, ())
    except ValueError as error:
        return str(error)
    return ""


def _read(settings: Settings, environ: Mapping[str, str]) -> Policy:
    return Policy(
        settings.place,
        read_source(settings, "certificate", environ),
        next(iter(read_source(settings, "private-key", environ)), None),
        None,
        next(iter(read_source(settings, "key-passphrase", environ)), None),
        settings.world_readable_key == "allow",
        settings.minimum_version,
        settings.ciphers or CIPHERS,
        settings.where("ciphers"),
        read_source(settings, "ca", environ),
        "required",
    )


def _refusals(policy: Policy) -> list[Problem]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    wrong = []
    for bare in cipher_words(policy.ciphers):
        try:
            context.set_ciphers(bare)
        except ssl.SSLError:
            reason = f"ciphers: {bare!r} is no cipher suite of TLS 1.2 that OpenSSL has"
            wrong.append(Problem(reason, policy.ciphers_place))
    return wrong
