"""One file with a server of every driver that speaks TLS, and authorities by trustme for it."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from support.running import listening

__all__ = ["DAY", "DRIVERS", "NOW", "REQUEST", "all_three", "hosted", "pem", "revocations", "three_sockets"]

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ.get("SSL_CLIENT_S_DN_CN", "nobody").encode()]
async def live(scope, receive, send):
    name = scope["extensions"]["tls"]["client_cert_name"] or "CN=nobody"
    name = [one for one in name.split(",") if one.startswith("CN=")][0][3:].encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(name))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": name})
"""


def pem(certificate: trustme.LeafCert) -> bytes:
    return certificate.private_key_and_cert_chain_pem.bytes()


def revocations(authority: trustme.CA, *certificates: trustme.LeafCert) -> bytes:
    """A list of revoked certificates, which trustme does not make."""
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    builder = builder.last_update(NOW - DAY).next_update(NOW + 30 * DAY)
    for one in certificates:
        number = x509.load_pem_x509_certificate(one.cert_chain_pems[0].bytes()).serial_number
        revoked = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(NOW - DAY).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def hosted(folder: Path) -> Path:
    """Puts the applications of `all_three` into a folder, and returns that."""
    (folder / "hosted.py").write_text(APPLICATION)
    return folder


def all_three(files: Path, tls: str = "") -> str:
    """HTTP on the lane, HTTP on the loop, and an echo on Twisted's transports, by the same policy."""
    section = f"  <tls>\n    certificate {files}/site.pem\n{tls}  </tls>\n"
    return (
        f"python-path {files}\n<http shop>\n  tls-address systemd:name=lane\n{section}"
        "  <wsgi>\n    application hosted:application\n  </wsgi>\n</http>\n"
        f"<http live>\n  tls-address systemd:name=loop\n{section}"
        "  <asgi>\n    application hosted:live\n    lifespan off\n  </asgi>\n</http>\n"
        f"<echo>\n  tls-address systemd:name=echo\n{section}</echo>\n"
    )


# Each driver with what is said to it.
DRIVERS = {"lane": REQUEST, "loop": REQUEST, "echo": b"hello appd\n"}


def three_sockets() -> dict[str, socket.socket]:
    return {name: listening() for name in DRIVERS}
