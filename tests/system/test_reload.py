"""A reload as systemd sees it: its kinds of service, its time-outs, and what is left when nothing can serve any more."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from system.disposable_host import Host, wait_until

_SHOP = """
<http shop>
  address systemd:name=http
  <wsgi>
    application shop:application
  </wsgi>
</http>
"""
_URL = "http://127.0.0.1:8080"
# What any systemd understands: the second line is for 253 and later, others say a warning and keep the first.
_NOTIFY_RELOAD = "[Service]\nType=notify\nType=notify-reload\n"


def _status(host: Host) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(host.run("appd", "status", "--json").stdout)
    return said


def _pid(host: Host) -> int:
    return int(host.get(f"{_URL}/pid").body)


def _errors(host: Host) -> list[str]:
    return [one["MESSAGE"] for one in host.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd", "-p", "err")]


def test_type_notify_reload(host: Host) -> None:
    """`systemctl reload` sends SIGHUP and returns when the new generation serves; an older systemd runs ExecReload=."""
    host.configure(_SHOP.replace("shop:application", "late:application"))
    understood = host.version >= 253
    host.drop_in("appd.service", _NOTIFY_RELOAD + ("ExecReload=\n" if understood else ""))
    host.systemctl("start", "appd.service")
    assert host.property("appd.service", "Type") == ("notify-reload" if understood else "notify")
    supervisor, first = host.main_pid(), _pid(host)
    begun = time.monotonic()
    host.systemctl("reload", "appd.service")
    assert time.monotonic() - begun >= 3
    second = _pid(host)
    assert second != first and host.main_pid() == supervisor
    said = _status(host)
    assert said["generation"] == 2 and said["reload"]["exit"] == 0
    assert _errors(host) == []


def test_type_notify_reload_with_a_bad_file(host: Host) -> None:
    """SIGHUP has no verdict: the generation before serves, and the journal and `appd status` say why."""
    if host.version < 253:
        pytest.skip("this systemd has no Type=notify-reload")
    host.configure(_SHOP)
    host.drop_in("appd.service", f"{_NOTIFY_RELOAD}ExecReload=\n")
    host.systemctl("start", "appd.service")
    first = _pid(host)
    host.configure(_SHOP.replace("<wsgi>", "<wsgy>"))
    assert host.systemctl("reload", "appd.service", check=False).returncode == 0
    assert host.state("appd.service") == "active"
    assert _pid(host) == first
    assert _status(host)["reload"]["exit"] == 78
    assert [one for one in _errors(host) if "reload failed" in one]


def test_type_notify_reload_beside_exec_reload(host: Host) -> None:
    """Both at once ask for two reloads; the second takes the place of the first, and one new generation serves."""
    host.configure(_SHOP)
    host.drop_in("appd.service", _NOTIFY_RELOAD)
    host.systemctl("start", "appd.service")
    first = _pid(host)
    host.systemctl("reload", "appd.service")
    assert _pid(host) != first
    assert host.state("appd.service") == "active"
    assert _status(host)["reload"]["exit"] == 0
    assert _status(host)["generation"] == (3 if host.version >= 253 else 2)


_VERY_LATE = "import time\ntime.sleep(7)\nfrom shop import application\n"


@pytest.mark.parametrize("kind", ["exec-reload", "notify-reload"])
def test_start_and_reload_longer_than_their_timeout(host: Host, kind: str) -> None:
    """EXTEND_TIMEOUT_USEC=: an application that needs longer than TimeoutStartSec= to be imported starts and reloads."""
    if kind == "notify-reload" and host.version < 253:
        pytest.skip("this systemd has no Type=notify-reload")
    host.write("/srv/late/very_late.py", _VERY_LATE)
    host.configure(f"python-path /srv/late\n{_SHOP.replace('shop:application', 'very_late:application')}")
    lines = "TimeoutStartSec=3s\n"
    host.drop_in(
        "appd.service",
        f"[Service]\n{lines}" if kind == "exec-reload" else f"{_NOTIFY_RELOAD}ExecReload=\n{lines}",
    )
    begun = time.monotonic()
    host.systemctl("start", "appd.service")
    assert time.monotonic() - begun >= 7
    supervisor, first = host.main_pid(), _pid(host)
    begun = time.monotonic()
    host.systemctl("reload", "appd.service")
    assert time.monotonic() - begun >= 7
    assert host.main_pid() == supervisor and _pid(host) != first
    assert host.show("appd.service", "ActiveState", "NRestarts", "Result") == {
        "ActiveState": "active",
        "NRestarts": "0",
        "Result": "success",
    }


def test_nothing_can_serve_any_more(host: Host) -> None:
    """Every worker dies and the application is broken by now: the service ends with 78, and STATUS= says why."""
    host.write("/srv/own/own.py", "from shop import application\n")
    host.configure(f"workers 2\npython-path /srv/own\n{_SHOP.replace('shop:application', 'own:application')}")
    host.drop_in("appd.service", "[Service]\nRestart=no\n")
    host.systemctl("start", "appd.service")
    assert host.get(f"{_URL}/").body == "hello"
    host.write("/srv/own/own.py", "import no_such_module\n")
    host.run("kill", "-KILL", *(str(one["pid"]) for one in _status(host)["workers"]))
    wait_until(lambda: host.state("appd.service") == "failed")
    shown = host.show("appd.service", "Result", "ExecMainStatus", "StatusText")
    assert shown["Result"] == "exit-code" and shown["ExecMainStatus"] == "78"
    assert shown["StatusText"].startswith("cannot start: /etc/appd/appd.conf:")
    assert "own:application cannot be imported" in shown["StatusText"]
    assert host.state("appd.socket") == "active"
    host.write("/srv/own/own.py", "from shop import application\n")
    assert host.get(f"{_URL}/").body == "hello"
