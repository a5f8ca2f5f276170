"""A worker in the place of one that died, while files of certificates are bad: it serves what that one has served."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import sysconfig
from functools import partial
from pathlib import Path

import pytest
from support.authority import Authority, write_secret
from support.running import listening, wait_until
from support.service import Service

ROOT = Authority("Root")
SITE = ROOT.issue("localhost")
CLIENT = ROOT.issue("uri:spiffe://prod/app", common_name="Ops")
KEPT = "the certificates that lie there are refused, and this worker serves those of the one before it: "


@pytest.fixture
def pems(tmp_path):
    """The folder of the certificates."""
    folder = tmp_path / "pems"
    folder.mkdir()
    ROOT.write(folder / "ca.pem")
    SITE.write(folder / "site.pem")
    CLIENT.write(folder / "client.pem")
    return folder


@pytest.fixture
def service(start, tmp_path, pems):
    """Starts an echo by TLS."""

    def begin(tls="", before="", **environ):
        tls = tls or f"certificate {pems}/site.pem"
        text = f"<echo e>\n  tls-address systemd:name=h\n  <tls>\n    {tls}\n  </tls>\n</echo>\n"
        return Service(partial(start, environ=environ), tmp_path, before, text)

    return begin


def connect(made, client: Path | None = None, passed: socket.socket | None = None) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ROOT.pem.decode())
    if client is not None:
        context.load_cert_chain(client)
    plain = socket.create_connection((passed or made.passed).getsockname(), 30)
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


def served(made, client: Path | None = None, passed: socket.socket | None = None) -> bytes:
    """The certificate that is served, to somebody who is answered."""
    with connect(made, client, passed) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
        found = sock.getpeercert(binary_form=True)
        assert found is not None
        return found


def kept(made) -> int:
    """How many memfds with certificates the supervisor holds."""
    folder = f"/proc/{made.running.process.pid}/fd"
    found = 0
    for one in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            found += "memfd:certificates" in os.readlink(f"{folder}/{one}")
    return found


def kill(made) -> None:
    """Kills every worker, and waits until there are as many others."""
    before = made.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: len(made.workers()) == len(before) and not made.workers() & before, 40, lambda: made.running.errors
    )


def nonsense(pems: Path) -> None:
    (pems / "site.pem").write_bytes(b"nonsense")


def half(pems: Path) -> None:
    SITE.write(pems / "site.pem", SITE.pem[:-200])


def mismatch(pems: Path) -> None:
    SITE.write(pems / "site.pem", SITE.certificate_pem + CLIENT.key_pem())


def gone(pems: Path) -> None:
    (pems / "site.pem").unlink()


def premature(pems: Path) -> None:
    ROOT.issue("localhost", start=2).write(pems / "site.pem")


def readable(pems: Path) -> None:
    write_secret(pems / "site.pem", ROOT.issue("localhost").pem, 0o644)


@pytest.mark.parametrize("spoil", [nonsense, half, mismatch, gone, premature, readable])
def test_a_worker_that_dies(service, pems, spoil):
    """It is replaced by one with the certificates that it had; a reload refuses what lies there."""
    made = service()
    assert served(made) == SITE.der
    wait_until(lambda: kept(made) == 1)
    spoil(pems)
    kill(made)
    assert served(made) == SITE.der
    line = made.running.wait_said(KEPT)
    assert line.startswith("<4>") and f"certificate {pems}/site.pem: " in line
    assert made.reload().returncode == 78
    assert served(made) == SITE.der
    said = made.call("status").stdout
    assert "is not valid before" in said if spoil is premature else "certificates on disk have been refused" in said


def test_the_watch_goes_on(service, pems):
    """Of each worker that dies after another; what is good at last is taken, kept in its turn, and nothing was said twice."""
    made = service()
    wait_until(lambda: kept(made) == 1)
    nonsense(pems)
    for _one in range(2):
        kill(made)
        assert served(made) == SITE.der
    fresh = ROOT.issue("localhost")
    fresh.write(pems / "site.pem")
    made.running.wait_said("e: renewed: certificate of localhost")
    assert served(made) == fresh.der
    assert made.running.errors.count(KEPT) == 2
    assert made.running.errors.count("the old ones stay") == 0
    gone(pems)
    kill(made)
    assert served(made) == fresh.der
    assert "PRIVATE KEY" not in made.running.errors
    assert made.running.stop() == 0


def test_a_start_refuses(start, pems, tmp_path):
    """There is nothing of before: neither under a supervisor nor without one."""
    nonsense(pems)
    text = f"<echo e>\n  tls-address systemd:name=h\n  <tls>\n    certificate {pems}/site.pem\n  </tls>\n</echo>\n"
    for arguments in ((), ("--single",)):
        assert start(text, ("h", listening()), arguments=arguments).wait_exit() == 78


def test_every_worker_that_dies(start, tmp_path, pems):
    """Of two workers, after a renewal, by whichever of them; what runs in the first alone has its own, too."""
    lone = ROOT.issue("localhost")
    lone.write(pems / "lone.pem")
    texts = (
        f"<echo {name}>\n  tls-address systemd:name={name}\n{more}  <tls>\n    certificate {pems}/{file}.pem\n  </tls>\n</echo>\n"
        for name, file, more in (("h", "site", ""), ("o", "lone", "  processes one\n"))
    )
    other = listening()
    made = Service(start, tmp_path, "workers 2\n", "".join(texts), [("o", other)])
    fresh, alone = ROOT.issue("localhost"), ROOT.issue("localhost")
    fresh.write(pems / "site.pem")
    alone.write(pems / "lone.pem")
    wait_until(lambda: all(served(made) == fresh.der for _try in range(20)), 30)
    wait_until(lambda: served(made, passed=other) == alone.der)
    wait_until(lambda: kept(made) == 2)
    nonsense(pems)
    (pems / "lone.pem").unlink()
    kill(made)
    assert {served(made) for _try in range(20)} == {fresh.der}
    assert served(made, passed=other) == alone.der
    wait_until(lambda: (made.running.errors.count(f"h: {KEPT}"), made.running.errors.count(f"o: {KEPT}")) == (2, 1))
    again = ROOT.issue("localhost")
    again.write(pems / "site.pem")
    wait_until(lambda: all(served(made) == again.der for _try in range(20)), 30)
    assert made.running.stop() == 0


def test_a_worker_that_is_recycled(start, tmp_path, pems):
    """It is replaced all the same, and the service is what it was."""
    text = (
        f"<http e>\n  tls-address systemd:name=h\n  <tls>\n    certificate {pems}/site.pem\n  </tls>\n"
        "  <wsgi>\n    application hosted:app\n  </wsgi>\n</http>\n"
    )
    made = Service(start, tmp_path, "max-requests 3\n", text)
    wait_until(lambda: kept(made) == 1)
    (first,) = made.workers()
    nonsense(pems)

    def answered() -> int:
        with connect(made) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := client.recv(65536):
                answer += data
            assert client.getpeercert(binary_form=True) == SITE.der
            return int(answer.rpartition(b"\n")[2])

    wait_until(lambda: answered() != first, 40)
    assert "cannot be recycled" not in made.running.errors


def test_clients_with_certificates(service, pems):
    """Without the file of their authority they are let in as before, and others are not."""
    Authority("Stranger").issue("uri:spiffe://prod/app").write(pems / "stranger.pem")
    (pems / "crl.pem").write_bytes(ROOT.revoke())
    made = service(f"certificate {pems}/site.pem\n    client-ca {pems}/ca.pem\n    crl {pems}/crl.pem")
    assert served(made, pems / "client.pem") == SITE.der
    wait_until(lambda: kept(made) == 1)
    (pems / "ca.pem").unlink()
    (pems / "crl.pem").write_bytes(b"nonsense")
    kill(made)
    assert served(made, pems / "client.pem") == SITE.der
    with pytest.raises((ssl.SSLError, ConnectionError)):
        served(made, pems / "stranger.pem")
    line = made.running.wait_said(KEPT)
    assert f"client-ca {pems}/ca.pem: there is no such file (and 1 more)" in line


def test_keys_that_lie_apart(service, pems):
    """Key, chain and passphrase in files of their own, and the passphrase is gone: the key needs none in memory."""
    issued = Authority("Sub", by=ROOT).issue("localhost")
    issued.write(pems / "crt.pem", issued.certificate_pem)
    issued.write(pems / "chain.pem", issued.chain_pem)
    issued.write(pems / "key.pem", issued.key_pem(b"swordfish"))
    write_secret(pems / "word", b"swordfish\n")
    made = service(
        f"certificate {pems}/crt.pem\n    private-key {pems}/key.pem\n    chain {pems}/chain.pem\n"
        f"    key-passphrase {pems}/word"
    )
    wait_until(lambda: kept(made) == 1)
    (pems / "word").unlink()
    kill(made)
    assert served(made) == issued.der
    assert "swordfish" not in made.running.errors


def test_connections_that_servers_open(start, tmp_path, pems):
    """A `<portforward>` whose `ca` is gone verifies with what it has read."""
    behind, text = listening(), "<portforward p>\n  address systemd:name=h\n"
    start(
        f"<echo b>\n  tls-address systemd:name=b\n  <tls>\n    certificate {pems}/site.pem\n  </tls>\n</echo>\n",
        ("b", behind),
    ).wait_ready()
    text += f"  tls-to localhost:{behind.getsockname()[1]}\n  <client-tls>\n    ca {pems}/ca.pem\n"
    made = Service(start, tmp_path, "", f"{text}  </client-tls>\n</portforward>\n")

    def passes_on() -> bool:
        with socket.create_connection(made.passed.getsockname(), 30) as client:
            client.sendall(b"hello")
            return client.recv(100) == b"hello"

    assert passes_on()
    wait_until(lambda: kept(made) == 1)
    (pems / "ca.pem").unlink()
    kill(made)
    assert passes_on()
    line = made.running.wait_said("what was read before is used on")
    assert line.startswith("<4>") and f"ca {pems}/ca.pem: there is no such file" in line


def test_nothing_is_left_open(service, pems):
    """The supervisor holds those of the generation that serves; no worker has the descriptor, and systemd's store never."""
    made = service()
    wait_until(lambda: kept(made) == 1)
    for _ in range(2):
        assert made.reload().returncode == 0
    nonsense(pems)
    assert made.reload().returncode == 78
    wait_until(lambda: kept(made) == 1 and not made.status()["draining"], 20)
    kill(made)
    (pid,) = made.workers()
    names = [os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")]
    assert not any("certificates" in name for name in names)
    assert not any("FDSTORE" in one for one in made.running.manager.read_all())
    environ = Path(f"/proc/{pid}/environ").read_bytes() if os.access(f"/proc/{pid}/environ", os.R_OK) else b""
    assert b"PRIVATE KEY" not in environ


def test_after_an_upgrade(service, tmp_path, pems):
    """The supervisor executes its next version in its place, which has the certificates still."""
    package = tmp_path / "lib" / "appd"
    shutil.copytree(Path(sysconfig.get_path("purelib")) / "appd", package)
    made = service(PYTHONPATH=str(tmp_path / "lib"), PYTHONDONTWRITEBYTECODE="1")
    file = package / "__init__.py"
    fresh = file.with_suffix(".new")
    fresh.write_text(file.read_text().replace("0.1.0", "0.2.0"))
    fresh.replace(file)
    assert made.reload().returncode == 0
    made.running.wait_said("the supervisor goes on as appd 0.2.0")
    wait_until(lambda: kept(made) == 1 and not made.status()["draining"], 20)
    gone(pems)
    kill(made)
    assert served(made) == SITE.der
    made.running.wait_said(KEPT)
