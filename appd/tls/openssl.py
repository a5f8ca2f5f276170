"""The policy in pyOpenSSL's terms, for Twisted's transports.

A context for each name is made when the name is first asked for: one costs a quarter of a millisecond and some 20 KB,
and a server may have a thousand. Contexts are never changed once they serve; a renewal makes new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.logger import Logger

from appd.tls.certificates import Pair
from appd.tls.identity import der_of, is_admitted
from appd.tls.material import Material
from appd.tls.policy import Policy, cipher_words
from appd.tls.secretfile import as_file

__all__ = ["Contexts", "refusals"]

_log = Logger(namespace="appd.tls")

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
# SSL_OP_NO_RENEGOTIATION, which pyOpenSSL 23.0 has no name for: openssl/ssl.h.
_NO_RENEGOTIATION = 1 << 30
_VERIFY = {
    "none": SSL.VERIFY_NONE,
    "optional": SSL.VERIFY_PEER,
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}
# X509_V_FLAG_CRL_CHECK and X509_V_FLAG_CRL_CHECK_ALL: openssl/x509_vfy.h.
_CRL_CHECK, _CRL_CHECK_ALL = 0x4, 0x8


def refusals(policy: Policy) -> list[str]:
    """What this library cannot do of a policy.

    Args:
        policy: The policy.

    Returns:
        A reason for each.
    """
    return [f"ciphers: {one!r} is no cipher suite of TLS 1.2 that {version()} has" for one in _unknown(policy.ciphers)]


def version() -> str:
    """The library, for people."""
    text: str = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()
    return " ".join(text.split()[:2])


def _unknown(ciphers: str) -> list[str]:
    """The words that OpenSSL would pass over without one of its own, as long as it knows another."""
    scratch = SSL.Context(SSL.TLS_SERVER_METHOD)
    # Without the suites of TLS 1.3 an unknown word leaves nothing, which is what is told.
    scratch.set_max_proto_version(SSL.TLS1_2_VERSION)
    unknown = []
    for bare in cipher_words(ciphers):
        try:
            scratch.set_cipher_list(bare.encode())
        except (SSL.Error, ValueError):
            unknown.append(bare)
    return unknown


class Contexts:
    """The contexts of one server.

    Args:
        policy: The policy.
        material: Its certificates.

    Attributes:
        default: The context that connections begin with.

    Raises:
        ValueError: The library refuses; the message is for the administrator.
    """

    def __init__(self, policy: Policy, material: Material) -> None:
        self._policy = policy
        self._material = material
        self._made: dict[tuple[int, ...], SSL.Context] = {}
        self._told: set[tuple[int, ...]] = set()
        self._alpn = [one.encode() for one in policy.alpn]
        try:
            self.default = self._context([material.pairs[number] for number in material.index.default])
        except SSL.Error as error:
            raise ValueError(f"{version()} does not take it: {_reason(error)}") from None
        self._made[material.index.default] = self.default
        self._try()
        if len(material.pairs) > 1 or policy.unknown_name == "refuse":
            # A context without a certificate: the handshake fails, and the client is told so.
            self._nothing = self._context([])
            self.default.set_tlsext_servername_callback(self._choose)

    def _try(self) -> None:
        """Has the library look at certificates whose contexts are made when somebody asks for them: one of each kind.

        Raises:
            ValueError: It does not take one: a key may be too short, or a signature too weak for it.
        """
        scratch = SSL.Context(SSL.TLS_SERVER_METHOD)
        scratch.set_cipher_list(self._policy.ciphers.encode())
        for pair in {one.strength: one for one in self._material.pairs}.values():
            try:
                _use(scratch, pair)
            except SSL.Error as error:
                raise ValueError(f"{pair.where}: {version()} does not take it: {_reason(error)}") from None

    def _context(self, pairs: Sequence[Pair]) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(_VERSIONS[self._policy.minimum_version])
        context.set_cipher_list(self._policy.ciphers.encode())
        context.set_options(SSL.OP_NO_COMPRESSION | _NO_RENEGOTIATION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        # Clients keep their sessions in tickets; those of TLS 1.2 without tickets shake hands in full.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        for pair in pairs:
            _use(context, pair)
        if self._alpn:
            context.set_alpn_select_callback(self._agree)
        if self._policy.client_verify != "none":
            self._verify(context)
        return context

    def _verify(self, context: SSL.Context) -> None:
        with as_file(self._material.trust) as path:
            context.load_verify_locations(path)
            # Tells clients which authorities are meant: RFC 8446, 4.2.4.
            context.load_client_ca(path.encode())
        if self._policy.revocations:
            store: Any = context.get_cert_store()
            store.set_flags(_CRL_CHECK | _CRL_CHECK_ALL)
        # A session that was begun with a certificate is resumed by this server only.
        context.set_session_id(b"appd")
        context.set_verify(_VERIFY[self._policy.client_verify], self._admit)

    def _admit(self, _connection: SSL.Connection, certificate: Any, _error: int, depth: int, verified: int) -> bool:
        """Has the last word on a client's certificate; OpenSSL calls it for each certificate of the chain."""
        if not verified or depth or not self._policy.client_names:
            return bool(verified)
        return is_admitted(der_of(certificate) or b"", self._policy.client_names)

    def _agree(self, _connection: SSL.Connection, offered: list[bytes]) -> Any:
        return next((one for one in self._alpn if one in offered), SSL.NO_OVERLAPPING_PROTOCOLS)

    def _choose(self, connection: SSL.Connection) -> None:
        """Gives a connection the certificate for the name that the client asks for."""
        name = connection.get_servername()
        numbers = self._material.index.find(name.decode("ascii", "replace")) if name else ()
        if not numbers:
            if self._policy.unknown_name == "refuse":
                connection.set_context(self._nothing)
            return
        if numbers not in self._made:
            try:
                self._made[numbers] = self._context([self._material.pairs[number] for number in numbers])
            except Exception as error:
                # What is raised in a callback of OpenSSL's ends on standard error, and the default serves. The next
                # handshake tries again: usually there are no descriptors now.
                self._tell(numbers, error)
                connection.set_context(self._nothing)
                return
        connection.set_context(self._made[numbers])

    def _tell(self, numbers: tuple[int, ...], error: Exception) -> None:
        """Says once what keeps a certificate from being used."""
        if numbers not in self._told:
            self._told.add(numbers)
            title = self._material.pairs[numbers[0]].title
            _log.error("{name}: its certificate cannot be used now: {reason}", name=title, reason=str(error))


def _use(context: SSL.Context, pair: Pair) -> None:
    with as_file(pair.chain) as path:
        context.use_certificate_chain_file(path)
    with as_file(pair.key) as path:
        context.use_privatekey_file(path)


def _reason(error: SSL.Error) -> str:
    """OpenSSL's own words for an error: the last entry of its queue."""
    queue = error.args[0] if error.args else None
    return str(queue[-1][-1]) if isinstance(queue, list) and queue else "it says no reason"
