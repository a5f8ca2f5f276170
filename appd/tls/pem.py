"""PEM text → certificates, their names and dates, as far as the library can read them. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

__all__ = ["UNREADABLE", "blocks", "called", "names_in", "not_after", "not_before", "read_certificates", "seconds_of"]

# What the library raises for certificates that OpenSSL takes and it does not; there is no class for all of them.
UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
# What is within holds no five dashes in a row, so that each is looked for to the next ones and no further. The group is
# not possessive: Python up to 3.11.4 takes such a group for one that never matches.
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s[^-]*+(?:-(?!----)[^-]*+)*-----END \1-----")
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")


def blocks(text: bytes) -> list[tuple[bytes, bytes]]:
    """The blocks of a PEM file: label and text.

    Raises:
        ValueError: There are none; the message says what there is, and nothing of what is in it.
    """
    found = [(match[1], match[0]) for match in _BLOCK.finditer(text)]
    if len(found) != text.count(b"-----BEGIN "):
        raise ValueError("it is cut off: a block begins and does not end")
    if found:
        return found
    if text[:1] == b"\x30":
        raise ValueError("it is DER, not PEM: `openssl x509 -inform der -in FILE` writes PEM")
    if not text.strip():
        raise ValueError("it is empty")
    raise ValueError("it is not PEM: no block begins with -----BEGIN")


def read_certificates(text: bytes) -> list[x509.Certificate]:
    """The certificates in a PEM file, in its order.

    Raises:
        ValueError: It is no PEM file, or one of them cannot be read.
    """
    found = []
    for label, block in blocks(text):
        if label in _CERTIFICATES:
            try:
                one = x509.load_pem_x509_certificate(block)
                # Read when they are asked for, and all that follows asks for them.
                _known = one.subject, one.issuer
                found.append(one)
            except UNREADABLE:
                raise ValueError(f"certificate {len(found) + 1} in it is damaged") from None
    return found


def not_before(certificate: x509.Certificate) -> float:
    """When it becomes valid, in seconds since the epoch."""
    return seconds_of(certificate, "not_valid_before")


def not_after(certificate: x509.Certificate) -> float:
    """When it expires, in seconds since the epoch."""
    return seconds_of(certificate, "not_valid_after")


def seconds_of(thing: Any, attribute: str) -> float:
    """A date of a certificate or a list, in seconds since the epoch; infinity where it has none.

    Args:
        thing: The certificate or list.
        attribute: The name of the date, as older releases of the library have it.
    """
    found = getattr(thing, f"{attribute}_utc", None)  # from cryptography 42 on
    if found is None:
        bare: datetime | None = getattr(thing, attribute)
        if bare is None:
            return float("inf")
        found = bare.replace(tzinfo=timezone.utc)  # noqa: UP017 - the same on every Python
    seconds: float = found.timestamp()
    return seconds


def names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """What a certificate of a server is called: its dNSName entries, else its common name; lower case."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, *UNREADABLE):
        names = []
    if not names:
        names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)][:1]
    return tuple(one.lower() for one in names if one.isprintable())


def called(certificate: x509.Certificate, issuer: bool = False) -> str:
    """What people call a certificate, or whoever has signed it."""
    name = certificate.issuer if issuer else certificate.subject
    common = [str(one.value) for one in name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    names = list(names_in(certificate)) if not issuer and not common else common
    return repr(names[0]) if names else repr(name.rfc4514_string())
