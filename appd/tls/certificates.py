"""PEM text → certificates with their keys that are what they should be. Pure: bytes in, records or reasons out.

What is checked: that it is PEM, that there is a key and it fits, that the chain begins with the server's own
certificate and each one is signed by the next, and the dates. No error text holds a byte of a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from appd.dates import day, minute
from appd.tls.pem import UNREADABLE, blocks, called, names_in, not_after, not_before, read_certificates

__all__ = ["SKEW", "NotYet", "Pair", "check_end", "read_pair"]

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
    certificates = [one for text in texts for one in read_certificates(text)]
    if not certificates:
        raise ValueError("it holds no certificate")
    key, pem = _key(texts[0] if key_text is None else key_text, key_text is not None, passphrase)
    own = _public_bytes(key.public_key())
    fitting = [number for number, one in enumerate(_public_keys(certificates)) if one == own]
    if not fitting:
        raise ValueError(f"the private key does not match the certificate of {called(certificates[0])}")
    if fitting[0] != 0:
        raise ValueError(
            f"the chain is out of order: {called(certificates[fitting[0]])} has the key and must come first, "
            f"before {called(certificates[0])}"
        )
    _check_key(key)
    chain = _in_order(certificates)
    for one in chain:
        check_end(one, now)
    last = max(chain, key=not_before)
    pair = Pair(
        where,
        names_in(chain[0]),
        min(not_after(one) for one in chain),
        type(key).__name__.lstrip("_"),  # private in older releases
        b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain),
        pem,
        f"{chain[0].issuer.rfc4514_string()} {chain[0].serial_number:x}",
        tuple(_strength(one) for one in chain),
        not_before(last),
    )
    if pair.begins > now + skew:
        raise NotYet(f"the certificate of {called(last)}", pair.begins, pair)
    return pair


def _strength(certificate: x509.Certificate) -> tuple[object, ...]:
    key: Any = certificate.public_key()
    return (
        type(key).__name__,
        getattr(key, "key_size", None),
        getattr(getattr(key, "curve", None), "name", None),
        certificate.signature_algorithm_oid.dotted_string,
    )


def _key(text: bytes, apart: bool, passphrase: bytes | None) -> tuple[Any, bytes]:
    keys = [block for label, block in blocks(text) if label.endswith(b"PRIVATE KEY")]
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


def _public_keys(certificates: Iterable[x509.Certificate]) -> list[bytes]:
    found: list[bytes] = []
    for number, one in enumerate(certificates, 1):
        try:
            found.append(_public_bytes(one.public_key()))
        except UNREADABLE:
            raise ValueError(f"certificate {number} in it has a key of a kind that is not known") from None
    return found


def _in_order(certificates: list[x509.Certificate]) -> list[x509.Certificate]:
    """The chain, once it is known to be one."""
    for number, (one, issuer) in enumerate(pairwise(certificates), 2):
        if one.issuer != issuer.subject:
            raise ValueError(
                f"the chain is out of order: {called(one)} was signed by {called(one, issuer=True)}, "
                f"but certificate {number} is {called(issuer)}"
            )
        verify = getattr(one, "verify_directly_issued_by", None)  # from cryptography 40 on
        if verify is None:
            continue
        try:
            verify(issuer)
        except Exception:  # InvalidSignature, and whatever odd keys and algorithms raise
            raise ValueError(f"the chain is broken: {called(issuer)} has not signed {called(one)}") from None
    return certificates


def check_end(certificate: x509.Certificate, now: float) -> None:
    """Checks that a certificate has not expired.

    Args:
        certificate: The certificate.
        now: Seconds since the epoch.

    Raises:
        ValueError: It has.
    """
    if not_after(certificate) <= now:
        raise ValueError(f"the certificate of {called(certificate)} has expired on {day(not_after(certificate))}")
