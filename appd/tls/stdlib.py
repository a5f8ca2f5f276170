"""The policy in the terms of Python's ssl, for who has sockets of its own and reads and writes them directly.

Where it differs from `openssl`: a client whose name is unknown is told so by the alert that is meant for it
(unrecognized_name), clients are not told which authorities are meant (Python has no call for it), and `client-names`
are asked after the handshake, by `Contexts.admits`.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Sequence
from ssl import MemoryBIO
from typing import Any

from appd.tls.certificates import Pair
from appd.tls.identity import is_admitted, variables
from appd.tls.material import Material
from appd.tls.policy import Policy, cipher_words
from appd.tls.secretfile import as_file

__all__ = ["Contexts", "OnSockets", "load_pair", "refusals"]

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def refusals(policy: Policy) -> list[str]:
    """What this library cannot do of a policy; as `appd.tls.openssl.refusals`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    version = " ".join(ssl.OPENSSL_VERSION.split()[:2])
    wrong = []
    for bare in cipher_words(policy.ciphers):
        try:
            context.set_ciphers(bare)
        except ssl.SSLError:
            wrong.append(f"ciphers: {bare!r} is no cipher suite of TLS 1.2 that {version} has")
    return wrong


def load_pair(context: ssl.SSLContext, pair: Pair) -> None:
    """Has a context use a certificate with its chain and key.

    Raises:
        ValueError: The library does not take it: a key may be too short, or a signature too weak for it.
    """
    with as_file(pair.chain + b"\n" + pair.key) as path:
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as error:
            reason = (error.reason or str(error)).replace("_", " ").lower()
            raise ValueError(f"{pair.where}: {ssl.OPENSSL_VERSION} does not take it: {reason}") from None


class Contexts:
    """The contexts of one server; any thread may use them.

    Args:
        policy: The policy.
        material: Its certificates.

    Attributes:
        default: The context to wrap sockets with.

    Raises:
        ValueError: The library refuses; the message is for the administrator.
    """

    def __init__(self, policy: Policy, material: Material) -> None:
        self._policy = policy
        self._material = material
        self._lock = threading.Lock()
        self._made: dict[tuple[int, ...], ssl.SSLContext] = {}
        self._told: set[tuple[int, ...]] = set()
        try:
            self.default = self._context([material.pairs[number] for number in material.index.default])
        except ssl.SSLError as error:
            raise ValueError(f"{ssl.OPENSSL_VERSION} does not take it: {error.reason or error}") from None
        self._made[material.index.default] = self.default
        self._try()
        self.default.sni_callback = self._choose
        self._is_one = len(material.pairs) == 1 and policy.unknown_name != "refuse"

    def admits(self, der: bytes | None) -> bool:
        """Whether a client may go on after the handshake.

        Args:
            der: Its certificate, from `getpeercert(binary_form=True)`; None without one.
        """
        return der is None or is_admitted(der, self._policy.client_names)

    def _try(self) -> None:
        """Has the library look at certificates whose contexts are made when somebody asks for them: one of each kind.

        Raises:
            ValueError: It does not take one; see `load_pair`.
        """
        scratch = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        scratch.set_ciphers(self._policy.ciphers)
        for pair in {one.strength: one for one in self._material.pairs}.values():
            load_pair(scratch, pair)

    def _context(self, pairs: Sequence[Pair]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self._policy.minimum_version]
        context.set_ciphers(self._policy.ciphers)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        # The client chooses, as Mozilla's guideline has it; Python would have the order of the list decide.
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        # As Go's servers do, in place of OpenSSL's two: each is a twentieth of a handshake's work, and another comes
        # with every connection that is resumed.
        context.num_tickets = 1
        for pair in pairs:
            with as_file(pair.chain + b"\n" + pair.key) as path:
                context.load_cert_chain(path)
        if self._policy.alpn:
            context.set_alpn_protocols(list(self._policy.alpn))
        if self._policy.client_verify != "none":
            # Not by cadata, which takes no lists of revoked certificates.
            with as_file(self._material.trust) as path:
                context.load_verify_locations(path)
            context.verify_mode = _VERIFY[self._policy.client_verify]
            if self._policy.revocations:
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        return context

    def _choose(self, connection: Any, name: str | None, _context: ssl.SSLContext) -> int | None:
        if name:
            connection.asked_name = name
        if self._is_one:
            return None
        numbers = self._material.index.find(name) if name else ()
        if not numbers:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if self._policy.unknown_name == "refuse" else None
        context = self._made.get(numbers)
        if context is None:
            try:
                with self._lock:
                    context = self._made.get(numbers) or self._context([self._material.pairs[one] for one in numbers])
                    self._made[numbers] = context
            except Exception as error:  # what is raised here is printed with each handshake; the next one tries again
                self._tell(numbers, error)
                return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = context
        return None

    def _tell(self, numbers: tuple[int, ...], error: Exception) -> None:
        """Says once what keeps a certificate from being used: usually that there are no descriptors."""
        if numbers not in self._told:
            self._told.add(numbers)
            title = self._material.pairs[numbers[0]].title
            logging.getLogger("appd.tls").error("%s: its certificate cannot be used now: %s", title, error)


class OnSockets:
    """TLS for an engine that has sockets of its own: `appd.http.lane.tlsclient.Security`.

    Args:
        policy: The policy.
        contexts: Called for the contexts as they are now.

    Attributes:
        asks: Whether clients are asked for certificates.
    """

    def __init__(self, policy: Policy, contexts: Callable[[], Contexts]) -> None:
        self._policy = policy
        self.contexts = contexts
        self.asks = policy.client_verify != "none"

    def wrap(self, sock: Any) -> Any:
        """Makes a session for a socket; the handshake is to be made."""
        coming, going = MemoryBIO(), MemoryBIO()
        context: Any = self.contexts().default
        # As `wrap_bio` does, in fewer calls.
        made = context.sslobject_class
        session: Any = made.__new__(made)
        session._sslobj = context._wrap_bio(coming, going, True, owner=session)
        session.begin(sock, coming, going)
        return session

    def admits(self, sock: Any) -> bool:
        """Whether a client may go on after the handshake."""
        return not self.asks or self.contexts().admits(sock.getpeercert(binary_form=True))

    def variables(self, sock: Any) -> dict[str, str]:
        """What an application is told of a connection."""
        cipher = sock.cipher()
        return variables(
            sock.getpeercert(binary_form=True) if self.asks else None,
            protocol=sock.version() or "",
            cipher=cipher[0] if cipher else "",
            name=getattr(sock, "asked_name", ""),
            remote_user=self._policy.remote_user,
        )
