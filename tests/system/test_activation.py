"""A socket is enabled, the first connection starts the service, and what systemd says of it is true."""

from __future__ import annotations

import time
from collections.abc import Callable

from system.disposable_host import Host, answer, wait_until

_SHOP = """
<http shop>
  address systemd:name=http
  <wsgi>
    application shop:application
  </wsgi>
</http>
"""


def test_first_request_starts_the_service(host: Host) -> None:
    """The files as they are shipped: `systemctl enable --now appd.socket` is all it takes, for IPv4 and IPv6."""
    host.systemctl("enable", "--now", "appd.socket")
    assert host.state("appd.service") == "inactive"
    status, body = host.get("http://127.0.0.1:8080/")
    assert status == 200
    assert "appd" in body
    # The first answer comes before Twisted is there, and the service is ready a moment later.
    wait_until(lambda: host.state("appd.service") == "active")
    assert host.get("http://[::1]:8080/").status == 200
    assert host.path("/etc/systemd/system/sockets.target.wants/appd.socket").is_symlink()


def test_enabled_socket_serves_after_a_boot(boot_host: Callable[..., Host]) -> None:
    """An enabled socket listens at boot, and the service waits for the first connection."""
    host = boot_host(enable=["appd.socket"])
    assert host.state("appd.socket") == "active"
    assert host.state("appd.service") == "inactive"
    assert host.get("http://127.0.0.1:8080/").status == 200


def test_start_returns_when_the_application_answers(host: Host) -> None:
    """Type=notify: `systemctl start` waits for an application that needs three seconds to be imported."""
    host.configure(_SHOP.replace("shop:application", "late:application"))
    begun = time.monotonic()
    host.systemctl("start", "appd.service")
    assert time.monotonic() - begun >= 3
    assert host.state("appd.service") == "active"
    begun = time.monotonic()
    assert host.get("http://127.0.0.1:8080/").body == "hello"
    assert time.monotonic() - begun < 2.9


def test_start_fails_when_the_application_does_not_import(host: Host) -> None:
    """`systemctl start` fails, and the journal has the line of the file and the traceback of the application."""
    host.write("/srv/broken/broken.py", "import no_such_module\n")
    host.configure(f"python-path /srv/broken\n{_SHOP.replace('shop:', 'broken:')}")
    assert host.systemctl("start", "appd.service", check=False).returncode != 0
    host.wait_property("appd.service", "ExecMainStatus", "78")
    [entry] = [one for one in host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd") if one["PRIORITY"] == "3"]
    assert "/etc/appd/appd.conf:7: broken:application cannot be imported" in entry["MESSAGE"]
    assert "/srv/broken/broken.py" in entry["MESSAGE"]
    assert "No module named 'no_such_module'" in entry["MESSAGE"]


def test_status_text_is_kept_true(host: Host) -> None:
    """`systemctl status` tells how many servers and connections there are, and follows them."""
    host.configure("<echo>\n  address systemd:name=http\n</echo>\n")
    host.systemctl("start", "appd.service")
    host.wait_property("appd.service", "StatusText", "serving 1 server, 1 worker, 0 connections")
    client = host.start("socat", "-", "TCP:127.0.0.1:8080")
    wait_until(lambda: host.property("appd.service", "StatusText") == "serving 1 server, 1 worker, 1 connection")
    assert client.communicate("hello")[0] == "hello"
    wait_until(lambda: host.property("appd.service", "StatusText") == "serving 1 server, 1 worker, 0 connections")


def test_port_80_is_served_without_privileges(host: Host) -> None:
    """systemd binds the port; the process that serves it is the user appd and has no capability."""
    host.drop_in("appd.socket", "[Socket]\nListenStream=\nListenStream=80\n")
    host.systemctl("start", "appd.socket")
    assert host.get("http://127.0.0.1/").status == 200
    process = host.run("cat", f"/proc/{host.main_pid()}/status").stdout
    said = dict(line.split(":\t", 1) for line in process.splitlines() if ":\t" in line)
    user = host.run("id", "-u", "appd").stdout.strip()
    assert said["Uid"].split() == [user] * 4
    assert int(said["CapEff"], 16) == 0
    assert int(said["CapPrm"], 16) == 0
    assert said["NoNewPrivs"] == "1"


def test_killed_service_comes_back_and_nobody_is_refused(host: Host) -> None:
    """kill -9: systemd starts it again by itself, and who connects meanwhile waits in the queue and is answered."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    killed = host.main_pid()
    host.run("kill", "-KILL", str(killed))
    client = host.start(*host.curl("http://127.0.0.1:8080/pid"))
    wait_until(lambda: host.state("appd.service") == "activating")
    assert answer(client.communicate()[0]).status == 200
    wait_until(lambda: host.main_pid() not in (0, killed))
    assert host.property("appd.service", "NRestarts") == "1"


def test_killed_service_comes_back_without_a_client(host: Host) -> None:
    """The restart after a crash waits for no connection."""
    host.systemctl("start", "appd.service")
    killed = host.main_pid()
    host.run("kill", "-SEGV", str(killed))
    wait_until(lambda: host.main_pid() not in (0, killed) and host.state("appd.service") == "active")


def test_clients_wait_while_the_file_is_mended(host: Host) -> None:
    """A bad file, clients in the queue and a dozen restarts: no start limit fails the socket; once mended, they are answered."""
    host.configure(_SHOP.replace("shop:application", "shop:aplication"))
    host.drop_in("appd.service", "[Service]\nRestartSec=100ms\n")
    host.systemctl("start", "appd.socket")
    clients = [host.start(*host.curl("http://127.0.0.1:8080/", timeout=120)) for _ in range(3)]
    wait_until(lambda: "aplication" in host.property("appd.service", "StatusText"))
    while int(host.property("appd.service", "NRestarts")) < 12:
        assert host.state("appd.socket") == "active"
        assert host.state("appd.service") == "activating"
        time.sleep(0.3)
    shown = wait_until(
        lambda: (
            (said := host.show("appd.service", "StatusText", "StatusErrno", "ExecMainStatus"))["StatusText"] and said
        )
    )
    assert shown["StatusText"].startswith("cannot start: /etc/appd/appd.conf:6: ")
    assert shown["StatusErrno"] == "22"
    host.configure(_SHOP)
    assert [answer(one.communicate()[0]) for one in clients] == [(200, "hello")] * 3
    wait_until(lambda: host.state("appd.service") == "active")
