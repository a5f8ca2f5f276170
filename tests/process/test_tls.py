"""TLS on sockets that were passed: real clients, a real appd."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from support.authority import Authority, new_key, write_secret
from support.running import APPD, listening, wait_until

ROOT = Authority("Root")
STRANGER = Authority("Stranger")
SITE = Authority("Sub", by=ROOT).issue("localhost", "*.wild.example", "ip:127.0.0.1")
OTHER = ROOT.issue("other.example", kind="rsa")
CLIENT = ROOT.issue("uri:spiffe://prod/app", "email:ops@example.org", common_name="Ops")

# How many clients break off; all of them in `make test-all`.
MANY = 10_000 if int(os.environ.get("APPD_TEST_SECONDS", "0")) > 60 else 1000
APPLICATION = """
import sys, threading
def application(environ, start_response):
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/environ":
        return ["".join(f"{key}={value!r}\\n" for key, value in sorted(environ.items())).encode()]
    if path == "/modules":
        return [" ".join(sorted(sys.modules)).encode()]
    if path == "/slow":
        import time
        print("slow has begun")
        time.sleep(1.5)
        return [b"slow"]
    if path == "/echo":
        return [environ["wsgi.input"].read()]
    return [environ["wsgi.url_scheme"].encode()]
"""


@pytest.fixture
def pems(tmp_path):
    """The folder of the certificates."""
    folder = tmp_path / "pems"
    folder.mkdir()
    ROOT.write(folder / "ca.pem")
    SITE.write(folder / "site.pem")
    OTHER.write(folder / "other.pem")
    CLIENT.write(folder / "client.pem")
    STRANGER.issue("localhost").write(folder / "stranger.pem")
    ROOT.issue("x", days=-1).write(folder / "expired.pem")
    (folder / "hosted").mkdir()
    (folder / "hosted" / "tlsapp.py").write_text(APPLICATION)
    return folder


def http(pems: Path, tls: str, before: str = "") -> str:
    return (
        f"python-path {pems}/hosted\n{before}<http shop>\n  tls-address systemd:name=web\n  <tls>\n{tls}\n  </tls>\n"
        "  <wsgi>\n    application tlsapp:application\n  </wsgi>\n</http>\n"
    )


def echo(pems: Path, tls: str = "") -> str:
    return (
        f"<echo>\n  tls-address systemd:name=web\n  <tls>\n    certificate {pems}/site.pem\n{tls}\n  </tls>\n</echo>\n"
    )


def curl(url: str, pems: Path, *options: str, port: int = 0) -> subprocess.CompletedProcess[str]:
    to = ("--connect-to", f"::127.0.0.1:{port}") if port else ()
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--max-time",
        "30",
        "--cacert",
        str(pems / "ca.pem"),
        *to,
        *options,
        url,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def context(pems: Path, client: Path | None = None, **settings: object) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(pems / "ca.pem")
    if client is not None:
        made.load_cert_chain(client)
    for name, value in settings.items():
        setattr(made, name, value)
    return made


def connect(passed: socket.socket, made: ssl.SSLContext, name: str = "localhost") -> ssl.SSLSocket:
    plain = socket.socket(passed.family)
    plain.settimeout(30)
    try:
        plain.connect(passed.getsockname())
        return made.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def served(passed: socket.socket, pems: Path, name: str = "localhost") -> bytes:
    """The certificate that is served."""
    with connect(passed, context(pems), name) as client:
        found = client.getpeercert(binary_form=True)
        assert found is not None
        return found


def read_all(client: ssl.SSLSocket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while data := client.recv(65536):
            found += data
    return found


def test_https(start, pems):
    """curl gets a page by HTTP/1.1, chosen by ALPN; the application sees https."""
    web = listening()
    start(http(pems, f"    certificate {pems}/site.pem"), ("web", web)).wait_ready()
    done = curl(f"https://localhost:{web.getsockname()[1]}/", pems, "--verbose")
    assert done.stdout == "https"
    assert re.search(r"ALPN.*(accepted|server accepted).*http/1\.1", done.stderr)
    assert "SSL certificate verify ok" in done.stderr


def test_every_kind_of_socket(start, pems, tmp_path):
    """INET, INET6 and UNIX; plain and TLS side by side in one server."""
    path = str(tmp_path / "x.sock")
    sockets = [("web", listening()), ("web", listening(socket.AF_UNIX, path)), ("plain", listening())]
    if socket.has_ipv6:
        sockets.append(("web", listening(socket.AF_INET6, ("::1", 0))))
    start(echo(pems).replace("<echo>", "<echo>\n  address systemd:name=plain"), *sockets).wait_ready()
    for name, passed in sockets:
        if name == "web":
            with connect(passed, context(pems)) as client:
                client.sendall(b"hello")
                assert client.recv(100) == b"hello"
    with socket.create_connection(sockets[2][1].getsockname(), 30) as plain:
        plain.sendall(b"hello")
        assert plain.recv(100) == b"hello"
    assert Path(path).is_socket()


def test_openssl_s_client(start, pems):
    """The chain is complete and in order, what is sent comes back."""
    web = listening()
    start(echo(pems), ("web", web)).wait_ready()
    address = f"127.0.0.1:{web.getsockname()[1]}"
    command = ["openssl", "s_client", "-connect", address, "-servername", "localhost", "-CAfile", str(pems / "ca.pem")]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write("hello appd\n")
    client.stdin.flush()
    said = ""
    while "hello appd" not in said:
        line = client.stdout.readline()
        assert line, said
        said += line
    client.kill()
    client.communicate()
    assert "Verify return code: 0 (ok)" in said
    assert said.count("-----BEGIN CERTIFICATE-----") >= 1
    assert " 1 s:CN = Sub" in said or " 1 s:CN=Sub" in said


def test_certificate_by_name(start, pems):
    """SNI; refused where unknown names are."""
    web = listening()
    both = f"    certificate {pems}/site.pem\n    certificate {pems}/other.pem\n    unknown-name refuse"
    start(http(pems, both), ("web", web)).wait_ready()
    port = web.getsockname()[1]
    assert curl("https://other.example/", pems, port=port).stdout == "https"
    assert curl("https://a.wild.example/", pems, port=port).stdout == "https"
    refused = curl("https://unknown.example/", pems, port=port)
    assert refused.returncode == 35
    assert "unrecognized name" in refused.stderr


def test_a_thousand_certificates(start, pems):
    """A folder of them: each name has its own, before and after the renewal of one."""
    folder, key = pems / "thousand", new_key()
    folder.mkdir()
    for number in range(1000):
        ROOT.issue(f"n{number}.example", key=key).write(folder / f"{number:03}.pem")
    last = ROOT.issue("n999.example", "*.n999.example")
    last.write(folder / "999.pem")
    web, other = listening(), listening()
    text = http(pems, f"    certificate {folder}") + echo(pems).replace("=web", "=other").replace(
        f"{pems}/site.pem", str(folder)
    )
    running = start(text, ("web", web), ("other", other)).wait_ready()
    for passed in (web, other):
        names = [f"n{number}.example" for number in (0, 1, 500, 999)]
        assert len({served(passed, pems, name) for name in names}) == 4
        assert served(passed, pems, "www.n999.example") == last.der
    fresh = ROOT.issue("n500.example")
    fresh.write(folder / "500.pem")
    wait_until(lambda: running.errors.count("renewed: certificate of n500.example") == 2)
    for passed in (web, other):
        assert served(passed, pems, "n500.example") == fresh.der
        assert served(passed, pems, "n999.example") == last.der


def test_client_certificates(start, pems):
    """Signed by the authority: the application knows who it is. By another, expired, revoked, or none: no handshake."""
    revoked = ROOT.issue("uri:spiffe://prod/app")
    revoked.write(pems / "revoked.pem")
    ROOT.issue("uri:spiffe://test/app").write(pems / "other-name.pem")
    (pems / "crl.pem").write_bytes(ROOT.revoke(revoked))
    web = listening()
    tls = (
        f"    certificate {pems}/site.pem\n    client-ca {pems}/ca.pem\n    crl {pems}/crl.pem\n"
        "    client-names uri:spiffe://prod/*\n    remote-user uri"
    )
    running = start(http(pems, tls), ("web", web)).wait_ready()
    url = f"https://localhost:{web.getsockname()[1]}/environ"
    said = curl(url, pems, "--cert", str(pems / "client.pem")).stdout
    assert "REMOTE_USER='spiffe://prod/app'\n" in said
    assert "SSL_CLIENT_VERIFY='SUCCESS'\n" in said
    assert "SSL_CLIENT_S_DN_CN='Ops'\n" in said
    assert "HTTPS='on'\n" in said
    for bad in ("stranger", "expired", "revoked", "other-name"):
        for version in ("1.2", "1.3"):
            done = curl(url, pems, "--cert", str(pems / f"{bad}.pem"), f"--tlsv{version}", "--tls-max", version)
            if bad == "other-name":  # Python's ssl cannot let the handshake fail for it
                assert done.stdout == "403 Forbidden\n", done.stderr
                continue
            assert done.returncode in (35, 52, 55, 56, 60), bad  # what curl makes of the alert
            assert "alert" in done.stderr or "SSL certificate" in done.stderr, bad
    assert curl(url, pems).returncode in (35, 56)
    # Who is told of: nobody who was refused reached the application, and nothing of it is in the log.
    assert "Traceback" not in running.errors


def test_spoofed_variables(start, pems):
    """Headers do not make a user."""
    web = listening()
    tls = (
        f"    certificate {pems}/site.pem\n    client-ca {pems}/ca.pem\n    client-verify optional\n    remote-user cn"
    )
    start(http(pems, tls), ("web", web)).wait_ready()
    url = f"https://localhost:{web.getsockname()[1]}/environ"
    said = curl(
        url, pems, "-H", "Remote-User: root", "-H", "SSL-Client-Verify: SUCCESS", "-H", "SSL_CLIENT_VERIFY: x"
    ).stdout
    assert "SSL_CLIENT_VERIFY='NONE'\n" in said
    assert "\nREMOTE_USER=" not in said
    assert "SSL_CLIENT_S_DN" not in said


def test_twisted_sees_the_certificate(start, pems):
    """A factory of anybody's: getPeerCertificate, and nothing else than the tls-address line."""
    (pems / "hosted" / "who.py").write_text(
        "from twisted.internet.protocol import Factory, Protocol\n"
        "class Who(Protocol):\n"
        "    def dataReceived(self, data):\n"
        "        name = self.transport.getPeerCertificate().get_subject().commonName\n"
        "        self.transport.write(name.encode())\n"
        "        self.transport.loseConnection()\n"
        "def factory():\n    return Factory.forProtocol(Who)\n"
    )
    web = listening()
    text = (
        f"python-path {pems}/hosted\n<server>\n  type who:factory\n  tls-address systemd:name=web\n  <tls>\n"
        f"    certificate {pems}/site.pem\n    client-ca {pems}/ca.pem\n  </tls>\n</server>\n"
    )
    start(text, ("web", web)).wait_ready()
    with connect(web, context(pems, pems / "client.pem")) as client:
        client.sendall(b"x")
        assert read_all(client) == b"Ops"


def test_who_speaks_first_and_leaves(start, pems):
    """A protocol that writes and ends before there has been a handshake."""
    (pems / "hosted" / "greet.py").write_text(
        "from twisted.internet.protocol import Factory, Protocol\n"
        "class Greet(Protocol):\n"
        "    def connectionMade(self):\n"
        "        self.transport.write(b'welcome')\n"
        "        self.transport.loseConnection()\n"
        "def factory():\n    return Factory.forProtocol(Greet)\n"
    )
    web = listening()
    tls = f"<tls>\n    certificate {pems}/site.pem\n  </tls>"
    text = f"python-path {pems}/hosted\n<server>\n  type greet:factory\n  tls-address systemd:name=web\n  {tls}\n</server>\n"
    start(text, ("web", web)).wait_ready()
    for _round in range(3):
        with connect(web, context(pems)) as client:
            assert read_all(client) == b"welcome"


def test_plain_http_is_told(start, pems):
    """A 400 in plain text that says what is wrong."""
    web = listening()
    start(http(pems, f"    certificate {pems}/site.pem"), ("web", web)).wait_ready()
    done = curl(f"http://localhost:{web.getsockname()[1]}/", pems, "--include")
    assert done.stdout.startswith("HTTP/1.1 400 Bad Request")
    assert done.stdout.endswith("400 Bad Request: this port speaks TLS, use https:// with it\n")


def test_old_versions_are_refused(start, pems):
    """TLS 1.1 is no more."""
    web = listening()
    start(http(pems, f"    certificate {pems}/site.pem"), ("web", web)).wait_ready()
    url = f"https://localhost:{web.getsockname()[1]}/"
    done = curl(url, pems, "--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
    assert done.returncode == 35
    assert "protocol version" in done.stderr
    assert curl(url, pems, "--tls-max", "1.2").stdout == "https"


def test_half_a_request_ends_with_its_client(start, pems):
    """Not with the timeout of a minute."""
    web = listening()
    start(http(pems, f"    certificate {pems}/site.pem"), ("web", web)).wait_ready()
    address = f"OPENSSL:127.0.0.1:{web.getsockname()[1]},cafile={pems}/ca.pem,commonname=localhost"
    begun = time.monotonic()
    subprocess.run(
        ["socat", "-t30", "-", address], input="GET /", capture_output=True, text=True, timeout=60, check=False
    )
    assert time.monotonic() - begun < 25


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_half_closed_connections_are_answered(start, pems, version):
    """A client that has said all it wants to gets what it asked for, by echo and by an application in a thread."""
    web, other = listening(), listening()
    text = http(pems, f"    certificate {pems}/site.pem") + echo(pems).replace("=web", "=other")
    start(text, ("web", web), ("other", other)).wait_ready()
    request = "GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for passed, said, end in ((other, "hello", "hello"), (web, request, "slow")):
        method = f"openssl-min-proto-version=TLS{version},openssl-max-proto-version=TLS{version}"
        address = f"OPENSSL:127.0.0.1:{passed.getsockname()[1]},cafile={pems}/ca.pem,commonname=localhost,{method}"
        done = subprocess.run(
            ["socat", "-t10", "-", address], input=said, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout.endswith(end), done.stderr


def test_large_bodies_both_ways(start, pems):
    """A megabyte there and back."""
    body = os.urandom(1 << 20)
    (pems / "body").write_bytes(body)
    web = listening()
    start(http(pems, f"    certificate {pems}/site.pem"), ("web", web)).wait_ready()
    url = f"https://localhost:{web.getsockname()[1]}/echo"
    for version in ("1.2", "1.3"):
        done = curl(url, pems, "--data-binary", f"@{pems}/body", "--output", str(pems / "back"), "--tls-max", version)
        assert done.returncode == 0, done.stderr
        assert (pems / "back").read_bytes() == body


def test_pipelined_requests_in_one_record(start, pems):
    """Each is answered, in order."""
    web = listening()
    start(http(pems, f"    certificate {pems}/site.pem"), ("web", web)).wait_ready()
    request = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n%d"
    with connect(web, context(pems)) as client:
        client.sendall(b"".join(request % number for number in range(5)))
        said = b""
        while said.count(b"HTTP/1.1 200 OK") < 5 or not said.endswith(b"4"):
            data = client.recv(65536)
            assert data, said
            said += data
    assert re.findall(rb"\r\n\r\n(\d)", said) == [b"0", b"1", b"2", b"3", b"4"]


def test_connections_are_counted_and_drained(start, pems):
    """STATUS= counts them; at a stop the request in flight is answered, and the connection ends properly."""
    web = listening()
    running = start(http(pems, f"    certificate {pems}/site.pem"), ("web", web)).wait_ready()
    with connect(web, context(pems)) as client:
        wait_until(lambda: any("1 connection," in one.get("STATUS", "") for one in running.manager.read_all()))
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        running.wait_said("slow has begun")
        running.process.send_signal(signal.SIGTERM)
        said = read_all(client)
    assert said.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in said
    assert said.endswith(b"slow")
    assert running.wait_exit() == 0


def test_connections_that_outlast_the_drain_are_cut(start, pems):
    """As plain ones are, half a handshake among them."""
    web = listening()
    running = start(f"drain-timeout 1s\n{echo(pems)}".replace("<echo>", "<echo e>"), ("web", web)).wait_ready()
    with connect(web, context(pems)) as client, socket.create_connection(web.getsockname(), 30) as half:
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        client.sendall(b"x")
        assert client.recv(10) == b"x"
        begun = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - begun < 25
        with contextlib.suppress(ConnectionResetError):
            assert half.recv(10) == b""


def test_garbage_leaves_nothing_behind(start, pems):
    """Thousands of handshakes that come to nothing: no descriptor is left, no line is logged, and others are served."""
    web = listening()
    running = start(echo(pems), ("web", web), arguments=("--single",)).wait_ready()
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context(pems).wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    begin = hello.read()
    assert served(web, pems) == SITE.der

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{running.process.pid}/fd"))

    running.wait_said("ready: ")
    before, lines = wait_until(descriptors), len(running.err)
    for number in range(MANY):
        with socket.create_connection(web.getsockname(), 30) as client:
            client.sendall(
                (begin, begin[:50], b"\x16\x03\x01\x00\x05hello", os.urandom(200), b"GET / HTTP/1.0\r\n\r\n")[
                    number % 5
                ]
            )
            if number % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert served(web, pems) == SITE.der
    wait_until(lambda: descriptors() <= before)
    assert running.err[lines:] == []


class TestRenewal:
    """Files that change under a service that runs."""

    def test_in_every_worker(self, start, pems):
        """Two workers: both serve the new one, one tells of it; a bad one is told of once, and the good one stays."""
        live = pems / "live"
        live.symlink_to("site.pem")
        web = listening()
        text = http(pems, f"    certificate {live}", "workers 2\n")
        running = start(text, ("web", web)).wait_ready()
        assert served(web, pems) == SITE.der
        fresh = ROOT.issue("localhost", days=200)
        fresh.write(pems / "fresh.pem")
        (pems / "new").symlink_to("fresh.pem")
        (pems / "new").rename(live)
        running.wait_said("shop: renewed: certificate of localhost")
        wait_until(lambda: all(served(web, pems) == fresh.der for _try in range(20)), 30)
        # A pair that does not belong together.
        SITE.write(pems / "fresh.pem", SITE.certificate_pem + fresh.key_pem())
        running.wait_said("the new certificates are refused and the old ones stay")
        assert all(served(web, pems) == fresh.der for _try in range(10))
        again = ROOT.issue("localhost")
        again.write(pems / "fresh.pem")
        wait_until(lambda: all(served(web, pems) == again.der for _try in range(20)), 30)
        wait_until(lambda: running.errors.count("renewed:") >= 2)
        assert running.errors.count("renewed:") == 2
        assert running.errors.count("are refused") == 1
        assert "PRIVATE KEY" not in running.errors

    def test_open_connections_go_on(self, start, pems):
        """Whoever is connected notices nothing."""
        web = listening()
        running = start(echo(pems), ("web", web)).wait_ready()
        with connect(web, context(pems)) as client:
            ROOT.issue("localhost").write(pems / "site.pem")
            running.wait_said("renewed")
            client.sendall(b"still here")
            assert client.recv(100) == b"still here"

    def test_by_reload(self, start, pems):
        """A new generation reads all anew, and refuses what is wrong before anybody notices."""
        web = listening()
        running = start(
            http(pems, f"    certificate {pems}/site.pem"), ("web", web), arguments=("--control", str(pems / "control"))
        ).wait_ready()
        command = [APPD, "reload", "--socket", str(pems / "control")]
        fresh = ROOT.issue("localhost")
        fresh.write(pems / "site.pem")
        subprocess.run(command, check=True, timeout=60)
        wait_until(lambda: served(web, pems) == fresh.der)
        (pems / "site.pem").write_bytes(b"nonsense")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 78
        assert "site.pem: it is not PEM" in done.stderr
        assert served(web, pems) == fresh.der
        running.stop()


def test_status_tells_when_certificates_expire(start, pems):
    """In STATUS= and `appd status`; the journal warns of one that is near."""
    ROOT.issue("soon.example", days=6.5).write(pems / "soon.pem")
    web = listening()
    text = http(pems, f"    certificate {pems}/site.pem\n    certificate {pems}/soon.pem")
    running = start(text, ("web", web), arguments=("--control", str(pems / "control"))).wait_ready()
    wait_until(
        lambda: any(
            "certificate of soon.example expires 20" in one.get("STATUS", "") for one in running.manager.read_all()
        )
    )
    command = [APPD, "status", "--socket", str(pems / "control")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert re.search(rf"\ncertificate of soon\.example \(shop, {pems}/soon\.pem\) expires \d{{4}}-\d\d-\d\d\n", said)
    assert running.wait_said("shop: the certificate of soon.example").startswith("<4>")
    assert running.errors.count("soon.example (") == 1


def test_status_tells_of_a_certificate_that_waits_for_its_time(start, pems):
    """The old one stays, the journal says so once; `appd check` would not start with the new one."""
    web, when = listening(), r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
    file = pems / "appd.conf"
    file.write_text(http(pems, f"    certificate {pems}/site.pem"))
    control = ("--control", str(pems / "control"))
    running = start(file.read_text(), ("web", web), arguments=control).wait_ready()
    ROOT.issue("localhost", start=2).write(pems / "site.pem")
    assert re.search(
        rf"<4>.*shop: the new certificates are not valid yet and will be taken then; the old ones stay: .*site\.pem: "
        rf"the certificate of 'localhost' is not valid before {when}",
        running.wait_said("are not valid yet"),
    )
    command = [APPD, "status", "--socket", str(pems / "control")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert re.search(
        rf"\ncertificate of localhost \(shop, {pems}/site\.pem\) is not valid before {when}, expires ", said
    )
    wait_until(
        lambda: any(
            re.search(rf", a new certificate of localhost is not valid before {when}", one.get("STATUS", ""))
            for one in running.manager.read_all()
        )
    )
    assert served(web, pems) == SITE.der
    done = subprocess.run([APPD, "check", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    assert re.search(rf"site\.pem: the certificate of 'localhost' is not valid before {when}\n", done.stderr)
    assert running.errors.count("are not valid yet") == 1


@pytest.mark.parametrize("arguments", [(), ("--single",)])
def test_status_tells_of_what_is_refused(start, pems, arguments):
    """As long as it lasts, in STATUS= and `appd status`, once for all workers; nobody needs to connect for it."""
    web = listening()
    text = http(pems, f"    certificate {pems}/site.pem", "" if arguments else "workers 2\n")
    control = () if arguments else ("--control", str(pems / "control"))
    running = start(text, ("web", web), arguments=(*arguments, *control)).wait_ready()

    def told(wanted):
        seen = [one["STATUS"] for one in running.manager.read_all() if "STATUS" in one]
        return seen and bool(re.search(wanted, seen[-1]))

    write_secret(pems / "site.pem", b"nonsense")
    said = (
        rf"server shop: the certificates on disk have been refused since \d{{4}}-\d\d-\d\d \d\d:\d\d UTC: "
        rf"certificate {pems}/site\.pem: it is not PEM: no block begins with -----BEGIN; the former ones are served"
    )
    wait_until(lambda: told(rf", {said}"))
    if not arguments:
        command = [APPD, "status", "--socket", str(pems / "control")]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert re.search(rf"\n{said}\n", shown)
        report = json.loads(subprocess.run([*command, "--json"], capture_output=True, timeout=60, check=True).stdout)
        (row,) = report["troubles"]
        assert set(row) == {"server", "what", "since", "reason"} and row["server"] == "shop"
    assert served(web, pems) == SITE.der
    fresh = ROOT.issue("localhost")
    fresh.write(pems / "site.pem")
    wait_until(lambda: told(r"serving 1 server(?!.*refused)"))
    wait_until(lambda: served(web, pems) == fresh.der)
    if not arguments:
        wait_until(
            lambda: (
                b'"troubles": []'
                in subprocess.run([*command, "--json"], capture_output=True, timeout=60, check=True).stdout
            )
        )


def test_check_tells_when_certificates_expire(pems):
    """And warns of those that are near; authorities of clients do too."""
    ROOT.issue("soon.example", days=6.5).write(pems / "soon.pem")
    keys = "".join(f"    {key}\n" for key in (f"certificate {pems}/soon.pem", f"client-ca {pems}/ca.pem"))
    (pems / "appd.conf").write_text(http(pems, f"    certificate {pems}/site.pem\n{keys}"))
    done = subprocess.run(
        [APPD, "check", str(pems / "appd.conf")], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"certificate {pems}/site.pem: localhost expires 20" in done.stdout
    assert f"client-ca {pems}/ca.pem: 'Root' expires 20" in done.stdout
    assert f"warning: server 'shop': {pems}/soon.pem: soon.example expires in 6 days, on 20" in done.stdout


def test_bad_certificates_stop_the_start(start, pems):
    """Exit 78 with every reason, before READY."""
    os.chmod(pems / "site.pem", 0o644)
    tls = f"    certificate {pems}/site.pem\n    certificate {pems}/expired.pem\n    certificate credential:site.pem"
    running = start(http(pems, tls), ("web", listening()))
    assert running.wait_exit() == 78
    assert "site.pem: every user of the host may read" in running.errors
    assert "expired.pem: the certificate of 'x' has expired on" in running.errors
    assert "credential:site.pem: this process has no credentials" in running.errors
    assert not any("READY" in one for one in running.manager.read_all())


class TestWithoutTls:
    """A file without <tls> has nothing of it in the process."""

    def test_openssl_is_not_imported(self, start, pems):
        """A real worker that has answered."""
        web = listening()
        text = http(pems, "").replace("tls-address", "address").replace("  <tls>\n\n  </tls>\n", "")
        start(text, ("web", web)).wait_ready()
        modules = curl(f"http://localhost:{web.getsockname()[1]}/modules", pems).stdout.split()
        assert "twisted.internet.tcp" in modules
        wrong = [one for one in modules if one.split(".")[0] in ("OpenSSL", "cryptography", "cffi", "service_identity")]
        assert wrong == []

    def test_the_lane_needs_no_pyopenssl(self, start, pems):
        """HTTPS is Python's ssl, which is all of OpenSSL that a worker with nothing else has in memory."""
        web = listening()
        start(http(pems, f"    certificate {pems}/site.pem"), ("web", web)).wait_ready()
        modules = curl(f"https://localhost:{web.getsockname()[1]}/modules", pems).stdout.split()
        assert "ssl" in modules
        assert [one for one in modules if one.split(".")[0] in ("OpenSSL", "service_identity")] == []

    def test_hosted_code_may_start_tls(self, start, pems):
        """STARTTLS on the transport, by hosted code that imports Twisted's own TLS."""
        (pems / "hosted" / "upgrade.py").write_text(
            "from twisted.internet.protocol import Factory, Protocol\n"
            "class Upgrade(Protocol):\n"
            "    tls = False\n"
            "    def dataReceived(self, data):\n"
            "        if self.tls:\n"
            "            self.transport.write(data)\n"
            "            return\n"
            "        from twisted.internet import ssl\n"
            "        self.tls = True\n"
            "        self.transport.write(b'go')\n"
            f"        context = ssl.DefaultOpenSSLContextFactory('{pems}/other.pem', '{pems}/other.pem')\n"
            "        self.transport.startTLS(context)\n"
            "def factory():\n    return Factory.forProtocol(Upgrade)\n"
        )
        web = listening()
        text = f"python-path {pems}/hosted\n<server>\n  type upgrade:factory\n  address systemd:name=web\n</server>\n"
        start(text, ("web", web)).wait_ready()
        plain = socket.create_connection(web.getsockname(), 30)
        plain.sendall(b"STARTTLS")
        assert plain.recv(10) == b"go"
        with context(pems).wrap_socket(plain, server_hostname="other.example") as client:
            client.sendall(b"hello")
            assert client.recv(10) == b"hello"
