"""SSH, FTP, mail and HTTP with logins, each on sockets of systemd's, in the sandbox of the shipped unit, with their own clients."""

from __future__ import annotations

from support.authority import Authority
from system.disposable_host import Host

_FILE = """
<auth staff>
  passwords        credential:staff.passwd
  authorized-keys  /etc/appd/keys/%u
</auth>
<ssh shell>
  address  systemd:name=ssh
  auth     staff
  root     /var/lib/appd/files
</ssh>
<ftp files>
  address          systemd:name=ftp
  passive-address  systemd:name=ftp-data
  <tls>
    certificate  credential:web.pem
  </tls>
  auth  staff
  root  /var/lib/appd/files
</ftp>
<smtp mail>
  address  systemd:name=submission
  <tls>
    certificate  credential:web.pem
  </tls>
  auth     staff
  domains  example.org
  maildir  /var/lib/appd/mail/%u
</smtp>
<http web>
  address  systemd:name=http
  <static>
    root  /var/lib/appd/files
    auth  staff
  </static>
</http>
"""
_SOCKETS = {"ssh": "2222", "ftp": "2121", "ftp-data": "2200", "submission": "5870"}
_SERVICE = """
[Service]
LoadCredential=staff.passwd:/root/staff.passwd
LoadCredential=web.pem:/root/web.pem
"""


def test_each_serves_its_own_clients(host: Host) -> None:
    """The first connection starts the service; a key of the host is made; failures are in the journal with the peer."""
    authority = Authority("ca")
    host.write("/root/web.pem", authority.issue("localhost", "ip:127.0.0.1").pem.decode(), 0o600)
    host.write("/root/ca.pem", authority.pem.decode())
    host.run("appd", "passwd", "/root/staff.passwd", "alice", "--bcrypt", input="secret\n")
    host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/key")
    host.run("install", "-D", "-m", "644", "/root/key.pub", "/etc/appd/keys/alice")
    host.run("install", "-d", "-o", "appd", "-g", "appd", "/var/lib/appd/files", "/var/lib/appd/mail/alice")
    host.configure(_FILE)
    for name, port in _SOCKETS.items():
        unit = f"[Socket]\nService=appd.service\nFileDescriptorName={name}\nListenStream=127.0.0.1:{port}\n"
        host.unit(f"appd-{name}.socket", unit)
    host.drop_in("appd.service", _SERVICE)
    host.systemctl("start", "appd.socket", *(f"appd-{name}.socket" for name in _SOCKETS))
    assert host.state("appd.service") == "inactive"

    host.write("/root/batch", "put /root/ca.pem ca\nls -l\nget ca /root/back\n")
    options = ("-F", "none", "-i", "/root/key", "-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes")
    host.run("sftp", *options, "-P", "2222", "-b", "/root/batch", "alice@127.0.0.1")
    assert host.run("cat", "/root/back").stdout == authority.pem.decode()
    assert host.run("stat", "--format=%U %a", "/var/lib/appd/ssh_host_ed25519_key").stdout.split() == ["appd", "600"]

    curl = ("curl", "-sS", "--ssl-reqd", "--cacert", "/root/ca.pem", "--user", "alice:secret")
    host.run(*curl, "-T", "/root/key.pub", "ftp://127.0.0.1:2121/up")
    assert host.run(*curl, "ftp://127.0.0.1:2121/up").stdout == host.run("cat", "/root/key.pub").stdout

    sent = ("--mail-from", "a@example.org", "--mail-rcpt", "alice@example.org", "-T", "-", "smtp://127.0.0.1:5870/x")
    host.run(*curl, *sent, input="Subject: hello\r\n\r\nbody\r\n")
    assert "body" in host.run("sh", "-c", "cat /var/lib/appd/mail/alice/new/*").stdout

    url = "http://127.0.0.1:8080/up"
    assert host.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url).stdout == "401"
    assert host.run("curl", "-s", "-u", "alice:secret", url).stdout == host.run("cat", "/root/key.pub").stdout
    assert host.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-u", "alice:x", url).stdout == "401"
    [entry] = [one for one in host.journal("-u", "appd.service", "PRIORITY=4") if "login failed" in one["MESSAGE"]]
    assert (entry["APPD_SERVER"], entry["APPD_PEER"]) == ("web", "127.0.0.1") and "'alice'" in entry["MESSAGE"]
    assert [one["MESSAGE"] for one in host.journal("-u", "appd.service", "-p", "err")] == []
