"""The clients that people have, each with every driver: names that fit and that do not, certificates of their own."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from support.authority import write_secret
from support.tls_drivers import DAY, DRIVERS, NOW, all_three, hosted, pem, revocations, three_sockets


def talk(command: list[str], data: bytes, marker: bytes) -> bytes:
    """Runs a client that is told something, until it has said the marker or ends."""
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert client.stdin is not None
    assert client.stdout is not None
    said, ends = b"", time.monotonic() + 60
    try:
        # Its standard input stays open: some end with it, before the answer is there.
        with contextlib.suppress(BrokenPipeError):
            client.stdin.write(data)
            client.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(client.stdout, selectors.EVENT_READ)
            while marker not in said and time.monotonic() < ends:
                if selector.select(1):
                    part = os.read(client.stdout.fileno(), 65536)
                    if not part:
                        break
                    said += part
    finally:
        client.kill()
        with contextlib.suppress(BrokenPipeError):
            client.communicate()
    return said


def by_s_client(folder: Path, port: int, name: str, client: Path | None, data: bytes, marker: bytes) -> bytes:
    command = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{port}", "-servername", "localhost"]
    command += ["-CAfile", str(folder / "ca.pem"), "-verify_return_error", "-verify_hostname", name]
    return talk(command + (["-cert", str(client), "-key", str(client)] if client else []), data, marker)


def by_gnutls(folder: Path, port: int, name: str, client: Path | None, data: bytes, marker: bytes) -> bytes:
    command = ["gnutls-cli", "--x509cafile", str(folder / "ca.pem"), "-p", str(port), "--verify-hostname", name]
    command += ["--sni-hostname", "localhost"]
    command += ["--x509certfile", str(client), "--x509keyfile", str(client)] if client else []
    return talk([*command, "127.0.0.1"], data, marker)


def by_curl(folder: Path, port: int, name: str, client: Path | None, data: bytes, marker: bytes) -> bytes:
    command = ["curl", "--silent", "--show-error", "--include", "--max-time", "30", "--http1.1"]
    command += ["--cacert", str(folder / "ca.pem"), "--connect-to", f"::127.0.0.1:{port}"]
    command += ["--cert", str(client)] if client else []
    return talk([*command, f"https://{name}:{port}/"], data, marker)


def by_python(folder: Path, port: int, name: str, client: Path | None, data: bytes, marker: bytes) -> bytes:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if client:
        context.load_cert_chain(client)
    said = b""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 30) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            secure.sendall(data)
            while marker not in said and (part := secure.recv(65536)):
                said += part
    except OSError as error:
        said += str(error).encode()
    return said


@pytest.fixture
def files(tmp_path) -> Path:
    return hosted(tmp_path)


Client = Callable[[Path, int, str, Path | None, bytes, bytes], bytes]
CLIENTS: dict[str, Client] = {"openssl": by_s_client, "gnutls-cli": by_gnutls, "curl": by_curl, "python": by_python}


@pytest.fixture(params=CLIENTS)
def client(request) -> Client:
    """A client."""
    if request.param != "python" and shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return CLIENTS[request.param]


def drivers(client: Client) -> dict[str, tuple[bytes, bytes]]:
    """The drivers that a client can talk to, with what it says and what answers that."""
    found = {name: (said, said if name == "echo" else b"HTTP/1.1 200") for name, said in DRIVERS.items()}
    if client is by_curl:
        del found["echo"]  # it speaks no protocol that begins with the client and has no end
    return found


def test_names(start, files, client):
    """A name of the certificate is believed, another is not, and the client then says nothing."""
    root = trustme.CA()
    write_secret(files / "site.pem", pem(root.issue_cert("localhost", "shop.example")))
    (files / "ca.pem").write_bytes(root.cert_pem.bytes())
    sockets = three_sockets()
    start(all_three(files), *sockets.items()).wait_ready()
    for name, (data, marker) in drivers(client).items():
        port = sockets[name].getsockname()[1]
        for good in ("localhost", "shop.example"):
            assert marker in client(files, port, good, None, data, marker), (name, good)
        assert marker not in client(files, port, "wrong.example", None, data, marker), name


def test_certificates_of_clients(start, files, client):
    """Of one of three authorities, and neither revoked, nor expired, nor of a stranger, nor none."""
    root, *others = three = [trustme.CA(organization_name=name) for name in ("First", "Second", "Third")]
    write_secret(files / "site.pem", pem(root.issue_cert("localhost")))
    (files / "ca.pem").write_bytes(root.cert_pem.bytes())
    (files / "others.pem").write_bytes(b"".join(one.cert_pem.bytes() for one in others))
    made, lists = {"stranger": trustme.CA().issue_cert("in@example.org")}, []
    for number, one in enumerate(three):
        made[f"good{number}"] = one.issue_cert("in@example.org", common_name="one of ours")
        made[f"revoked{number}"] = one.issue_cert("gone@example.org")
        old = {"not_before": NOW - 9 * DAY, "not_after": NOW - DAY}
        made[f"expired{number}"] = one.issue_cert("old@example.org", **old)
        lists.append(revocations(one, made[f"revoked{number}"]))
    (files / "crl.pem").write_bytes(b"".join(lists))
    for name, one in made.items():
        write_secret(files / f"{name}.pem", pem(one))
    sockets = three_sockets()
    tls = f"    client-ca {files}/ca.pem\n    client-ca {files}/others.pem\n    crl {files}/crl.pem\n"
    running = start(all_three(files, tls), *sockets.items()).wait_ready()
    for name, (data, marker) in drivers(client).items():
        port = sockets[name].getsockname()[1]
        known = marker if name == "echo" else b"one of ours"
        for which in made:
            if which.startswith("good"):
                assert known in client(files, port, "localhost", files / f"{which}.pem", data, known), (name, which)
            else:
                assert marker not in client(files, port, "localhost", files / f"{which}.pem", data, marker), (
                    name,
                    which,
                )
        assert marker not in client(files, port, "localhost", None, data, marker), name
    assert "Traceback" not in running.errors


@pytest.mark.parametrize("driver", DRIVERS)
def test_renegotiation(start, files, driver):
    """A client of TLS 1.2 that asks for it (R of s_client) gets none."""
    write_secret(files / "site.pem", pem(trustme.CA().issue_cert("localhost")))
    sockets = three_sockets()
    start(all_three(files), *sockets.items()).wait_ready()
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{sockets[driver].getsockname()[1]}", "-tls1_2"]
    said = talk(command, b"R\n", b"no renegotiation")
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said


@pytest.mark.parametrize("version", ["tls1", "tls1_1"])
def test_old_versions(start, files, version):
    """Are refused on every driver, and told so; but asyncio's TLS keeps to itself what OpenSSL says of a failure."""
    write_secret(files / "site.pem", pem(trustme.CA().issue_cert("localhost")))
    sockets = three_sockets()
    start(all_three(files), *sockets.items()).wait_ready()
    for name, sock in sockets.items():
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{sock.getsockname()[1]}"]
        command += [f"-{version}", "-cipher", "DEFAULT@SECLEVEL=0"]
        said = talk(command, b"", b"Cipher is ")
        assert b"Cipher is (NONE)" in said, name
        assert b"alert protocol version" in said or name == "loop", name


@pytest.mark.parametrize(
    "command",
    [
        ["openssl", "s_client", "-tls1_2", "-cipher", "ECDHE+CHACHA20:ECDHE+AES256", "-connect", "127.0.0.1:{port}"],
        ["openssl", "s_client", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384", "-connect",
         "127.0.0.1:{port}"],
        ["gnutls-cli", "--insecure", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305:+AES-256-GCM",
         "-p", "{port}", "127.0.0.1"],
    ],
    ids=["openssl-1.2", "openssl-1.3", "gnutls"],
)  # fmt: skip
def test_the_client_chooses_the_suite(start, files, command):
    """As Mozilla's guideline has it: who is faster with ChaCha20 than with AES-256 gets that, on every driver."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    write_secret(files / "site.pem", pem(trustme.CA().issue_cert("localhost")))
    sockets = three_sockets()
    start(all_three(files), *sockets.items()).wait_ready()
    for name, sock in sockets.items():
        port = str(sock.getsockname()[1])
        said = talk([one.replace("{port}", port) for one in command], b"", b"CHACHA20")
        assert b"CHACHA20" in said, (name, said)
