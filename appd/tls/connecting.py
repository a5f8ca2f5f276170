"""Outgoing TLS in pyOpenSSL's terms, for Twisted's client endpoints."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from appd.tls.identity import der_of, is_called
from appd.tls.secretfile import as_file

if TYPE_CHECKING:
    from appd.tls.material import Material
    from appd.tls.policy import Policy

__all__ = ["Creator", "NotTrusted", "make_context"]

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
# X509_V_ERR_* of openssl/x509_vfy.h that people meet; pyOpenSSL has no call for their words.
_WORDS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it has signed itself, and is not trusted",
    19: "its authority is not trusted",
    20: "its authority is not known",
    21: "its authority is not known",
    23: "it is revoked",
    26: "it is not for servers",
}


class NotTrusted(Exception):
    """The certificate of the other end is not one to believe; the message says why."""


def make_context(policy: Policy, material: Material | None) -> SSL.Context:
    """A context for connections.

    Args:
        policy: The policy.
        material: What it names.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(_VERSIONS[policy.minimum_version])
    context.set_cipher_list(policy.ciphers.encode())
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    if material is None or not policy.authorities:
        context.set_default_verify_paths()
    if material is not None:
        if policy.authorities:
            with as_file(material.trust) as path:
                context.load_verify_locations(path)
        for pair in material.pairs:
            with as_file(pair.chain) as path:
                context.use_certificate_chain_file(path)
            with as_file(pair.key) as path:
                context.use_privatekey_file(path)
    context.set_verify(SSL.VERIFY_PEER, _verify)
    return context


def _verify(connection: SSL.Connection, certificate: Any, error: int, depth: int, verified: int) -> bool:
    """Has the last word; OpenSSL calls it for each certificate of the chain, that of the other end last."""
    protocol = connection.get_app_data()
    name = protocol.expected_name
    if verified and (depth or is_called(der_of(certificate) or b"", name)):
        return True
    if verified:
        reason = f"the certificate is not one for {name!r}"
    else:
        of = f"the certificate of {name!r}" if not depth else f"an authority of {name!r}"
        reason = f"{of}: {_WORDS.get(error, f'OpenSSL says {error} of it')}"
    # Twisted would keep OpenSSL's own words, which name no reason.
    protocol._reason = Failure(NotTrusted(reason))
    return False


@implementer(IOpenSSLClientConnectionCreator)
class Creator:
    """Makes the connection objects for one name.

    Args:
        name: The name that the other end must have: a host name or an IP address.
        context: Called for the context.
    """

    def __init__(self, name: str, context: Callable[[], SSL.Context]) -> None:
        self._name = name
        self._context = context

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Makes a connection object; see IOpenSSLClientConnectionCreator."""
        connection = SSL.Connection(self._context(), None)
        connection.set_app_data(protocol)  # newer releases of Twisted do it themselves
        protocol.expected_name = self._name
        try:
            ipaddress.ip_address(self._name)
        except ValueError:
            # Addresses have no place in it: RFC 6066, 3.
            connection.set_tlsext_host_name(self._name.removesuffix(".").encode("idna"))
        return connection
