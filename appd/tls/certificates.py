"""PEM text → certificates and keys that are what they should be. Pure: bytes in, records or reasons out.

What is checked: that it is PEM, that there is a key and it fits, that the chain begins with the server's own
certificate and each one is signed by the next, and the dates. No error text holds a byte of a key.
"""

from __future__ import annotations

import binascii
import math
import re
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

__all__ = ["NotYet", "Pair", "check_authorities", "check_revocations", "day", "minute", "read_pair"]

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.S)
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
# Clocks of hosts differ, and a certificate is often used in the second that it was made.
SKEW = 300.0


class Pair:
    """A certificate with its chain and its key.

    Attributes:
        where: Where it was read, for people.
        names: What it is called: its dNSName entries, else its common name; lower case.
        begins: When all of the chain is valid, in seconds since the epoch.
        expires: When the first certificate of the chain expires.
        kind: The kind of its key.
        chain: The certificates, the server's own first, as PEM.
        key: The key as PEM, without a passphrase. It is never shown.
        serial: What tells it from another certificate, for people: issuer and serial number.
        strength: What a library asks of it: kind and size of each key of the chain, and what was signed with.
    """

    __slots__ = ("begins", "chain", "expires", "key", "kind", "names", "serial", "strength", "where")

    def __init__(
        self,
        where: str,
        names: tuple[str, ...],
        expires: float,
        kind: str,
        chain: bytes,
        key: bytes,
        serial: str,
        strength: tuple[object, ...] = (),
        begins: float = 0.0,
    ) -> None:
        self.where = where
        self.names = names
        self.expires = expires
        self.kind = kind
        self.chain = chain
        self.key = key
        self.serial = serial
        self.strength = strength
        self.begins = begins

    def __repr__(self) -> str:
        return f"<Pair {self.title} {self.where}>"

    @property
    def title(self) -> str:
        """What people call it: its first name."""
        return self.names[0] if self.names else "a certificate without a name"


class NotYet(ValueError):
    """It is good, but its time has not come; the message says when that is.

    Attributes:
        begins: When it becomes valid, in seconds since the epoch.
        pair: The certificate with its key, where it is one.
    """

    def __init__(self, what: str, begins: float, pair: Pair | None = None) -> None:
        super().__init__(f"{what} is not valid before {minute(begins)}")
        self.begins = begins
        self.pair = pair


def day(seconds: float) -> str:
    """A date as people write it: 2027-01-05."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def minute(seconds: float) -> str:
    """A time as people write it: 2027-01-05 10:30 UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def read_pair(
    where: str,
    texts: Sequence[bytes],
    key_text: bytes | None,
    passphrase: bytes | None,
    now: float,
    skew: float = SKEW,
) -> Pair:
    """Reads a certificate, its chain and its key, and checks them.

    Args:
        where: Where they were read, for people.
        texts: The file of the certificate, and that of its chain when it lies apart.
        key_text: The file of the key when it lies apart.
        passphrase: That of the key.
        now: Seconds since the epoch.
        skew: By how many seconds it may come before its time.

    Raises:
        NotYet: It has come before its time, and nothing else is wrong.
        ValueError: Something is wrong; the message is for the administrator and holds nothing of the key.
    """
    certificates = [one for text in texts for one in _certificates(text)]
    if not certificates:
        raise ValueError("it holds no certificate")
    key, pem = _key(texts[0] if key_text is None else key_text, key_text is not None, passphrase)
    own = _public_bytes(key.public_key())
    fitting = [number for number, one in enumerate(certificates) if _public_bytes(one.public_key()) == own]
    if not fitting:
        raise ValueError(f"the private key does not match the certificate of {_called(certificates[0])}")
    if fitting[0] != 0:
        raise ValueError(
            f"the chain is out of order: {_called(certificates[fitting[0]])} has the key and must come first, "
            f"before {_called(certificates[0])}"
        )
    _check_key(key)
    chain = _in_order(certificates)
    for one in chain:
        _check_end(one, now)
    last = max(chain, key=_not_before)
    pair = Pair(
        where,
        _names(chain[0]),
        min(_not_after(one) for one in chain),
        type(key).__name__.lstrip("_"),  # private in older releases
        b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain),
        pem,
        f"{chain[0].issuer.rfc4514_string()} {chain[0].serial_number:x}",
        tuple(_strength(one) for one in chain),
        _not_before(last),
    )
    if pair.begins > now + skew:
        raise NotYet(f"the certificate of {_called(last)}", pair.begins, pair)
    return pair


def _strength(certificate: x509.Certificate) -> tuple[object, ...]:
    key: Any = certificate.public_key()
    return (
        type(key).__name__,
        getattr(key, "key_size", None),
        getattr(getattr(key, "curve", None), "name", None),
        certificate.signature_algorithm_oid.dotted_string,
    )


def _blocks(text: bytes) -> list[tuple[bytes, bytes]]:
    """The blocks of a PEM file: label and text."""
    found = [(match[1], match[0]) for match in _BLOCK.finditer(text)]
    if found:
        return found
    if text[:1] == b"\x30":
        raise ValueError("it is DER, not PEM: `openssl x509 -inform der -in FILE` writes PEM")
    if not text.strip():
        raise ValueError("it is empty")
    if b"-----BEGIN" in text:
        raise ValueError("it is cut off: a block begins and does not end")
    raise ValueError("it is not PEM: no block begins with -----BEGIN")


def _certificates(text: bytes) -> list[x509.Certificate]:
    found = []
    for label, block in _blocks(text):
        if label in _CERTIFICATES:
            try:
                found.append(x509.load_pem_x509_certificate(block))
            except (ValueError, UnsupportedAlgorithm):
                raise ValueError(f"certificate {len(found) + 1} in it is damaged") from None
    return found


def _key(text: bytes, apart: bool, passphrase: bytes | None) -> tuple[Any, bytes]:
    keys = [block for label, block in _blocks(text) if label.endswith(b"PRIVATE KEY")]
    if len(keys) != 1:
        what = "holds" if apart else "has"
        more = "" if keys or apart else ": add the key to it, or name it with private-key"
        raise ValueError(f"it {what} {'no' if not keys else len(keys)} private key{'s' * (len(keys) > 1)}{more}")
    (block,) = keys
    encrypted = b"ENCRYPTED" in block[:200]
    if encrypted and passphrase is None:
        raise ValueError("the private key is encrypted, and there is no key-passphrase")
    try:
        key = _load_key(block, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        reason = "key-passphrase does not open the private key" if encrypted else "the private key is damaged"
        raise ValueError(f"{reason}, or of a kind that is not known") from None
    if encrypted:
        block = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    return key, block


def _load_key(block: bytes, passphrase: bytes | None) -> Any:
    try:
        # The library's own check of an RSA key looks for primes, 64 ms each; `_check_key` finds what damage can do.
        return serialization.load_pem_private_key(block, passphrase, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:
        if "unsafe_skip" not in str(error):
            raise
        return serialization.load_pem_private_key(block, passphrase)  # cryptography before 39


def _check_key(key: Any) -> None:
    """Whether the private half is that of the public half, which is what was compared with the certificate.

    Raises:
        ValueError: It is not.
    """
    fits = True
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.private_numbers()
        p, q, e = numbers.p, numbers.q, numbers.public_numbers.e
        fits = p * q == numbers.public_numbers.n and numbers.d * e % (p - 1) == 1 and numbers.d * e % (q - 1) == 1
        fits = fits and numbers.dmp1 == numbers.d % (p - 1) and numbers.dmq1 == numbers.d % (q - 1)
        fits = fits and numbers.iqmp * q % p == 1
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        derived = ec.derive_private_key(key.private_numbers().private_value, key.curve)
        fits = derived.public_key().public_numbers() == key.public_key().public_numbers()
    if not fits:
        raise ValueError("the private key is damaged: its halves do not fit")


def _public_bytes(key: Any) -> bytes:
    found: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return found


def _in_order(certificates: list[x509.Certificate]) -> list[x509.Certificate]:
    """The chain, once it is known to be one."""
    for number, (one, issuer) in enumerate(pairwise(certificates), 2):
        if one.issuer != issuer.subject:
            raise ValueError(
                f"the chain is out of order: {_called(one)} was signed by {_called(one, issuer=True)}, "
                f"but certificate {number} is {_called(issuer)}"
            )
        verify = getattr(one, "verify_directly_issued_by", None)  # from cryptography 40 on
        if verify is None:
            continue
        try:
            verify(issuer)
        except Exception:  # InvalidSignature, and whatever odd keys and algorithms raise
            raise ValueError(f"the chain is broken: {_called(issuer)} has not signed {_called(one)}") from None
    return certificates


def _check_end(certificate: x509.Certificate, now: float) -> None:
    if _not_after(certificate) <= now:
        raise ValueError(f"the certificate of {_called(certificate)} has expired on {day(_not_after(certificate))}")


def _not_before(certificate: x509.Certificate) -> float:
    return _seconds(certificate, "not_valid_before")


def _not_after(certificate: x509.Certificate) -> float:
    return _seconds(certificate, "not_valid_after")


def _seconds(thing: Any, attribute: str) -> float:
    found = getattr(thing, f"{attribute}_utc", None)  # from cryptography 42 on
    if found is None:
        bare: datetime | None = getattr(thing, attribute)
        if bare is None:
            return float("inf")
        found = bare.replace(tzinfo=timezone.utc)  # noqa: UP017 - the same on every Python
    seconds: float = found.timestamp()
    return seconds


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = []
    if not names:
        names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)][:1]
    return tuple(one.lower() for one in names)


def _called(certificate: x509.Certificate, issuer: bool = False) -> str:
    name = certificate.issuer if issuer else certificate.subject
    common = [str(one.value) for one in name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    names = list(_names(certificate)) if not issuer and not common else common
    return repr(names[0]) if names else repr(name.rfc4514_string())


def check_authorities(text: bytes, now: float, skew: float = SKEW) -> dict[bytes, str]:
    """Checks a file of authorities.

    Args:
        text: The file.
        now: Seconds since the epoch.
        skew: By how many seconds one may come before its time.

    Returns:
        Their subjects, encoded, and what they are called.

    Raises:
        NotYet: One has come before its time.
        ValueError: It holds none, or what it holds is no authority, or has expired.
    """
    found = _certificates(text)
    if not found:
        raise ValueError("it holds no certificate")
    for one in found:
        try:
            is_authority = one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (x509.ExtensionNotFound, ValueError):
            is_authority = one.issuer == one.subject  # version 1 had no such extension
        if not is_authority:
            raise ValueError(f"{_called(one)} is no authority: its certificate may not sign others")
        _check_end(one, now)
        if _not_before(one) > now + skew:
            raise NotYet(f"the certificate of {_called(one)}", _not_before(one))
    return {one.subject.public_bytes(): _called(one) for one in found}


def check_revocations(texts: Iterable[bytes], authorities: dict[bytes, str], now: float, skew: float = SKEW) -> float:
    """Checks lists of revoked certificates.

    OpenSSL wants a list of every authority in a client's chain, and refuses whoever comes by one that has none.

    Args:
        texts: The files.
        authorities: As `check_authorities` says.
        now: Seconds since the epoch.
        skew: By how many seconds one may come before its time.

    Returns:
        When the first of them expires, in seconds since the epoch.

    Raises:
        NotYet: One has come before its time.
        ValueError: A list is damaged or has expired, or an authority has none.
    """
    listed: set[bytes] = set()
    first = math.inf
    for text in texts:
        blocks = [block for label, block in _blocks(text) if label == b"X509 CRL"]
        if not blocks:
            raise ValueError("it holds no list (X509 CRL)")
        for block in blocks:
            try:
                one = x509.load_pem_x509_crl(block)
                issuer, begins, until = one.issuer, _seconds(one, "last_update"), _seconds(one, "next_update")
            except (ValueError, binascii.Error):
                raise ValueError("a list in it is damaged") from None
            if until <= now:
                raise ValueError(f"the list of {issuer.rfc4514_string()} has expired on {day(until)}")
            if begins > now + skew:
                raise NotYet(f"the list of {issuer.rfc4514_string()}", begins)
            first = min(first, until)
            listed.add(issuer.public_bytes())
    missing = [called for subject, called in authorities.items() if subject not in listed]
    if missing:
        raise ValueError(f"there is no list of {', '.join(missing)}: every client of theirs would be refused")
    return first
