"""Sockets of every kind, adopted as they are, and refused where they do not fit."""

from __future__ import annotations

import re

import pytest
from system.disposable_host import Host, wait_until

_ECHO = "<echo>\n  address systemd:name=http\n</echo>\n"
_PATH = "/run/appd-sockets/shop.sock"


def _unix_socket(host: Host) -> tuple[str, str]:
    """All that an operator sees of the UNIX socket: stat of the path, and the queue that ss tells."""
    stat = host.run("stat", "--format=%i %F %a %U %G", _PATH).stdout.strip()
    [line] = [one for one in host.run("ss", "-lxH").stdout.splitlines() if _PATH in one.split()]
    return stat, line.split()[3]


def test_unix_socket_stays_as_it_is(host: Host) -> None:
    """Path, mode, owner and backlog are those of the .socket unit, before, while and after the service runs."""
    host.configure(_ECHO)
    host.drop_in(
        "appd.socket",
        f"[Socket]\nListenStream=\nListenStream={_PATH}\nSocketMode=0620\nSocketUser=daemon\nSocketGroup=appd\nBacklog=77\n",
    )
    host.systemctl("start", "appd.socket")
    made = _unix_socket(host)
    assert re.fullmatch(r"\d+ socket 620 daemon appd", made[0])
    assert made[1] == "77"
    assert host.exchange(f"UNIX-CONNECT:{_PATH}", "one") == "one"
    host.wait_active()
    assert _unix_socket(host) == made
    host.systemctl("stop", "appd.service")
    assert host.state("appd.service") == "inactive"
    assert _unix_socket(host) == made
    assert host.exchange(f"UNIX-CONNECT:{_PATH}", "two") == "two"
    host.wait_active()
    host.systemctl("kill", "--signal=KILL", "appd.service")
    assert host.exchange(f"UNIX-CONNECT:{_PATH}", "three") == "three"
    assert _unix_socket(host) == made


def test_unix_socket_admits_whom_its_mode_admits(host: Host) -> None:
    """Nobody widens SocketMode=: who is not of the group cannot connect while the service runs."""
    host.configure(_ECHO, "shop")
    host.systemctl("start", "appd@shop.socket", "appd@shop.service")
    said = host.run("setpriv", "--reuid=nobody", "--clear-groups", "socat", "-", f"UNIX-CONNECT:{_PATH}", check=False)
    assert "Permission denied" in said.stderr
    said = host.run(
        *("setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=appd"),
        *("socat", "-", f"UNIX-CONNECT:{_PATH}"),
        input="hello",
    )
    assert said.stdout == "hello"


def test_datagram_sockets_start_and_serve(host: Host) -> None:
    """UDP over IPv4 and IPv6 and UNIX datagrams: the first datagram starts the service and is answered."""
    host.configure("<echo datagrams>\n  address systemd:name=datagrams\n</echo>\n")
    host.unit(
        "appd-datagrams.socket",
        "[Socket]\nService=appd.service\nFileDescriptorName=datagrams\n"
        "ListenDatagram=7007\nListenDatagram=/run/appd-sockets/datagrams.sock\n"
        "SocketMode=0666\n[Install]\nWantedBy=sockets.target\n",
    )
    path = "/run/appd-sockets/datagrams.sock"
    host.systemctl("start", "appd-datagrams.socket")
    made = host.run("stat", "--format=%i %a", path).stdout
    assert host.state("appd.service") == "inactive"
    assert host.datagram("127.0.0.1", 7007, "first") == "first"
    host.wait_active()
    assert host.datagram("::1", 7007, "second") == "second"
    assert host.datagram(path, 0, "third", "/run/client.sock") == "third"
    assert host.datagram(path, 0, "nobody can answer this", wait=0.1) == ""
    host.systemctl("stop", "appd.service")
    assert host.run("stat", "--format=%i %a", path).stdout == made
    assert host.datagram("127.0.0.1", 7007, "x" * 60_000) == "x" * 60_000


def test_datagram_peer_that_cannot_be_answered_is_no_error(host: Host) -> None:
    """A client whose own socket appd may not write to, or that has gone, gets no answer; the journal has no error."""
    host.configure("<echo>\n  address systemd:name=http\n</echo>\n")
    path = "/run/appd-sockets/datagrams.sock"
    host.drop_in("appd.socket", f"[Socket]\nListenStream=\nListenDatagram={path}\nSocketMode=0666\n")
    host.systemctl("start", "appd.socket", "appd.service")
    assert host.datagram(path, 0, "one", "/run/forbidden.sock", "600", wait=0.2) == ""
    assert host.datagram(path, 0, "two", "/run/gone.sock", wait=0.001) in ("", "two")
    assert host.datagram(path, 0, "three", "/run/client.sock") == "three"
    assert [one["MESSAGE"] for one in host.journal("-u", "appd.service", "-p", "err")] == []


def test_two_sockets_of_one_name_are_both_served(host: Host) -> None:
    """Two ListenStream= lines of one unit share its FileDescriptorName=."""
    host.configure(_ECHO)
    host.drop_in("appd.socket", f"[Socket]\nListenStream=127.0.0.1:8081\nListenStream={_PATH}\n")
    host.systemctl("start", "appd.service")
    for address in ("TCP:127.0.0.1:8080", "TCP6:[::1]:8080", "TCP:127.0.0.1:8081", f"UNIX-CONNECT:{_PATH}"):
        assert host.exchange(address, "hello") == "hello"


def test_names_go_to_their_servers(host: Host) -> None:
    """Several .socket units of one service; each server gets those that its name means, whatever their order."""
    host.configure(
        """
<server red>
  type chat:GreetingFactory
  address systemd:name=red
  <options>
    words red
  </options>
</server>
<server blue>
  type chat:GreetingFactory
  address systemd:name=blue:position=1
  <options>
    words blue
  </options>
</server>
<echo>
  address systemd:name=blue:position=0
</echo>
"""
    )
    for name, lines in (("red", "ListenStream=7001"), ("blue", "ListenStream=7002\nListenStream=7003")):
        host.unit(f"appd-{name}.socket", f"[Socket]\nService=appd.service\nFileDescriptorName={name}\n{lines}\n")
    host.systemctl("start", "appd-red.socket", "appd-blue.socket")
    assert host.exchange("TCP:127.0.0.1:7003", "") == "blue\n"
    assert host.exchange("TCP:127.0.0.1:7001", "") == "red\n"
    assert host.exchange("TCP:127.0.0.1:7002", "echo") == "echo"


_REFUSED = {
    "a name that nobody passed": (
        "ListenStream=8080\nFileDescriptorName=http",
        "<echo shop>\n  address systemd:name=https\n</echo>\n",
        ["'shop'", "systemd:name=https", "http (stream ", "FileDescriptorName="],
    ),
    "a datagram socket for a stream server": (
        "ListenDatagram=8080\nFileDescriptorName=http",
        "<server shop>\n  type chat:GreetingFactory\n  address systemd:name=http\n</server>\n",
        ["'shop'", "systemd:name=http", "datagram", "ListenStream="],
    ),
    "a datagram socket for HTTP": (
        "ListenDatagram=8080\nFileDescriptorName=http",
        "<http shop>\n  address systemd:name=http\n  <wsgi>\n    application shop:application\n  </wsgi>\n</http>\n",
        ["'shop'", "http", "datagram", "ListenStream="],
    ),
    "a sequential packet socket": (
        "ListenSequentialPacket=/run/appd-sockets/packets\nFileDescriptorName=http",
        "<echo shop>\n  address systemd:name=http\n</echo>\n",
        ["'shop'", "http", "ListenSequentialPacket="],
    ),
    "a position that there is not": (
        "ListenStream=8080\nFileDescriptorName=http",
        "<echo shop>\n  address systemd:name=http:position=1\n</echo>\n",
        ["'shop'", "systemd:name=http:position=1", "only 1", "ListenStream="],
    ),
    "another domain": (
        f"ListenStream={_PATH}\nFileDescriptorName=http",
        "<echo shop>\n  address systemd:domain=INET:index=0\n</echo>\n",
        ["'shop'", "INET", "UNIX", "domain="],
    ),
}


@pytest.mark.parametrize(("unit", "text", "told"), [pytest.param(*one, id=name) for name, one in _REFUSED.items()])
def test_misfit_is_refused_in_one_line(host: Host, unit: str, text: str, told: list[str]) -> None:
    """`systemctl start` fails with 78 and one entry that names server, file and line, and what to look at."""
    host.configure(text)
    host.unit("appd.socket", f"[Socket]\n{unit}\n")
    assert host.systemctl("start", "appd.service", check=False).returncode != 0
    host.wait_property("appd.service", "ExecMainStatus", "78")
    # It is started again and again; each time says the same, once.
    invocation = host.property("appd.service", "InvocationID")
    entries = host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd", f"_SYSTEMD_INVOCATION_ID={invocation}")
    [entry] = entries or host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd")[:1]
    assert entry["PRIORITY"] == "3"
    assert re.match(r"/etc/appd/appd\.conf:[3-5]: ", entry["MESSAGE"])
    assert "\n" not in entry["MESSAGE"]
    assert [one for one in told if one not in entry["MESSAGE"]] == [], entry["MESSAGE"]


_QUOTES = """
from twisted.internet.protocol import DatagramProtocol
from appd.servers import ServerType
server_type = ServerType(None, 17, datagram=lambda db, settings=None: DatagramProtocol(), name="quotes")
"""
_QUOTES_COMPONENT = (
    '<component><sectiontype name="quotes" implements="appd.server" extends="appd.listener"/></component>'
)


def test_datagram_server_refuses_a_stream_socket(host: Host) -> None:
    """The reverse: an installed server type that takes datagrams alone, given a ListenStream=."""
    host.write("/srv/plugin/quotes/__init__.py", _QUOTES)
    host.write("/srv/plugin/quotes/component.xml", _QUOTES_COMPONENT)
    host.write("/srv/plugin/quotes-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: quotes\nVersion: 1\n")
    host.write("/srv/plugin/quotes-1.dist-info/entry_points.txt", "[appd.server_types]\nquotes = quotes:server_type\n")
    host.drop_in("appd.service", "[Service]\nEnvironment=PYTHONPATH=/srv/plugin\n")
    host.configure("<quotes shop>\n  address systemd:name=http\n</quotes>\n")
    assert host.systemctl("start", "appd.service", check=False).returncode != 0
    host.wait_property("appd.service", "ExecMainStatus", "78")
    # It is started again and again; each time says the same, once.
    invocation = host.property("appd.service", "InvocationID")
    entries = host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd", f"_SYSTEMD_INVOCATION_ID={invocation}")
    [entry] = entries or host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd")[:1]
    assert entry["MESSAGE"].startswith("/etc/appd/appd.conf:3: ")
    assert [one for one in ("'shop'", "stream", "ListenDatagram=") if one not in entry["MESSAGE"]] == []


def test_unclaimed_socket_is_a_warning_or_an_error(host: Host) -> None:
    """A socket that no server wants is told of, and refused with `strict-sockets on`."""
    host.unit("appd-spare.socket", "[Socket]\nService=appd.service\nFileDescriptorName=spare\nListenStream=7001\n")
    host.configure(_ECHO)
    host.systemctl("start", "appd-spare.socket", "appd.socket", "appd.service")
    [entry] = host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd", "PRIORITY=4")
    assert "'spare'" in entry["MESSAGE"]
    assert "7001" in entry["MESSAGE"]
    host.configure(f"strict-sockets on\n{_ECHO}")
    assert host.systemctl("restart", "appd.service", check=False).returncode != 0
    host.wait_property("appd.service", "ExecMainStatus", "78")


def test_accepted_connections_have_an_instance_each(host: Host) -> None:
    """Accept=yes: one instance a connection, which serves it and leaves when it ends."""
    host.write("/etc/appd/greeter.conf", "<echo>\n  address systemd:name=connection\n</echo>\n")
    host.unit("appd-greeter.socket", "[Socket]\nListenStream=127.0.0.1:7001\nAccept=yes\n")
    host.unit(
        "appd-greeter@.service",
        "[Unit]\nCollectMode=inactive-or-failed\n[Service]\nType=notify\nUser=appd\n"
        "ExecStart=/usr/bin/appd run /etc/appd/greeter.conf\n",
    )
    host.systemctl("start", "appd-greeter.socket")

    def instances() -> list[str]:
        return host.systemctl("list-units", "--no-legend", "--plain", "--all", "appd-greeter@*").stdout.splitlines()

    clients = [host.start("socat", "-t5", "-", "TCP:127.0.0.1:7001") for _ in range(2)]
    wait_until(lambda: len([one for one in instances() if " running " in one]) == 2)
    assert host.property("appd-greeter.socket", "NConnections") == "2"
    assert clients[0].communicate("one")[0] == "one"
    wait_until(lambda: len(instances()) == 1)
    assert clients[1].communicate("two")[0] == "two"
    wait_until(lambda: instances() == [])
    assert host.state("appd-greeter.socket") == "active"
    assert host.property("appd-greeter.socket", "NAccepted") == "2"
    failures = host.journal("_PID=1", "PRIORITY=4")
    assert [one["MESSAGE"] for one in failures if "appd-greeter" in one["MESSAGE"]] == []


def test_new_socket_needs_the_three_steps(host: Host) -> None:
    """A socket added while the service runs: stop the service, start the socket, start the service, as the line says."""
    host.configure(_ECHO)
    host.systemctl("start", "appd.service")
    host.unit("appd-more.socket", "[Socket]\nService=appd.service\nFileDescriptorName=more\nListenStream=7001\n")
    host.configure(f"{_ECHO}<echo more>\n  address systemd:name=more\n</echo>\n")
    assert host.systemctl("restart", "appd.service", check=False).returncode != 0
    entries = [
        one["MESSAGE"]
        for one in host.journal("-u", "appd.service", "PRIORITY=3")
        if "systemd:name=more" in one["MESSAGE"]
    ]
    assert entries
    assert "stop the service, start the socket, start the service" in entries[0]
    host.systemctl("stop", "appd.service")
    host.systemctl("start", "appd-more.socket")
    host.systemctl("start", "appd.service")
    assert host.exchange("TCP:127.0.0.1:7001", "more") == "more"


@pytest.mark.outgoing
def test_address_in_use_is_told(host: Host) -> None:
    """An address that appd binds itself and somebody has: 69, with the line of the file."""
    host.configure(f"{_ECHO}<echo taken>\n  address 127.0.0.1:7001\n</echo>\n")
    host.unit("other.socket", "[Socket]\nListenStream=127.0.0.1:7001\nService=appd@other.service\n")
    host.systemctl("start", "other.socket")
    assert host.systemctl("start", "appd.service", check=False).returncode != 0
    host.wait_property("appd.service", "ExecMainStatus", "69")
    host.wait_property("appd.service", "StatusErrno", "98")
    entries = [one["MESSAGE"] for one in host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd", "PRIORITY=3")]
    assert entries
    assert "127.0.0.1:7001" in entries[0]
    assert "in use" in entries[0]
