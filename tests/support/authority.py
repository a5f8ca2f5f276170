"""A small certificate authority for tests: real certificates, of whatever kind a test is about."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_PEM = serialization.Encoding.PEM
DAY = datetime.timedelta(days=1)


def new_key(kind: str = "ec") -> Any:
    """A private key: `ec` (P-256) or `rsa`."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


class Issued:
    """A certificate and its key.

    Args:
        certificate: The certificate.
        key: The key.
        issuers: Who signed it, the nearest first, without the root.
    """

    def __init__(self, certificate: x509.Certificate, key: Any, issuers: Sequence[x509.Certificate]) -> None:
        self.certificate = certificate
        self.key = key
        self.issuers = issuers

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(one.public_bytes(_PEM) for one in self.issuers)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def key_pem(self, passphrase: bytes | None = None) -> bytes:
        hidden: Any = serialization.NoEncryption()
        if passphrase is not None:
            hidden = serialization.BestAvailableEncryption(passphrase)
        pem: bytes = self.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, hidden)
        return pem

    @property
    def pem(self) -> bytes:
        """Certificate, chain and key, as `certificate` takes them."""
        return self.certificate_pem + self.chain_pem + self.key_pem()

    def write(self, path: Path, pem: bytes | None = None) -> Path:
        """Writes it, or other bytes, as a file that only its owner may read, in one step."""
        return write_secret(path, self.pem if pem is None else pem)


def write_secret(path: Path, data: bytes, mode: int = 0o600) -> Path:
    """Writes a file in place of the one that is there."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    fresh.chmod(mode)
    fresh.replace(path)
    return path


class Authority:
    """Signs certificates.

    Args:
        name: What it is called.
        by: Who signed its own certificate; itself without one.
    """

    def __init__(self, name: str = "Test Authority", by: Authority | None = None) -> None:
        self.key = new_key()
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._chain: list[x509.Certificate] = []
        self.certificate = self._sign(by or self, self.name, self.key.public_key(), True, [], 3650)
        if by is not None:
            self._chain = [self.certificate, *by._chain]

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    def write(self, path: Path) -> Path:
        path.write_bytes(self.pem)
        return path

    def _sign(
        self,
        by: Authority,
        subject: x509.Name,
        public: Any,
        is_authority: bool,
        names: Sequence[x509.GeneralName],
        days: float,
        start: float = -1,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + DAY * min(start, days - 1))
            .not_valid_after(now + DAY * days)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()),
                critical=False,
            )
        )
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        builder = builder.add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=is_authority, crl_sign=is_authority, **usage),
            critical=True,
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(by.key, hashes.SHA256())

    def issue(
        self,
        *names: str,
        kind: str = "ec",
        days: float = 90,
        start: float = -1,
        common_name: str | None = None,
        subject: Sequence[tuple[x509.ObjectIdentifier, str]] = (),
        key: Any = None,
    ) -> Issued:
        """A certificate for names: a host, `uri:…`, `email:…` or `ip:…`.

        Args:
            names: The names.
            kind: The kind of key.
            days: When it expires, from now; it may have been.
            start: When it begins.
            common_name: The subject's; the first name without one.
            subject: Further attributes of the subject.
            key: A key that is there already.
        """
        key = key or new_key(kind)
        general: list[x509.GeneralName] = []
        for one in names:
            kind_of, colon, value = one.partition(":")
            if colon and kind_of == "uri":
                general.append(x509.UniformResourceIdentifier(value))
            elif colon and kind_of == "email":
                general.append(x509.RFC822Name(value))
            elif colon and kind_of == "ip":
                general.append(x509.IPAddress(ipaddress.ip_address(value)))
            else:
                general.append(x509.DNSName(one))
        attributes = [x509.NameAttribute(oid, value) for oid, value in subject]
        called = (names[0] if names else "nobody") if common_name is None else common_name
        if called:
            attributes.append(x509.NameAttribute(x509.NameOID.COMMON_NAME, called[:64]))
        certificate = self._sign(self, x509.Name(attributes), key.public_key(), False, general, days, start)
        return Issued(certificate, key, self._chain)

    def issue_odd(self, *extensions: x509.ExtensionType, twice: bool = False) -> Issued:
        """A certificate with such extensions as no sane authority makes.

        Args:
            extensions: The extensions.
            twice: Whether each is there twice.
        """
        key = new_key()
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).serial_number(5)
        builder = builder.public_key(key.public_key()).not_valid_before(now - DAY).not_valid_after(now + DAY)
        for one in extensions:
            builder = builder.add_extension(one, critical=False)
        if twice:
            builder._extensions = [*builder._extensions, *builder._extensions]
        return Issued(builder.sign(self.key, hashes.SHA256()), key, self._chain)

    def revoke(self, *those: Issued, days: float = 30) -> bytes:
        """A list of revoked certificates, as PEM."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now - DAY * 60)
            .next_update(now + DAY * days)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for one in those:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(one.certificate.serial_number)
                .revocation_date(now - DAY)
                .build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(_PEM)
