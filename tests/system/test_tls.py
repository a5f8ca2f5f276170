"""HTTPS, TLS echo and mutual TLS on TCP and UNIX sockets of systemd's, keys by LoadCredential=, renewal without a restart."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from support.authority import Authority
from system.disposable_host import Host, answer, wait_until

ROOT = Authority("Root")
FOLDER = "/etc/appd/tls"

_SOCKET = """
[Socket]
ListenStream=
ListenStream=443
ListenStream=/run/appd-sockets/tls.sock
FileDescriptorName=https
"""
_ECHO_SOCKET = """
[Socket]
ListenStream=127.0.0.1:4433
ListenStream=/run/appd-sockets/echo.sock
FileDescriptorName=echo
Service=appd.service
"""
_FILES_SOCKET = """
[Socket]
ListenStream=127.0.0.1:8443
ListenStream=/run/appd-sockets/files.sock
FileDescriptorName=files
Service=appd.service
"""
_SERVICE = """
[Unit]
Requires=appd-echo.socket appd-files.socket
[Service]
LoadCredential=shop.pem:/etc/letsencrypt/shop.pem
Sockets=appd.socket appd-echo.socket appd-files.socket
"""
_FILE = f"""
<http shop>
  tls-address systemd:name=https
  <tls>
    certificate credential:shop.pem
  </tls>
  <wsgi>
    application shop:application
  </wsgi>
</http>
<http files>
  tls-address systemd:name=files
  <tls>
    certificate {FOLDER}/echo.pem
    client-ca {FOLDER}/ca.pem
    client-names email:*@example.org
  </tls>
  <wsgi>
    application shop:application
  </wsgi>
</http>
<echo mutual>
  tls-address systemd:name=echo
  <tls>
    certificate {FOLDER}/echo.pem
    client-ca {FOLDER}/ca.pem
    client-names email:*@example.org
  </tls>
</echo>
"""


def put(host: Host, path: str, data: bytes, mode: int = 0o640) -> None:
    """Writes a file as a deploy hook of certbot does: beside the old one, then in its place."""
    inside = host.path(path)
    inside.parent.mkdir(parents=True, exist_ok=True)
    fresh = inside.with_name(f".{inside.name}")
    fresh.write_bytes(data)
    host.run("chown", "root:appd", f"{Path(path).parent}/.{Path(path).name}")
    fresh.chmod(mode)
    fresh.rename(inside)


@pytest.fixture
def served(host: Host) -> Host:
    """A host that serves HTTPS and mutual TLS."""
    put(host, "/etc/letsencrypt/shop.pem", ROOT.issue("localhost").pem, 0o600)
    host.run("chown", "root:root", "/etc/letsencrypt/shop.pem")
    host.run("chmod", "0700", "/etc/letsencrypt")
    put(host, f"{FOLDER}/echo.pem", ROOT.issue("localhost").pem)
    put(host, f"{FOLDER}/ca.pem", ROOT.pem, 0o644)
    put(host, "/root/client.pem", ROOT.issue("email:ops@example.org").pem, 0o600)
    put(host, "/root/stranger.pem", ROOT.issue("email:ops@example.com").pem, 0o600)
    host.drop_in("appd.socket", _SOCKET)
    host.unit("appd-echo.socket", _ECHO_SOCKET)
    host.unit("appd-files.socket", _FILES_SOCKET)
    host.drop_in("appd.service", _SERVICE)
    host.configure(_FILE)
    host.systemctl("start", "appd.socket", "appd-echo.socket", "appd-files.socket")
    return host


def echo(host: Host, client: str) -> str:
    options = f"cert=/root/{client}.pem,cafile={FOLDER}/ca.pem,verify=1"
    done = host.run("socat", "-t30", "-", f"OPENSSL:localhost:4433,pf=ip4,{options}", input="hello", check=False)
    return done.stdout


def echo_by_path(host: Host, client: str) -> str:
    """The same over the UNIX socket."""
    command = (
        f"(echo hello; sleep 1) | openssl s_client -quiet -no_ign_eof -unix /run/appd-sockets/echo.sock -servername localhost "
        f"-cert /root/{client}.pem -CAfile {FOLDER}/ca.pem -verify_return_error 2>/dev/null"
    )
    return host.run("sh", "-c", command, check=False).stdout


def https(host: Host, client: str, *options: str) -> tuple[int, str]:
    """A page for a client with a certificate."""
    trust = ("--cacert", f"{FOLDER}/ca.pem", "--cert", f"/root/{client}.pem")
    return host.get("https://localhost:8443/", *trust, *options)


def fingerprint(host: Host, port: int) -> str:
    """What tells the certificate that is served from another."""
    client = f"openssl s_client -connect 127.0.0.1:{port} -servername localhost -cert /root/client.pem </dev/null 2>/dev/null"
    return host.run("sh", "-c", f"{client} | openssl x509 -noout -fingerprint", check=False).stdout


def test_https_and_mutual_tls(served: Host) -> None:
    """The first connection starts it; keys that its user cannot read come by LoadCredential=; UNIX sockets speak TLS too."""
    assert served.get("https://localhost/", "--cacert", f"{FOLDER}/ca.pem") == (200, "hello")
    through = served.curl(
        "https://localhost/", "--cacert", f"{FOLDER}/ca.pem", "--unix-socket", "/run/appd-sockets/tls.sock"
    )
    assert answer(served.run(*through).stdout) == (200, "hello")
    assert echo(served, "client") == "hello"
    assert echo(served, "stranger") == ""
    assert echo_by_path(served, "client") == "hello\n"
    assert echo_by_path(served, "stranger") == ""
    for options in ((), ("--unix-socket", "/run/appd-sockets/files.sock")):
        assert https(served, "client", *options) == (200, "hello")
        assert https(served, "stranger", *options)[0] == 403
    status = served.property("appd.service", "StatusText")
    assert re.search(r"certificate of localhost expires \d{4}-\d\d-\d\d$", status)
    explained = served.run("appd", "explain", "/etc/appd/appd.conf").stdout
    assert "stream, TLS" in explained
    said = served.run("setpriv", "--reuid=nobody", "--clear-groups", "appd", "check", "/etc/appd/appd.conf").stdout
    assert "certificate credential:shop.pem is not checkable here" in said
    assert f"certificate {FOLDER}/echo.pem is not checkable here: user " in said


def test_files_are_renewed_under_load(served: Host) -> None:
    """No handshake fails while files are swapped under it, and nothing is restarted; a bad file changes nothing."""
    assert echo(served, "client") == "hello"
    pid, before = served.main_pid(), fingerprint(served, 4433)
    assert https(served, "client") == (200, "hello")
    # An echo on Twisted's transports, and HTTP on the lane.
    loads = [
        served.start(
            "openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-time", "12", "-cert", "/root/client.pem",
            "-key", "/root/client.pem", "-CAfile", f"{FOLDER}/ca.pem", "-verify", "2",
        )
        for port in (4433, 8443)
    ]  # fmt: skip
    put(served, f"{FOLDER}/echo.pem", ROOT.issue("localhost").pem)
    wait_until(lambda: fingerprint(served, 4433) not in ("", before), 60)
    middle = fingerprint(served, 4433)
    put(served, f"{FOLDER}/echo.pem", b"nonsense")
    wait_until(lambda: any("are refused" in one["MESSAGE"] for one in served.journal("-u", "appd.service")), 60)
    assert fingerprint(served, 4433) == middle
    put(served, f"{FOLDER}/echo.pem", ROOT.issue("localhost").pem)
    wait_until(lambda: fingerprint(served, 4433) not in ("", middle), 60)
    wait_until(lambda: fingerprint(served, 8443) == fingerprint(served, 4433))
    for load in loads:
        said = load.communicate(timeout=90)[0]
        assert load.returncode == 0, said
        found = re.search(r"(\d+) connections in", said)
        assert found is not None, said
        assert int(found[1]) >= 200
        assert "ERROR" not in said
    assert served.main_pid() == pid
    refused = [one for one in served.journal("-u", "appd.service") if "are refused" in one["MESSAGE"]]
    assert [one["PRIORITY"] for one in refused] == ["3"] * 2
    assert f"{FOLDER}/echo.pem: it is not PEM" in refused[0]["MESSAGE"]


def test_credentials_are_renewed_by_a_restart(served: Host) -> None:
    """Not by a reload, since systemd leaves them as they were; nobody is refused meanwhile."""
    before = fingerprint(served, 443)
    put(served, "/etc/letsencrypt/shop.pem", ROOT.issue("localhost").pem, 0o600)
    served.systemctl("reload", "appd.service")
    assert fingerprint(served, 443) == before
    # Its user may not look into root's folder. Where it may, it says so.
    served.run("chmod", "0711", "/etc/letsencrypt")
    told = "credential:shop.pem is older than /etc/letsencrypt/shop.pem: restart"
    wait_until(lambda: told in served.property("appd.service", "StatusText"), 60)
    client = served.start(*served.curl("https://localhost/", "--cacert", f"{FOLDER}/ca.pem"))
    served.systemctl("restart", "appd.service")
    assert answer(client.communicate()[0]).status == 200
    wait_until(lambda: fingerprint(served, 443) not in ("", before))


def test_missing_credential_is_told(served: Host) -> None:
    """A name that LoadCredential= does not give: one line, exit 78, and the socket stays."""
    served.configure(_FILE.replace("credential:shop.pem", "credential:other.pem"))
    assert served.systemctl("start", "appd.service", check=False).returncode != 0
    [entry] = [one for one in served.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd") if one["PRIORITY"] == "3"][
        :1
    ]
    assert (
        "certificate credential:other.pem: the service has no such credential (LoadCredential= of the unit)"
        in entry["MESSAGE"]
    )
    assert served.state("appd.socket") == "active"
    begun = time.monotonic()
    client = served.start(*served.curl("https://localhost/", "--cacert", f"{FOLDER}/ca.pem"))
    served.configure(_FILE)
    assert answer(client.communicate(timeout=90)[0]).status == 200
    assert time.monotonic() - begun < 60
