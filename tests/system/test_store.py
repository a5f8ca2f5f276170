"""The sockets that appd binds itself, in systemd's store."""

from __future__ import annotations

import json
import time

import pytest
from system.disposable_host import Host, answer, wait_until

_SHOP = """
<http shop>
  address 127.0.0.1:8099
  <wsgi>
    application shop:application
  </wsgi>
</http>
"""
_URL = "http://127.0.0.1:8099"


def _listener(host: Host) -> str:
    """The inode of the socket; "" when there is none."""
    said = host.run("ss", "-ltneH", "sport = :8099").stdout
    return said.partition("ino:")[2].partition(" ")[0]


@pytest.mark.outgoing
def test_bound_sockets_survive_a_restart(host: Host) -> None:
    """A port that no .socket unit has: systemd's store keeps it over `systemctl restart`, and nobody is refused."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    made = _listener(host)
    load = host.start(*host.client("load.py", "8", "127.0.0.1", "8099"))
    time.sleep(0.3)
    for _ in range(2):
        host.systemctl("restart", "appd.service")
        time.sleep(0.2)
    results = json.loads(load.communicate()[0])["results"]
    assert results.pop("ok") > 50
    assert results == {}
    assert made and _listener(host) == made


@pytest.mark.outgoing
def test_bound_sockets_survive_a_crash(host: Host) -> None:
    """kill -9 of the supervisor: the store has the socket, and who connects meanwhile is answered."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    made, killed = _listener(host), host.main_pid()
    host.run("kill", "-KILL", str(killed))
    assert host.get(f"{_URL}/").body == "hello"
    assert host.main_pid() != killed
    assert _listener(host) == made


@pytest.mark.outgoing
def test_stop_lets_bound_sockets_go(host: Host) -> None:
    """`systemctl stop` empties the store: the port is free, and the next start binds it."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    host.systemctl("stop", "appd.service")
    assert _listener(host) == ""
    host.systemctl("start", "appd.service")
    assert host.get(f"{_URL}/").body == "hello"


@pytest.mark.outgoing
def test_preserved_store_survives_a_stop(host: Host) -> None:
    """FileDescriptorStorePreserve=yes: stop, then start; who connects in between waits and is answered."""
    if host.version < 254:
        pytest.skip("this systemd has no FileDescriptorStorePreserve=")
    host.configure(_SHOP)
    host.drop_in("appd.service", "[Service]\nFileDescriptorStorePreserve=yes\n")
    host.systemctl("start", "appd.service")
    made = _listener(host)
    host.systemctl("stop", "appd.service")
    assert host.state("appd.service") == "inactive"
    assert made and _listener(host) == made
    client = host.start(*host.curl(f"{_URL}/"))
    host.systemctl("start", "appd.service")
    assert answer(client.communicate()[0]) == (200, "hello")
    assert _listener(host) == made


@pytest.mark.outgoing
def test_a_store_that_is_too_small(host: Host) -> None:
    """One line says which sockets a restart does not keep; the others are kept, and one that finds room later is, too."""
    shops = [_SHOP.replace("shop>", f"shop{number}>", 1).replace("8099", f"809{number}") for number in range(4)]
    host.drop_in("appd.service", "[Service]\nFileDescriptorStoreMax=2\n")
    host.configure("".join(shops[:3]))

    def listeners() -> dict[str, str]:
        rows = host.run("ss", "-ltneH", "sport >= :8090 and sport <= :8099").stdout.splitlines()
        return {row.split()[3]: row.partition("ino:")[2].partition(" ")[0] for row in rows}

    def said() -> list[str]:
        return [one["MESSAGE"] for one in host.journal("-u", "appd.service") if "over a restart" in one["MESSAGE"]]

    host.systemctl("start", "appd.service")
    wait_until(said)
    assert said() == [
        "of the sockets that appd has bound systemd keeps 2 of 3 over a restart (FileDescriptorStoreMax=2; 3 would do): "
        "who connects during one is refused at 127.0.0.1:8092"
    ]
    made = listeners()
    host.systemctl("restart", "appd.service")
    again = listeners()
    assert [again[one] == made[one] for one in sorted(made)] == [True, True, False]
    wait_until(lambda: len(said()) == 2)
    # A reload has the sockets of before and after for a moment, of which the store keeps two.
    host.configure(shops[0] + shops[3])
    host.systemctl("reload", "appd.service")
    wait_until(lambda: host.property("appd.service", "NFileDescriptorStore") == "2")
    kept = ["127.0.0.1:8090", "127.0.0.1:8093"]
    made = {one: listeners()[one] for one in kept}
    host.systemctl("restart", "appd.service")
    assert listeners() == made
    assert len(said()) == 2
