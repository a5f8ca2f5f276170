"""Files of authorities, and their lists of revoked certificates (CRL), that are what they should be. Pure."""

from __future__ import annotations

import binascii
import math
from collections.abc import Iterable, Sequence
from typing import Any

from cryptography import x509

from appd.dates import day
from appd.tls.certificates import SKEW, NotYet, check_end
from appd.tls.pem import UNREADABLE, blocks, called, not_before, read_certificates, seconds_of

__all__ = ["check_authorities", "check_issuers", "check_revocations"]


def check_authorities(text: bytes, now: float, skew: float = SKEW) -> list[x509.Certificate]:
    """Checks a file of authorities.

    Args:
        text: The file.
        now: Seconds since the epoch.
        skew: By how many seconds one may come before its time.

    Returns:
        Their certificates.

    Raises:
        NotYet: One has come before its time.
        ValueError: It holds none, or what it holds is no authority, or has expired.
    """
    found = read_certificates(text)
    if not found:
        raise ValueError("it holds no certificate")
    for one in found:
        try:
            is_authority = one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (x509.ExtensionNotFound, *UNREADABLE):
            is_authority = one.issuer == one.subject  # version 1 had no such extension
        if not is_authority:
            raise ValueError(f"{called(one)} is no authority: its certificate may not sign others")
        check_end(one, now)
        if not_before(one) > now + skew:
            raise NotYet(f"the certificate of {called(one)}", not_before(one))
    return found


def check_issuers(authorities: Sequence[x509.Certificate]) -> None:
    """Checks that who has signed an authority is there too: OpenSSL takes no chain that ends before it.

    Args:
        authorities: All of them.

    Raises:
        ValueError: One is missing.
    """
    subjects = {one.subject for one in authorities}
    ends = {one.subject for one in authorities if one.issuer == one.subject}
    for one in authorities:
        if one.issuer not in subjects and one.subject not in ends:
            raise ValueError(
                f"{called(one)} was signed by {called(one, issuer=True)}, which is not there: "
                "nobody of theirs would be believed"
            )


def check_revocations(
    texts: Iterable[bytes], authorities: Sequence[x509.Certificate], now: float, skew: float = SKEW
) -> float:
    """Checks lists of revoked certificates.

    OpenSSL wants a list of every authority in a client's chain, signed by it, and refuses whoever comes by one that has
    none.

    Args:
        texts: The files.
        authorities: As `check_authorities` says.
        now: Seconds since the epoch.
        skew: By how many seconds one may come before its time.

    Returns:
        When the first of them expires, in seconds since the epoch.

    Raises:
        NotYet: One has come before its time.
        ValueError: A list is damaged or has expired, or is somebody else's, or an authority has none.
    """
    listed: set[x509.Name] = set()
    first = math.inf
    for text in texts:
        lists = [block for label, block in blocks(text) if label == b"X509 CRL"]
        if not lists:
            raise ValueError("it holds no list (X509 CRL)")
        for block in lists:
            try:
                one = x509.load_pem_x509_crl(block)
                issuer, begins, until = one.issuer, seconds_of(one, "last_update"), seconds_of(one, "next_update")
            except (*UNREADABLE, binascii.Error):
                raise ValueError("a list in it is damaged") from None
            if until <= now:
                raise ValueError(f"the list of {issuer.rfc4514_string()} has expired on {day(until)}")
            if begins > now + skew:
                raise NotYet(f"the list of {issuer.rfc4514_string()}", begins)
            first = min(first, until)
            issuers = [authority for authority in authorities if authority.subject == issuer]
            if issuers and not any(_has_signed(authority, one) for authority in issuers):
                raise ValueError(
                    f"the list of {issuer.rfc4514_string()} was not signed by its authority: "
                    "every client of theirs would be refused"
                )
            listed.add(issuer)
    missing = [called(one) for one in authorities if one.subject not in listed]
    if missing:
        raise ValueError(f"there is no list of {', '.join(missing)}: every client of theirs would be refused")
    return first


def _has_signed(authority: x509.Certificate, revocations: x509.CertificateRevocationList) -> bool:
    try:
        key: Any = authority.public_key()
        return revocations.is_signature_valid(key)
    except UNREADABLE:  # of a kind that is not known here: OpenSSL has the last word
        return True
