"""A certificate of the other end → whether it is let in or believed, and what an application is told of it. Pure.

The variables are those of Apache's mod_ssl, which applications know; its documentation is the reference for each.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from appd.tls.pem import UNREADABLE

__all__ = ["der_of", "is_admitted", "is_called", "names_of", "variables"]

_ATTRIBUTES: Mapping[x509.ObjectIdentifier, str] = {
    x509.NameOID.COUNTRY_NAME: "C",
    x509.NameOID.STATE_OR_PROVINCE_NAME: "ST",
    x509.NameOID.LOCALITY_NAME: "L",
    x509.NameOID.ORGANIZATION_NAME: "O",
    x509.NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    x509.NameOID.COMMON_NAME: "CN",
    x509.NameOID.TITLE: "T",
    x509.NameOID.GIVEN_NAME: "G",
    x509.NameOID.SURNAME: "S",
    x509.NameOID.USER_ID: "UID",
    x509.NameOID.EMAIL_ADDRESS: "Email",
}
_KINDS: Mapping[str, type[x509.DNSName] | type[x509.UniformResourceIdentifier] | type[x509.RFC822Name]] = {
    "dns": x509.DNSName,
    "uri": x509.UniformResourceIdentifier,
    "email": x509.RFC822Name,
}
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_SAN_WORDS = {"dns": "DNS", "email": "Email", "uri": "URI"}


def names_of(certificate: x509.Certificate) -> dict[str, list[str]]:
    """The names in a certificate's subjectAltName, by kind: `dns`, `uri`, `email`.

    Raises:
        Exception: The extension cannot be read: one of `UNREADABLE`.
    """
    try:
        value = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {kind: [] for kind in _KINDS}
    return {kind: list(value.get_values_for_type(type_)) for kind, type_ in _KINDS.items()}


def is_admitted(der: bytes, patterns: Iterable[tuple[str, str]]) -> bool:
    """Whether a certificate has one of the names that are asked for.

    Host names are compared as RFC 9525 says, by service_identity; the whole of a URI (a SPIFFE ID, say) as it is, or
    what stands before `/*`; the domain of an address without regard to case.

    Args:
        der: The certificate. Its signature has been verified.
        patterns: Kind and pattern, as `appd.tls.values.client_name` gives them; none admits every certificate.
    """
    patterns = tuple(patterns)
    if not patterns:
        return True
    try:
        names = names_of(x509.load_der_x509_certificate(der))
    except UNREADABLE:
        return False
    match = {"dns": _dns_matches, "uri": _uri_matches, "email": _email_matches}
    return any(match[kind](pattern, name) for kind, pattern in patterns for name in names[kind])


def is_called(der: bytes, name: str) -> bool:
    """Whether a server's certificate is one for a name, as service_identity says: RFC 9525.

    Args:
        der: The certificate. Its signature has been verified.
        name: A host name, or an IP address as text.
    """
    from service_identity import CertificateError, VerificationError
    from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address

    try:
        address = str(ipaddress.ip_address(name))
    except ValueError:
        address = ""
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Older releases would take the common name where there is no other.
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        if address:
            verify_certificate_ip_address(certificate, address)
        else:
            verify_certificate_hostname(certificate, name.removesuffix("."))
    except (x509.ExtensionNotFound, *UNREADABLE, VerificationError, CertificateError):
        return False
    return True


def der_of(certificate: Any) -> bytes | None:
    """The bytes of a certificate of pyOpenSSL's; None for none."""
    if certificate is None:
        return None
    der: bytes = certificate.to_cryptography().public_bytes(Encoding.DER)
    return der


def _dns_matches(pattern: str, name: str) -> bool:
    # service_identity compares the pattern of a certificate with the name that one wants. Here the pattern is ours and
    # the certificate has the name; a certificate for *.example.org is not one that is called so.
    try:
        from service_identity.hazmat import DNS_ID, DNSPattern

        made: Any = DNSPattern.from_bytes(pattern.removesuffix(".").encode())
    except ImportError:  # before 23.1
        from service_identity._common import DNS_ID, DNSPattern  # type: ignore[no-redef, import-not-found, unused-ignore]

        made = DNSPattern(pattern.removesuffix(".").encode())  # type: ignore[arg-type, unused-ignore]
    try:
        return bool(DNS_ID(name).verify(made))
    except ValueError:
        return False


def _uri_matches(pattern: str, name: str) -> bool:
    if pattern.endswith("/*"):
        return name.startswith(pattern[:-1]) and len(name) >= len(pattern)
    return name == pattern


def _email_matches(pattern: str, name: str) -> bool:
    wanted, _, domain = pattern.rpartition("@")
    local, at, host = name.rpartition("@")
    return bool(at) and host.lower() == domain.lower() and (wanted == "*" or wanted == local)


def variables(
    der: bytes | None, *, protocol: str, cipher: str, name: str = "", remote_user: str = "none"
) -> dict[str, str]:
    """What an application finds in its environment.

    Args:
        der: The client's certificate, verified; None without one.
        protocol: The version of TLS, `TLSv1.3`.
        cipher: The cipher suite.
        name: The name that the client asked for, "" for none.
        remote_user: What of the certificate is REMOTE_USER.

    Returns:
        Variable → value, each byte of a value as one character, as PEP 3333 has it.
    """
    found = {"HTTPS": "on", "SSL_PROTOCOL": protocol, "SSL_CIPHER": cipher, "SSL_CLIENT_VERIFY": "NONE"}
    if name and name.isascii() and name.isprintable():  # anybody may ask for anything
        found["SSL_TLS_SNI"] = name
    if der is not None:
        found["SSL_CLIENT_VERIFY"] = "SUCCESS"
        try:
            found.update(_of_client(x509.load_der_x509_certificate(der), remote_user))
        except UNREADABLE as error:  # OpenSSL has taken what cryptography does not: nothing is known of it
            found["SSL_CLIENT_VERIFY"] = f"FAILED:{error}".splitlines()[0]
    return {key: value.encode().decode("latin-1") for key, value in found.items()}


def _of_client(certificate: x509.Certificate, remote_user: str) -> dict[str, str]:
    names = names_of(certificate)
    found = {
        "SSL_CLIENT_M_VERSION": str(certificate.version.value + 1),
        "SSL_CLIENT_M_SERIAL": f"{certificate.serial_number:X}",
        "SSL_CLIENT_S_DN": certificate.subject.rfc4514_string(),
        "SSL_CLIENT_I_DN": certificate.issuer.rfc4514_string(),
        "SSL_CLIENT_V_START": _date(certificate, "not_valid_before"),
        "SSL_CLIENT_V_END": _date(certificate, "not_valid_after"),
        "SSL_CLIENT_CERT": certificate.public_bytes(Encoding.PEM).decode(),
    }
    for prefix, name in (("SSL_CLIENT_S_DN", certificate.subject), ("SSL_CLIENT_I_DN", certificate.issuer)):
        for attribute in name:
            word = _ATTRIBUTES.get(attribute.oid)
            if word is not None:
                found.setdefault(f"{prefix}_{word}", str(attribute.value))
    for kind, word in _SAN_WORDS.items():
        found.update((f"SSL_CLIENT_SAN_{word}_{number}", one) for number, one in enumerate(names[kind]))
    users = {
        "cn": found.get("SSL_CLIENT_S_DN_CN"),
        "subject": found["SSL_CLIENT_S_DN"],
        **{kind: next(iter(those), None) for kind, those in names.items()},
    }
    user = users.get(remote_user)
    if user and not _CONTROL.search(user):
        found["REMOTE_USER"] = user
        found["AUTH_TYPE"] = "ClientCertificate"
    return found


def _date(certificate: x509.Certificate, attribute: str) -> str:
    value: Any = getattr(certificate, f"{attribute}_utc", None) or getattr(certificate, attribute)
    text: str = value.strftime("%b %d %H:%M:%S %Y GMT")
    return text
