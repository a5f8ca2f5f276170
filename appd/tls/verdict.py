"""`appd check --connect`: whether what a file connects to is there, and whom its certificate names."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from cryptography import x509

from appd.dates import day
from appd.tls.outgoing import has_roots
from appd.tls.target import Target

if TYPE_CHECKING:
    pass

__all__ = ["Target", "judge"]


def judge(target: Target, timeout: float) -> tuple[bool, str]:
    """Connects, shakes hands and leaves.

    Args:
        target: Where to.
        timeout: How long each step may take, in seconds.

    Returns:
        Whether it would be used, and what to tell a person: name, expiry and authority, or the reason.
    """
    if target.tls is not None and target.tls.material is None:
        return True, "not checkable here: what its <client-tls> names cannot be read"
    try:
        with _connected(target, timeout) as plain:
            if target.tls is None:
                return True, "is there"
            with target.tls.context().wrap_socket(plain, server_hostname=target.tls.name(target.host)) as secure:
                return True, _describe(secure)
    except ssl.SSLCertVerificationError as error:
        return False, f"is not trusted: {_reason(target, error)}"
    except ssl.SSLError as error:
        return False, f"no TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    except TimeoutError:
        return False, f"does not answer within {timeout:g} s"
    except OSError as error:
        return False, f"cannot be reached: {error.strerror or error}"


def _connected(target: Target, timeout: float) -> socket.socket:
    if not target.path:
        return socket.create_connection((target.host, target.port), timeout)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(timeout)
    try:
        made.connect(target.path)
    except BaseException:
        made.close()
        raise
    return made


def _describe(secure: ssl.SSLSocket) -> str:
    der = secure.getpeercert(True)
    assert der is not None
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    called = ", ".join(str(one.value) for one in list(names)[:3])
    return (
        f"is {called}, expires {day(ssl.cert_time_to_seconds(_end(secure)))}, "
        f"signed by {_issuer(certificate)} ({secure.version()})"
    )


def _end(secure: ssl.SSLSocket) -> str:
    return str((secure.getpeercert() or {})["notAfter"])


def _issuer(certificate: x509.Certificate) -> str:
    common = certificate.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(common[0].value) if common else certificate.issuer.rfc4514_string()


def _reason(target: Target, error: ssl.SSLCertVerificationError) -> str:
    reason = str(getattr(error, "verify_message", "") or (error.args[1] if len(error.args) > 1 else error))
    if target.tls is not None and not target.tls.policy.authorities and not has_roots():
        return f"{reason}; this host has no authorities at all (package ca-certificates), and no ca is named"
    return reason
