"""The shipped units: clean, as templates, in Twisted's own example, and under twistd."""

from __future__ import annotations

from system.disposable_host import Host, answer, wait_until

_SHOP = """
<http shop>
  address systemd:name=http
  <wsgi>
    application shop:application
  </wsgi>
</http>
"""


def _greeting(words: str) -> str:
    options = f"  <options>\n    words {words}\n  </options>\n"
    return f"<server>\n  type chat:GreetingFactory\n  address systemd:name=http\n{options}</server>\n"


def test_units_are_clean(host: Host) -> None:
    """`systemd-analyze verify` has nothing to say about what is shipped."""
    units = ("appd.service", "appd.socket", "appd@shop.service", "appd@shop.socket")
    said = host.run("systemd-analyze", "--man=no", "verify", *units, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_configuration_is_checked_in_place(host: Host) -> None:
    """`appd check` and `appd explain` of the shipped file, as any user, agree with the shipped units."""
    said = host.run("setpriv", "--reuid=nobody", "--clear-groups", "appd", "check", "/etc/appd/appd.conf")
    assert said.stdout.startswith("/etc/appd/appd.conf: good, 1 server")
    explained = host.run("appd", "explain", "/etc/appd/appd.conf").stdout
    assert "appd.socket" in explained
    assert "welcome" in explained


def test_instances_do_not_disturb_each_other(host: Host) -> None:
    """appd@a and appd@b: a file and a socket each; what happens to one is nothing to the other."""
    for name in ("a", "b"):
        host.configure(_greeting(f"this is {name}"), name)
    host.systemctl("enable", "--now", "appd@a.socket", "appd@b.socket")

    def ask(name: str) -> str:
        return host.exchange(f"UNIX-CONNECT:/run/appd-sockets/{name}.sock", "")

    assert ask("a") == "this is a\n"
    assert host.state("appd@b.service") == "inactive"
    assert ask("b") == "this is b\n"
    pid = host.main_pid("appd@b.service")
    host.systemctl("stop", "appd@a.socket", "appd@a.service")
    assert not host.path("/run/appd-sockets/a.sock").exists()
    assert ask("b") == "this is b\n"
    host.configure("nonsense\n", "a")
    assert host.systemctl("start", "appd@a.service", check=False).returncode != 0
    host.run("systemctl", "kill", "--signal=KILL", "appd@a.service", check=False)
    assert ask("b") == "this is b\n"
    assert host.main_pid("appd@b.service") == pid
    assert host.property("appd@b.service", "NRestarts") == "0"
    folder = host.run("stat", "--format=%U %F", "/var/lib/appd/b").stdout.strip()
    assert folder == "appd directory"
    entries = host.journal("-u", "appd@b.service", "SYSLOG_IDENTIFIER=appd")
    assert entries
    assert {one["_SYSTEMD_UNIT"] for one in entries} == {"appd@b.service"}


def test_port_is_added_to_one_instance(host: Host) -> None:
    """`systemctl edit appd@a.socket`: its TCP port beside its path, and none for the other instance."""
    for name in ("a", "b"):
        host.configure(_greeting(f"this is {name}"), name)
    host.drop_in("appd@a.socket", "[Socket]\nListenStream=127.0.0.1:8081\n")
    host.systemctl("start", "appd@a.socket", "appd@b.socket")
    assert host.exchange("TCP:127.0.0.1:8081", "") == "this is a\n"
    assert host.exchange("UNIX-CONNECT:/run/appd-sockets/a.sock", "") == "this is a\n"
    assert host.exchange("UNIX-CONNECT:/run/appd-sockets/b.sock", "") == "this is b\n"
    assert len(host.run("ss", "-ltnH").stdout.splitlines()) == 1


_EXAMPLE_PAGE = "<!doctype html>\n<html lang=en><body><h1>Example Site</h1></body></html>\n"
_EXAMPLE = """
<http>
  address systemd:name=http
  <static>
    root /srv/www/www.example.com/static
  </static>
</http>
"""


def test_deploying_twisted_with_systemd(host: Host) -> None:
    """The page of Twisted's manual, step by step, with appd's template in place of units of one's own."""
    host.write("/srv/www/www.example.com/static/index.html", _EXAMPLE_PAGE)
    host.write("/etc/appd/www.example.com.conf", _EXAMPLE)
    socket, service = "appd@www.example.com.socket", "appd@www.example.com.service"
    host.drop_in(socket, "[Socket]\nListenStream=0.0.0.0:80\n")

    # "Start and enable the socket": it listens, and Twisted does not run yet.
    host.systemctl("start", socket)
    assert "active (listening)" in host.systemctl("status", socket).stdout
    assert host.state(service) == "inactive"
    host.systemctl("enable", socket)
    assert host.path(f"/etc/systemd/system/sockets.target.wants/{socket}").is_symlink()

    # "Activate the port to start the service".
    assert host.get("http://localhost:80/") == (200, _EXAMPLE_PAGE)
    wait_until(lambda: "active (running)" in host.systemctl("status", service, check=False).stdout)

    # "Test that the service is automatically restarted".
    first = host.main_pid(service)
    host.run("kill", "-KILL", str(first))
    wait_until(lambda: host.main_pid(service) not in (0, first) and host.state(service) == "active")
    assert host.get("http://localhost:80/").status == 200

    # A plain kill is a stop, and the next connection starts it.
    second = host.main_pid(service)
    host.run("kill", str(second))
    wait_until(lambda: host.state(service) == "inactive")
    assert host.get("http://localhost:80/").status == 200
    wait_until(lambda: host.main_pid(service) not in (0, second))

    # "Basic systemd service configuration": started at boot in place of on demand.
    host.systemctl("enable", service)
    assert service in host.property("multi-user.target", "Wants").split()
    host.systemctl("stop", service)
    assert host.state(service) == "inactive"
    host.systemctl("start", service)
    assert host.systemctl("is-enabled", service).stdout.strip() == "enabled"


def test_twisteds_own_address_is_understood(host: Host) -> None:
    """`systemd:domain=INET:index=0`, as the page has it for twistd."""
    host.write("/srv/www/www.example.com/static/index.html", _EXAMPLE_PAGE)
    host.write("/etc/appd/appd.conf", _EXAMPLE.replace("systemd:name=http", "systemd:domain=INET:index=0"))
    host.drop_in("appd.socket", "[Socket]\nListenStream=\nListenStream=0.0.0.0:80\n")
    host.systemctl("start", "appd.socket")
    assert host.get("http://localhost:80/index.html").status == 200


def test_twistd_serves_as_the_unit_says(host: Host) -> None:
    """`twistd -n appd --config FILE` as ExecStart=: adopts, is ready, logs to the journal, drains."""
    host.configure(_SHOP)
    host.drop_in(
        "appd.service",
        "[Service]\nExecStart=\nExecStart=/usr/bin/twistd -n --pidfile= appd --config /etc/appd/appd.conf\n",
    )
    host.systemctl("start", "appd.socket")
    assert host.get("http://127.0.0.1:8080/").body == "hello"
    assert host.property("appd.service", "StatusText").startswith("serving 1 server, ")
    assert host.get("http://127.0.0.1:8080/talk").body == "talked"
    [entry] = wait_until(lambda: host.journal("-u", "appd.service", "LOGGER=shop.basket", "PRIORITY=3", "SHELF=7"))
    assert entry["SYSLOG_IDENTIFIER"] == "appd"
    client = host.start(*host.curl("http://127.0.0.1:8080/slow?seconds=2"))
    wait_until(host.path("/var/lib/appd/begun").exists)
    host.systemctl("stop", "appd.service")
    assert answer(client.communicate()[0]) == (200, "after 2 s")
    assert host.property("appd.service", "Result") == "success"
    messages = [one["MESSAGE"] for one in host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd")]
    assert messages.count("stopping") == 1


def test_twistd_refuses_a_bad_file(host: Host) -> None:
    """The exit code, the line and the status are those of `appd run`."""
    host.configure("<echo>\n  address systemd:name=nothing\n</echo>\n")
    host.drop_in(
        "appd.service",
        "[Service]\nExecStart=\nExecStart=/usr/bin/twistd -n --pidfile= appd --config /etc/appd/appd.conf\n",
    )
    assert host.systemctl("start", "appd.service", check=False).returncode != 0
    host.wait_property("appd.service", "ExecMainStatus", "78")
    assert host.property("appd.service", "StatusText").startswith("cannot start: /etc/appd/appd.conf:3: ")
    errors = host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd", "PRIORITY=3")
    assert errors
    assert "systemd:name=nothing" in errors[0]["MESSAGE"]
