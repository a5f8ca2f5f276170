"""The units that `appd units` makes, on a booted systemd."""

from __future__ import annotations

from support.authority import Authority
from system.disposable_host import Host

_FILE = """
<socket http>
  listen 127.0.0.1:8090
</socket>
<socket chat>
  listen /run/appd-sockets/chat.sock
  mode 0660
  group appd
</socket>
<socket log>
  listen udp:127.0.0.1:5140
</socket>
<echo web>
  address systemd:name=http
</echo>
<echo chat>
  address systemd:name=chat
</echo>
<echo log>
  address systemd:name=log
</echo>
"""


def test_made_units_serve(host: Host) -> None:
    """Clean for systemd-analyze, agreed with by `check --units`, and the service starts on their sockets."""
    host.configure(_FILE)
    host.run("appd", "units", "/etc/appd/appd.conf", "--output", "/etc/systemd/system")
    units = ("appd.socket", "appd-chat.socket", "appd-log.socket")
    said = host.run("systemd-analyze", "verify", "--man=no", *units, "appd.service", check=False)
    assert (said.returncode, said.stderr) == (0, "")
    host.run("mkdir", "/tmp/units")
    host.run("sh", "-c", "cp /etc/systemd/system/appd*.socket /tmp/units")
    assert "good, 3 servers" in host.run("appd", "check", "/etc/appd/appd.conf", "--units", "/tmp/units").stdout
    host.systemctl("daemon-reload")
    host.systemctl("enable", "--now", *units)
    assert host.exchange("TCP:127.0.0.1:8090", "to the web\n") == "to the web\n"
    assert host.exchange("UNIX-CONNECT:/run/appd-sockets/chat.sock", "to the chat\n") == "to the chat\n"
    assert host.datagram("127.0.0.1", 5140, "to the log") == "to the log"
    assert host.run("stat", "--format=%a %G", "/run/appd-sockets/chat.sock").stdout.strip() == "660 appd"


_INSTANCE = """
<socket http>
  listen 127.0.0.1:8443
</socket>
<socket admin>
  listen 127.0.0.1:{port}
</socket>
<socket log>
  listen unix-dgram:/run/appd-sockets/{name}-log.sock:mode=666
</socket>
<http web>
  tls-address systemd:name=http
  <tls>
    certificate credential:{name}.pem
  </tls>
  <wsgi>
    application shop:application
  </wsgi>
</http>
<echo admin>
  address systemd:name=admin
</echo>
<echo log>
  address systemd:name=log
</echo>
"""


def test_made_units_of_instances(host: Host) -> None:
    """Each instance has its sockets and its credential, TLS and datagrams among them, beside another's of the same names."""
    root = Authority("Root")
    host.configure(_INSTANCE.format(name="shop", port=8091), "shop")
    blog = _INSTANCE.format(name="blog", port=8092).replace("127.0.0.1:8443", "127.0.0.1:8444")
    host.configure(blog, "blog")
    sockets: list[str] = []
    for name in ("shop", "blog"):
        file, service = f"/etc/appd/{name}.conf", f"appd@{name}.service"
        said = host.run("appd", "units", file, "--output", "/etc/systemd/system").stdout
        assert f"credential {name}.pem: there is no /etc/appd/credentials/{name}.pem" in said
        host.write(f"/etc/appd/credentials/{name}.pem", root.issue("localhost").pem.decode(), 0o600)
        own = [f"appd@{name}.socket", f"appd-admin@{name}.socket", f"appd-log@{name}.socket"]
        verified = host.run("systemd-analyze", "verify", "--man=no", *own, service, check=False)
        assert (verified.returncode, verified.stderr) == (0, "")
        sockets += own
    for name in ("shop", "blog"):
        said = host.run("appd", "check", f"/etc/appd/{name}.conf", "--units", "/etc/systemd/system").stdout
        assert "good, 3 servers" in said
    host.systemctl("daemon-reload")
    host.systemctl("enable", "--now", *sockets)
    for name, port in (("shop", 8443), ("blog", 8444)):
        service = f"appd@{name}.service"
        assert host.get(f"https://localhost:{port}/", "--insecure").status == 200
        assert host.exchange(f"TCP:127.0.0.1:{port - 352}", name) == name
        log = f"/run/appd-sockets/{name}-log.sock"
        assert host.datagram(log, 0, "to the log", f"/run/{name}-client", "0666") == "to the log"
        own = {f"appd@{name}.socket", f"appd-admin@{name}.socket", f"appd-log@{name}.socket"}
        said = host.run("appd", "explain", f"/etc/appd/{name}.conf").stdout
        assert {one for one in said.split() if one.endswith(".socket")} == own
        assert set(host.property(service, "TriggeredBy").split()) == own
        assert own <= set(host.property(service, "Requires").split())


def test_nothing_listens_that_no_server_asks_for(host: Host) -> None:
    """A file without a server for the shipped socket: after `appd units` a start opens no other port, and `check --units`,
    which looks at the units of the package beside those of /etc, has said so before and is content after."""
    host.configure(
        "<socket chat>\n  listen 127.0.0.1:5000\n</socket>\n<echo chat>\n  address systemd:name=chat\n</echo>\n"
    )
    check = ("appd", "check", "/etc/appd/appd.conf", "--units", "/etc/systemd/system")
    said = host.run(*check, check=False)
    assert said.returncode == 78
    assert "appd.socket passes 'http', which no server claims; `appd units` sets it aside" in said.stderr
    said = host.run("appd", "units", "/etc/appd/appd.conf", "--output", "/etc/systemd/system").stdout
    assert "good, 1 server" in host.run(*check).stdout
    # What it says comes next, word for word.
    host.run("sh", "-euc", said.splitlines()[-1].removeprefix("next: "))
    assert host.exchange("TCP:127.0.0.1:5000", "hello\n") == "hello\n"
    for step in ("restart", "start"):
        host.systemctl(step, "appd.service")
        listening = host.run("ss", "-ltnH").stdout
        assert ":5000 " in listening and ":8080 " not in listening
    assert host.state("appd.socket") == "inactive"
    verified = host.run("systemd-analyze", "verify", "--man=no", "appd.service", "appd.socket", check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    # The next socket of that name is the shipped one again.
    host.configure("<echo web>\n  address systemd:name=http\n</echo>\n")
    host.run("rm", "-r", "/etc/systemd/system/appd.socket.d", "/etc/systemd/system/appd.service.d")
    host.run("rm", "/etc/systemd/system/appd-chat.socket", "/etc/systemd/system/sockets.target.wants/appd-chat.socket")
    host.systemctl("daemon-reload")
    host.systemctl("stop", "appd.service")
    host.systemctl("start", "appd.service")
    assert host.exchange("TCP:127.0.0.1:8080", "hello\n") == "hello\n"
