"""The validated file is kept from one start to the next, in the service's own folder."""

from __future__ import annotations

import pytest
from system.disposable_host import Host, wait_until

_FILE = "%2Fetc%2Fappd%2Fappd.conf.json"
_KEPT = f"/var/cache/appd/{_FILE}"


def _servers(host: Host) -> str:
    return host.run("appd", "status").stdout


@pytest.mark.outgoing
def test_the_next_start_takes_the_kept_file(host: Host) -> None:
    """Seen by what stands in it: a name that the configuration file never had."""
    host.configure("<echo first>\n  address 127.0.0.1:7007\n</echo>\n")
    host.systemctl("start", "appd.service")
    wait_until(host.path(_KEPT).exists)
    about = host.run("stat", "--format=%U %a", _KEPT, "/var/cache/appd").stdout.split("\n")
    assert about[:2] == ["appd 600", "appd 700"]
    kept = host.path(_KEPT)
    kept.write_text(kept.read_text().replace('"first"', '"kept"'))  # in place: the owner stays the same
    host.systemctl("restart", "appd.service")
    assert "kept" in _servers(host)

    # Whoever else could write there chooses nothing.
    host.run("chown", "root", _KEPT)
    host.systemctl("restart", "appd.service")
    assert "first" in _servers(host)

    # And a changed file counts at once.
    host.configure("<echo second>\n  address 127.0.0.1:7007\n</echo>\n")
    host.systemctl("restart", "appd.service")
    assert "second" in _servers(host)
