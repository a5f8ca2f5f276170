"""Stop and restart: drained, bounded, with one signal, and without a connection lost."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from system.disposable_host import Host, answer, wait_until

_SHOP = """
<http shop>
  address systemd:name=http
  <wsgi>
    application shop:application
  </wsgi>
</http>
"""
_URL = "http://127.0.0.1:8080"


def _begin_slow_request(host: Host, seconds: int) -> subprocess.Popen[str]:
    """Starts a request and returns when the application has it."""
    client = host.start(*host.curl(f"{_URL}/slow?seconds={seconds}"))
    wait_until(host.path("/var/lib/appd/begun").exists)
    return client


def _stop(host: Host) -> float:
    begun = time.monotonic()
    host.systemctl("stop", "appd.service")
    return time.monotonic() - begun


def test_request_in_flight_is_answered_after_one_signal(host: Host) -> None:
    """`systemctl stop` during a slow request: one SIGTERM, one "stopping", the answer in full, then the end."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    child = host.get(f"{_URL}/child?path=/var/lib/appd/signals").body
    client = _begin_slow_request(host, 2)
    took = _stop(host)
    assert answer(client.communicate()[0]) == (200, "after 2 s")
    assert took < 25
    assert host.show("appd.service", "Result", "ExecMainStatus", "ExecMainCode") == {
        "Result": "success",
        "ExecMainStatus": "0",
        "ExecMainCode": "1",
    }
    entries = host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd")
    assert [one["MESSAGE"] for one in entries].count("stopping") == 1
    assert host.path("/var/lib/appd/signals").read_text() == "", "KillMode=mixed signals the main process alone"
    assert host.run("test", "-d", f"/proc/{child}", check=False).returncode != 0, "it is killed at the end"


def test_status_counts_down_while_draining(host: Host) -> None:
    """`systemctl status` says what a stop is waiting for."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    client = _begin_slow_request(host, 6)
    host.systemctl("stop", "--no-block", "appd.service")
    told = wait_until(lambda: (said := host.property("appd.service", "StatusText")).startswith("draining") and said)
    assert told.startswith("draining, serving 1 server, 1 worker, 1 connection")
    assert host.state("appd.service") == "deactivating"
    assert answer(client.communicate()[0]).body == "after 6 s"


def test_drain_timeout_bounds_the_stop(host: Host) -> None:
    """A request that takes longer than drain-timeout is cut, and the stop is still a success."""
    host.configure(f"drain-timeout 1s\n{_SHOP}")
    host.systemctl("start", "appd.service")
    client = _begin_slow_request(host, 60)
    assert 0.9 <= _stop(host) < 20
    assert answer(client.communicate()[0]).status == 0
    assert host.property("appd.service", "Result") == "success"
    assert [
        one["MESSAGE"] for one in host.journal("-u", "appd.service", "PRIORITY=4") if "still open" in one["MESSAGE"]
    ]


def test_drain_longer_than_the_stop_timeout(host: Host) -> None:
    """EXTEND_TIMEOUT_USEC=: a drain may take longer than TimeoutStopSec=."""
    host.configure(_SHOP)
    host.drop_in("appd.service", "[Service]\nTimeoutStopSec=1s\n")
    host.systemctl("start", "appd.service")
    client = _begin_slow_request(host, 6)
    took = _stop(host)
    assert answer(client.communicate()[0]) == (200, "after 6 s")
    assert took > 2
    assert host.property("appd.service", "Result") == "success"


def test_idle_connections_do_not_delay_the_stop(host: Host) -> None:
    """A kept-alive connection without a request, and one that has said nothing, end at once."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    silent = host.start("socat", "-", "TCP:127.0.0.1:8080")
    kept = host.start("socat", "-", "TCP:127.0.0.1:8080")
    assert kept.stdin is not None
    assert kept.stdout is not None
    kept.stdin.write("GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
    kept.stdin.flush()
    assert kept.stdout.readline().startswith("HTTP/1.1 200")
    wait_until(lambda: "2 connections" in host.property("appd.service", "StatusText"))
    assert _stop(host) < 20
    assert silent.wait(30) == 0
    assert kept.wait(30) == 0


def test_clients_wait_while_the_service_drains(host: Host) -> None:
    """Who connects during the drain waits in the queue of the socket and gets the next service."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    first = host.main_pid()
    slow = _begin_slow_request(host, 5)
    host.systemctl("restart", "--no-block", "appd.service")
    wait_until(lambda: host.state("appd.service") == "deactivating")
    assert host.get(f"{_URL}/pid").status == 200
    assert answer(slow.communicate()[0]).body == "after 5 s"
    assert host.main_pid() not in (0, first)


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_restart_under_load_loses_no_connection(host: Host, how: str) -> None:
    """8 clients ask all the time, half of them on connections that they keep: restarts lose nothing, and a crash only what
    the killed process had accepted."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    load = host.start(*host.client("load.py", "8", "127.0.0.1", "8080", "0", "4"))
    time.sleep(0.3)
    for _ in range(3 if how == "restart" else 2):
        if how == "restart":
            host.systemctl("restart", "appd.service")
        else:
            killed = host.main_pid()
            host.run("kill", "-KILL", str(killed))
            wait_until(
                lambda killed=killed: host.main_pid() not in (0, killed) and host.state("appd.service") == "active"
            )
        time.sleep(0.2)
    said = json.loads(load.communicate()[0])
    results = said["results"]
    assert results.pop("ok") > 50
    assert said["kept"]["connections"]["made"] > 4
    if how == "kill":
        # What the killed process had accepted ends with it; nothing else may.
        for cut in ("ConnectionResetError", "empty", "cut"):
            results.pop(cut, None)
    assert results == {}
    assert said["longest"] < 20


def test_stop_and_start_under_load_loses_no_connection(host: Host) -> None:
    """`systemctl stop`, a pause, `systemctl start`: the sockets bring it back or it is started, nobody is refused."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    load = host.start(*host.client("load.py", "8", "127.0.0.1", "8080"))
    time.sleep(0.3)
    for _ in range(2):
        host.systemctl("stop", "appd.service", check=False)
        host.systemctl("start", "appd.service")
        time.sleep(0.2)
    results = json.loads(load.communicate()[0])["results"]
    assert results.pop("ok") > 50
    assert results == {}


def test_stop_before_ready(host: Host) -> None:
    """A stop while the application is being imported ends at once and is no failure."""
    host.configure(_SHOP.replace("shop:application", "late:application"))
    host.systemctl("start", "--no-block", "appd.service")
    wait_until(lambda: host.main_pid() != 0)
    time.sleep(0.3)
    assert host.state("appd.service") == "activating"
    assert _stop(host) < 2.5
    assert host.show("appd.service", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}


def test_hung_reactor_is_killed_and_replaced(host: Host) -> None:
    """An application that blocks the reactor: its worker is killed with its stacks in the journal, and replaced."""
    host.configure("watchdog 3s\n<server>\n  type chat:SleepyFactory\n  address systemd:name=http\n</server>\n")
    host.systemctl("start", "appd.service")
    supervisor = host.main_pid()
    client = host.start("socat", "-", "TCP:127.0.0.1:8080")
    assert client.stdin is not None
    client.stdin.write("good night\n")
    client.stdin.flush()
    [stacks] = wait_until(
        lambda: [one for one in host.journal("-u", "appd.service", "PRIORITY=3") if "its stacks" in one["MESSAGE"]]
    )
    assert "chat.py" in stacks["MESSAGE"] and "dataReceived" in stacks["MESSAGE"]
    fresh = host.start("socat", "-u", "TCP:127.0.0.1:8080", "-")
    assert fresh.stdout is not None
    assert fresh.stdout.readline() == "awake\n"
    assert host.main_pid() == supervisor and host.property("appd.service", "NRestarts") == "0"


def test_worker_alone_that_hangs_is_killed_by_systemd(host: Host) -> None:
    """`appd run --single` under WatchdogSec=: systemd kills it, and the next service answers."""
    host.configure("<server>\n  type chat:SleepyFactory\n  address systemd:name=http\n</server>\n")
    command = "ExecStart=\nExecStart=/usr/bin/appd run --single /etc/appd/appd.conf\n"
    host.drop_in("appd.service", f"[Service]\nWatchdogSec=4s\n{command}")
    host.systemctl("start", "appd.service")
    hung = host.main_pid()
    time.sleep(6)
    assert host.main_pid() == hung, "it says WATCHDOG=1 while it is well"
    client = host.start("socat", "-", "TCP:127.0.0.1:8080")
    assert client.stdin is not None
    client.stdin.write("good night\n")
    client.stdin.flush()
    wait_until(lambda: host.main_pid() not in (0, hung) and host.state("appd.service") == "active")
    assert [one for one in host.journal("-u", "appd.service", "_PID=1") if "watchdog" in one["MESSAGE"].lower()]


def test_reload_gives_a_verdict(host: Host) -> None:
    """`systemctl reload` returns when the new file is served, and fails when it is bad: the old one goes on."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    supervisor, first = host.main_pid(), int(host.get(f"{_URL}/pid").body)
    host.systemctl("reload", "appd.service")
    second = int(host.get(f"{_URL}/pid").body)
    assert host.main_pid() == supervisor and second != first
    host.configure(_SHOP.replace("<wsgi>", "<wsgy>"))
    assert host.systemctl("reload", "appd.service", check=False).returncode != 0
    assert host.state("appd.service") == "active"
    assert int(host.get(f"{_URL}/pid").body) == second
    assert [one for one in host.journal("-u", "appd.service", "PRIORITY=3") if "reload failed" in one["MESSAGE"]]
    host.configure(_SHOP)
    host.systemctl("reload", "appd.service")
    assert int(host.get(f"{_URL}/pid").body) != second


def test_reload_under_load_loses_nothing(host: Host) -> None:
    """Three reloads under new connections of 8 clients: nothing is refused, reset or cut."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    load = host.start(*host.client("load.py", "8", "127.0.0.1", "8080"))
    time.sleep(0.3)
    for _ in range(3):
        host.systemctl("reload", "appd.service")
        time.sleep(0.2)
    results = json.loads(load.communicate()[0])["results"]
    assert results.pop("ok") > 50
    assert results == {}


def test_killed_supervisor(host: Host) -> None:
    """kill -9 of the supervisor: its workers go too, the service comes back by itself, the socket stays."""
    host.configure(f"workers 2\n{_SHOP}")
    host.systemctl("start", "appd.service")
    supervisor = host.main_pid()
    workers = [one["pid"] for one in json.loads(host.run("appd", "status", "--json").stdout)["workers"]]
    listens = host.run("ss", "-ltneH", "sport = :8080").stdout.split("ino:")[1].split()[0]
    host.run("kill", "-KILL", str(supervisor))
    wait_until(lambda: host.main_pid() not in (0, supervisor) and host.state("appd.service") == "active")
    assert host.get(f"{_URL}/").body == "hello"
    assert [one for one in workers if host.path(f"/proc/{one}").exists()] == []
    assert host.run("ss", "-ltneH", "sport = :8080").stdout.split("ino:")[1].split()[0] == listens
    assert host.property("appd.service", "NRestarts") == "1"


def test_status_command(host: Host) -> None:
    """`appd status` on the host finds the control socket of the shipped unit."""
    host.configure(f"workers 2\n{_SHOP}")
    host.systemctl("start", "appd.service")
    said = json.loads(host.run("appd", "status", "--json").stdout)
    assert said["generation"] == 1 and len(said["workers"]) == 2 and said["servers"] == ["shop"]
    assert "serving 1 server, 2 workers" in host.run("appd", "status").stdout
