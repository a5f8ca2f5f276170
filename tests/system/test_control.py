"""Who may control a service, and with what."""

from __future__ import annotations

import json

import pytest
from system.disposable_host import Host

_SHOP = """
<http shop>
  address systemd:name=http
  <wsgi>
    application shop:application
  </wsgi>
</http>
"""
_CONTROL = "/run/appd/main/control"
_OPERATOR = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=appd")
_STRANGER = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


@pytest.mark.parametrize("private_users", ["no", "yes"])
def test_operators_are_of_the_group(host: Host, private_users: str) -> None:
    """A member of the service's group may ask and reload, with PrivateUsers=yes too; root may, a stranger may not."""
    host.configure(_SHOP)
    host.drop_in("appd.service", f"[Service]\nPrivateUsers={private_users}\n")
    host.systemctl("start", "appd.service")
    for who in ((), _OPERATOR):
        before = json.loads(host.run(*who, "appd", "status", "--json").stdout)["generation"]
        host.run(*who, "appd", "reload")
        assert json.loads(host.run(*who, "appd", "status", "--json").stdout)["generation"] == before + 1
    # The mode of the socket keeps a stranger out; were it wider, the service would.
    for mode in ("660", "666"):
        host.run("chmod", mode, _CONTROL)
        for command in (("status",), ("reload",), ("log-level", "debug")):
            said = host.run(*_STRANGER, "appd", *command, check=False)
            assert said.returncode == 69 and "permission denied" in said.stderr.lower(), said
    assert json.loads(host.run("appd", "status", "--json").stdout)["generation"] == before + 1


def test_varlinkctl(host: Host) -> None:
    """systemd's own client: the description is valid, the calls answer, a failed reload is the error of its name."""
    if host.version < 257:
        pytest.skip("varlinkctl is of systemd 257")
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    assert "io.appd" in host.run("varlinkctl", "info", _CONTROL).stdout
    described = host.run("varlinkctl", "introspect", _CONTROL, "io.appd").stdout
    for method in ("method Reload()", "method Status()", "method SetLogLevel("):
        assert method in described

    def call(method: str, parameters: str = "{}", check: bool = True) -> tuple[str, str]:
        done = host.run("varlinkctl", "--json=short", "call", _CONTROL, f"io.appd.{method}", parameters, check=check)
        assert check or done.returncode != 0
        return done.stdout, done.stderr

    said = json.loads(call("Status")[0])
    assert said["generation"] == 1 and said["servers"] == ["shop"]
    assert said["pid"] == host.main_pid()
    assert json.loads(call("Reload")[0]) == {"generation": 2}
    assert json.loads(call("Status")[0])["generation"] == 2
    assert json.loads(call("SetLogLevel", '{"level": "debug"}')[0]) == {}
    host.configure("nonsense\n")
    out, err = call("Reload", check=False)
    assert "io.appd.ReloadFailed" in out + err
