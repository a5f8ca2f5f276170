"""TLS as others see it: clients of several authorities, renewal under load, and what testssl.sh finds.

The authorities here are trustme's. `support.authority` stays for what that does not make: URIs among the names, subjects
of one's own, chains and keys that do not fit.
"""

from __future__ import annotations

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
from OpenSSL import SSL
from support.authority import write_secret
from support.running import APPD, wait_until
from support.tls_drivers import DAY, DRIVERS, NOW, REQUEST, all_three, hosted, pem, revocations, three_sockets

LONG = float(os.environ.get("APPD_TEST_SECONDS", "0")) > 60
HANDSHAKES = 10_000 if LONG else 300


@pytest.fixture
def files(tmp_path) -> Path:
    return hosted(tmp_path)


def say(sock: socket.socket, context: ssl.SSLContext, data: bytes, end: bytes = b"") -> bytes:
    """Connects, says something and returns what comes back, until it ends as it should or there is nothing more."""
    plain = socket.create_connection(sock.getsockname(), 30)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(data)
        found = client.recv(65536)
        while end and not found.endswith(end) and (more := client.recv(65536)):
            found += more
        return found


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
    sockets = three_sockets()
    tls = f"    client-ca {files}/two.pem\n    client-ca {files}/third.pem\n    crl {files}/crl.pem\n"
    running = start(all_three(files, tls), *sockets.items()).wait_ready()

    def ask(
        certificate: trustme.LeafCert, version: ssl.TLSVersion, sock: socket.socket, data: bytes, end: bytes = b""
    ) -> bytes:
        context = ssl.create_default_context()
        root.configure_trust(context)
        certificate.configure_cert(context)
        context.minimum_version = context.maximum_version = version
        return say(sock, context, data, end)

    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for number, authority in enumerate(three):
            good = authority.issue_cert("in@example.org", common_name=f"client {number}")
            for name, sock in sockets.items():
                expected = DRIVERS[name] if name == "echo" else b"client %d" % number
                assert ask(good, version, sock, DRIVERS[name], expected).endswith(expected), name
            expired = authority.issue_cert("old@example.org", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
            for bad in (gone[number], expired, trustme.CA().issue_cert("in@example.org")):
                for sock in sockets.values():
                    with pytest.raises((ssl.SSLError, ConnectionError)):
                        assert ask(bad, version, sock, REQUEST) == b""
                        raise ConnectionError
    assert "Traceback" not in running.errors


def test_renewal_under_load(start, files):
    """Certificates are swapped while handshakes are made, on all drivers: not one fails, all are seen."""
    root = trustme.CA()

    def renew() -> None:
        write_secret(files / "site.pem", pem(root.issue_cert("localhost")))

    renew()
    sockets = three_sockets()
    running = start(all_three(files), *sockets.items()).wait_ready()
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

    threads = [threading.Thread(target=load, args=(sock, DRIVERS[name])) for name, sock in sockets.items()]
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
    text = all_three(files, keys).partition("<http live>")[0].replace("systemd:name=lane", "8443")
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
@pytest.mark.parametrize("address", ["systemd:name=lane", "8443"])
def test_what_one_library_cannot_do_is_refused_where_it_serves(files, address):
    """By `appd check` too, which has nothing of a socket but its name: each server by its own driver."""
    write_secret(files / "site.pem", pem(trustme.CA().issue_cert("localhost")))
    suite = suites_of_pyopenssl()[0]
    text = all_three(files, f"    ciphers ECDHE+AESGCM:{suite}\n").replace("systemd:name=lane", address)
    (files / "appd.conf").write_text(text)
    done = subprocess.run(
        [APPD, "check", "appd.conf"], cwd=files, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 78, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2, lines
    for name, line in zip(("shop", "live"), lines, strict=True):
        assert f"server {name!r}: ciphers: {suite!r} is no cipher suite of TLS 1.2 that OpenSSL" in line


@pytest.mark.skipif(not LONG, reason="takes minutes: make test-all")
@pytest.mark.skipif(shutil.which("testssl") is None, reason="testssl is not installed (package testssl.sh)")
@pytest.mark.parametrize("name", DRIVERS)
def test_what_testssl_finds(start, files, name):
    """Nothing above informational in protocols, suites, forward secrecy and known vulnerabilities."""
    write_secret(files / "site.pem", pem(trustme.CA().issue_cert("localhost")))
    sockets = three_sockets()
    start(all_three(files), *sockets.items()).wait_ready()
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
