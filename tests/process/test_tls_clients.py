"""TLS as others see it: clients of several authorities, renewal under load, and what testssl.sh finds.

The authorities here are trustme's. `support.authority` stays for what that does not make: URIs among the names, subjects
of one's own, chains and keys that do not fit.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from OpenSSL import SSL
from support.authority import write_secret
from support.running import APPD, listening, wait_until

LONG = float(os.environ.get("APPD_TEST_SECONDS", "0")) > 60
HANDSHAKES = 10_000 if LONG else 300
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ.get("SSL_CLIENT_S_DN_CN", "nobody").encode()]
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


@pytest.fixture
def files(tmp_path) -> Path:
    (tmp_path / "hosted.py").write_text(APPLICATION)
    return tmp_path


def both(files: Path, tls: str) -> str:
    """HTTP on the lane, and an echo on Twisted's transports, by the same policy."""
    section = f"  <tls>\n    certificate {files}/site.pem\n{tls}  </tls>\n"
    return (
        f"python-path {files}\n<http shop>\n  tls-address systemd:name=web\n{section}"
        "  <wsgi>\n    application hosted:application\n  </wsgi>\n</http>\n"
        f"<echo>\n  tls-address systemd:name=echo\n{section}</echo>\n"
    )


def say(sock: socket.socket, context: ssl.SSLContext, data: bytes) -> bytes:
    """Connects, says something and returns the first of what comes back."""
    plain = socket.create_connection(sock.getsockname(), 20)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(data)
        return client.recv(65536)


def test_clients_of_three_authorities(start, files):
    """Two in a file and one in another; each has its list. Revoked, expired and of a fourth: none, in both versions."""
    root = trustme.CA()
    write_secret(files / "site.pem", pem(root.issue_cert("localhost")))
    three = [trustme.CA(organization_name=name) for name in ("First", "Second", "Third")]
    (files / "two.pem").write_bytes(three[0].cert_pem.bytes() + three[1].cert_pem.bytes())
    (files / "third.pem").write_bytes(three[2].cert_pem.bytes())
    gone = [one.issue_cert("gone@example.org") for one in three]
    lists = b"".join(revocations(one, revoked) for one, revoked in zip(three, gone, strict=True))
    (files / "crl.pem").write_bytes(lists)
    web, echo = listening(), listening()
    tls = f"    client-ca {files}/two.pem\n    client-ca {files}/third.pem\n    crl {files}/crl.pem\n"
    running = start(both(files, tls), ("web", web), ("echo", echo)).wait_ready()

    def ask(certificate: trustme.LeafCert, version: ssl.TLSVersion, sock: socket.socket, data: bytes) -> bytes:
        context = ssl.create_default_context()
        root.configure_trust(context)
        certificate.configure_cert(context)
        context.minimum_version = context.maximum_version = version
        return say(sock, context, data)

    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for number, authority in enumerate(three):
            good = authority.issue_cert("in@example.org", common_name=f"client {number}")
            assert ask(good, version, web, REQUEST).endswith(b"client %d" % number)
            assert ask(good, version, echo, b"hello") == b"hello"
            expired = authority.issue_cert("old@example.org", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
            for bad in (gone[number], expired, trustme.CA().issue_cert("in@example.org")):
                for sock in (web, echo):
                    with pytest.raises((ssl.SSLError, ConnectionError)):
                        assert ask(bad, version, sock, REQUEST) == b""
                        raise ConnectionError
    assert "Traceback" not in running.errors


def test_renewal_under_load(start, files):
    """Certificates are swapped while handshakes are made, on both drivers: not one fails, all are seen."""
    root = trustme.CA()

    def renew() -> None:
        write_secret(files / "site.pem", pem(root.issue_cert("localhost")))

    renew()
    web, echo = listening(), listening()
    running = start(both(files, "    \n"), ("web", web), ("echo", echo)).wait_ready()
    context = ssl.create_default_context()
    root.configure_trust(context)
    counted: list[int] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def load(sock: socket.socket, data: bytes) -> None:
        while not done.is_set():
            try:
                assert say(sock, context, data)
                counted.append(1)
            except BaseException as error:
                failed.append(error)

    threads = [threading.Thread(target=load, args=one) for one in ((web, REQUEST), (echo, b"hello")) * 2]
    for one in threads:
        one.start()
    try:
        renewals = 0
        while len(counted) < HANDSHAKES or renewals < 2:
            renew()
            renewals += 1
            wait_until(lambda wanted=renewals: running.errors.count("shop: renewed:") >= wanted or failed, 30)
    finally:
        done.set()
        for one in threads:
            one.join()
    assert failed == []
    assert len(counted) >= HANDSHAKES


def test_what_no_library_can_do_is_refused(files):
    """Groups, ticket keys, stapling: a line each that says why, all at once, and nothing is ignored."""
    write_secret(files / "site.pem", pem(trustme.CA().issue_cert("localhost")))
    keys = "    groups X25519\n    session-ticket-key x.key\n    ocsp-stapling on\n"
    text = both(files, keys).partition("<echo>")[0].replace("systemd:name=web", "8443")
    (files / "appd.conf").write_text(text)
    done = subprocess.run(
        [APPD, "check", "appd.conf"], cwd=files, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 78
    lines = done.stderr.splitlines()
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines] == [
        "<tls> has no key 'groups'",
        "<tls> has no key 'session-ticket-key'",
        "<tls> has no key 'ocsp-stapling'",
    ]
    assert all("Python's ssl" in line for line in lines)


def suites_of_pyopenssl() -> list[str]:
    """Suites of the library of Twisted's transports that the lane's has not: wheels bring one of their own."""
    ours = SSL.Context(SSL.TLS_SERVER_METHOD)
    ours.set_cipher_list(b"ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    known = {one["name"] for one in theirs.get_ciphers()}
    return [one for one in SSL.Connection(ours).get_cipher_list() if one not in known]


@pytest.mark.skipif(not suites_of_pyopenssl(), reason="both libraries have the same suites")
@pytest.mark.parametrize("address", ["systemd:name=web", "8443"])
def test_what_one_library_cannot_do_is_refused_where_it_serves(files, address):
    """By `appd check` too, which has nothing of a socket but its name: each server by its own driver."""
    write_secret(files / "site.pem", pem(trustme.CA().issue_cert("localhost")))
    suite = suites_of_pyopenssl()[0]
    text = both(files, f"    ciphers ECDHE+AESGCM:{suite}\n").replace("systemd:name=web", address)
    (files / "appd.conf").write_text(text)
    done = subprocess.run(
        [APPD, "check", "appd.conf"], cwd=files, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 78, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"server 'shop': ciphers: {suite!r} is no cipher suite of TLS 1.2 that OpenSSL" in line


@pytest.mark.skipif(not LONG, reason="takes minutes: make test-all")
@pytest.mark.skipif(shutil.which("testssl") is None, reason="testssl is not installed (package testssl.sh)")
@pytest.mark.parametrize("name", ["web", "echo"])
def test_what_testssl_finds(start, files, name):
    """Nothing above informational in protocols, suites, forward secrecy and known vulnerabilities."""
    write_secret(files / "site.pem", pem(trustme.CA().issue_cert("localhost")))
    sockets = {"web": listening(), "echo": listening()}
    start(both(files, ""), *sockets.items()).wait_ready()
    report = files / "report.json"
    command = ["testssl", "-p", "-s", "-f", "-U", "--quiet", "--color", "0", "--warnings", "off", "--jsonfile"]
    address = f"127.0.0.1:{sockets[name].getsockname()[1]}"
    subprocess.run(
        [*command, str(report), address], stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=False
    )
    found = json.loads(report.read_text())
    assert len(found) > 30
    bad = [one for one in found if one["severity"] in ("LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL")]
    assert bad == []
