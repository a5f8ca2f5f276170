"""`idle-exit` under systemd: the service goes when nobody uses it, and the socket wakes it."""

from __future__ import annotations

import random
import time

from system.disposable_host import Host, wait_until

_SHOP = """
idle-exit 5s
workers 2
<http shop>
  address systemd:name=http
  <wsgi>
    application shop:application
  </wsgi>
</http>
"""
_URL = "http://127.0.0.1:8080"


def test_idle_exit_and_wake(host: Host) -> None:
    """It ends as a success and is not restarted; five who come about when it ends are answered, each with 200."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    first = host.property("appd.service", "MainPID")
    wait_until(lambda: host.state("appd.service") == "inactive", 60)
    assert host.show("appd.service", "Result", "ExecMainStatus", "NRestarts") == {
        "Result": "success",
        "ExecMainStatus": "0",
        "NRestarts": "0",
    }
    assert host.get(f"{_URL}/").status == 200
    assert host.property("appd.service", "MainPID") not in (first, "0")
    chance = random.Random(1)
    for _ in range(5):
        time.sleep(chance.uniform(5.0, 7.5))
        assert host.get(f"{_URL}/").status == 200
    wait_until(lambda: host.state("appd.service") == "inactive", 60)
    assert host.property("appd.service", "Result") == "success"
    said = [one["MESSAGE"] for one in host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd")]
    assert said.count("nothing to do: the service ends until somebody connects") >= 2
