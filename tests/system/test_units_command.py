"""The units that `appd units` makes, on a booted systemd."""

from __future__ import annotations

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
