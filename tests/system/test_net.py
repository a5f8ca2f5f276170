"""dns, syslog and portforward on a host: socket-activated, restarted and reloaded under real clients."""

from __future__ import annotations

import pytest
from system.disposable_host import Host, wait_until

_ZONE = "$TTL 60\n@ IN SOA ns hostmaster {} 60 60 60 60\n IN NS ns\nns IN A 192.0.2.53\n"


def _socket(host: Host, name: str, lines: str) -> None:
    host.unit(
        f"appd-{name}.socket",
        f"[Socket]\nService=appd.service\nFileDescriptorName={name}\n{lines}[Install]\nWantedBy=sockets.target\n",
    )
    host.systemctl("start", f"appd-{name}.socket")


def _dig(host: Host, *arguments: str) -> str:
    return host.run("dig", "@127.0.0.1", "-p", "5300", "+short", "+time=20", "+tries=1", *arguments).stdout.strip()


def test_dns_wakes_answers_and_reads_its_zone_anew(host: Host) -> None:
    """The first query starts the service; a reload serves the new serial, and while it goes on nobody is without answer."""
    host.write("/etc/appd/example.org.zone", _ZONE.format(1))
    host.configure("<dns d>\n address systemd:name=dns\n zone example.org example.org.zone\n</dns>\n")
    _socket(host, "dns", "ListenDatagram=127.0.0.1:5300\nListenStream=127.0.0.1:5300\n")
    assert host.state("appd.service") == "inactive"
    assert _dig(host, "ns.example.org") == "192.0.2.53"
    host.wait_active()
    assert _dig(host, "+tcp", "example.org", "SOA").split()[2] == "1"
    host.write("/etc/appd/example.org.zone", _ZONE.format(2))
    host.systemctl("reload", "appd.service")
    wait_until(lambda: _dig(host, "example.org", "SOA").split()[2] == "2")
    host.systemctl("restart", "appd.service")
    assert _dig(host, "example.org", "SOA").split()[2] == "2"
    assert host.journal("-u", "appd.service", "-p", "err") == []


def test_syslog_takes_what_logger_says_into_the_journal(host: Host) -> None:
    """By UDP, TCP and a path; with the fields of journald, under the unit of appd, also over a restart."""
    host.configure("<syslog s>\n address systemd:name=log\n</syslog>\n")
    path = "/run/appd-sockets/log.sock"
    _socket(
        host,
        "log",
        f"ListenDatagram=127.0.0.1:5140\nListenStream=127.0.0.1:5140\nListenDatagram={path}\nSocketMode=0666\n",
    )
    to = ("--server", "127.0.0.1", "--port", "5140")
    host.run("logger", *to, "--udp", "-t", "one", "-p", "local0.err", "--id=77", "by udp")
    host.run("logger", *to, "--tcp", "--octet-count", "-t", "two", "by tcp")
    host.run("logger", "--socket", path, "-t", "three", "by path")
    host.systemctl("restart", "appd.service")
    host.run("logger", *to, "--tcp", "-t", "four", "after")

    def said(identifier: str) -> list[dict[str, object]]:
        return host.journal(f"SYSLOG_IDENTIFIER={identifier}", "APPD_SERVER=s")

    for identifier, text in (("one", "by udp"), ("two", "by tcp"), ("three", "by path"), ("four", "after")):
        wait_until(lambda identifier=identifier: said(identifier))
        [entry] = said(identifier)
        assert entry["MESSAGE"] == text and entry["_SYSTEMD_UNIT"] == "appd.service"
    [entry] = said("one")
    assert (entry["PRIORITY"], entry["SYSLOG_FACILITY"], entry["SYSLOG_PID"]) == ("3", "16", "77")


@pytest.mark.outgoing
def test_portforward_carries_a_long_transfer_over_reload_and_restart(host: Host) -> None:
    """What has begun goes on in the old generation; a restart waits for it, and who comes meanwhile waits in the queue."""
    host.configure("<portforward p>\n address systemd:name=fwd\n to 127.0.0.1:7001\n</portforward>\n")
    _socket(host, "fwd", "ListenStream=127.0.0.1:7000\n")
    host.start("socat", "TCP-LISTEN:7001,fork,reuseaddr,bind=127.0.0.1", "EXEC:/bin/cat")
    wait_until(lambda: host.run("socat", "-u", "OPEN:/dev/null", "TCP:127.0.0.1:7001", check=False).returncode == 0)
    assert host.exchange("TCP:127.0.0.1:7000", "hello") == "hello"
    slow = "for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.5; done | socat -t30 - TCP:127.0.0.1:7000"
    running = host.start("sh", "-c", slow)
    host.systemctl("reload", "appd.service")
    assert host.exchange("TCP:127.0.0.1:7000", "new") == "new"
    host.systemctl("restart", "appd.service")
    assert running.communicate(timeout=90)[0].split() == [str(one) for one in range(1, 9)]
    assert host.exchange("TCP:127.0.0.1:7000", "after") == "after"
