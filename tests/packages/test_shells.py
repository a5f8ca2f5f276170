"""The installed completions in real shells, and the manual pages in a real reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from system.disposable_host import CLIENTS, Host

_SHOP = "<http shop>\n  address systemd:name=web\n  tls-address systemd:name=webs:position=1\n</http>\n"
_BASH = """
. /usr/share/bash-completion/bash_completion
_completion_loader appd
read -ra COMP_WORDS <<<"$1"
[[ $1 != *' ' ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$1 COMP_POINT=${#1}
[[ $(complete -p appd) =~ ' -F '([^ ]+) ]]
"${BASH_REMATCH[1]}" appd 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def host(host_of: Callable[..., Host], deb: Path) -> Host:
    """A host with the package, the shells, two instances with a file, and one that only runs."""
    host = host_of("trixie-shells")
    host.run("dpkg", "--install", str(deb), timeout=300)
    for name in ("blog", "shop"):
        host.write(f"/etc/appd/{name}.conf", _SHOP)
    host.write("/srv/shop/shop.conf", _SHOP)
    host.write("/srv/shop/notes.txt", "")
    host.systemctl("start", "appd@wiki.socket")
    return host


def _offered(host: Host, shell: str, line: str) -> set[str]:
    """What a shell offers at the end of a line, in /srv/shop."""
    commands = {
        "bash": ["bash", "-c", _BASH, "bash", line],
        "fish": ["fish", "--no-config", "-c", "set -p fish_complete_path /usr/share/fish/vendor_completions.d; complete -C $argv[1]", line],
        "zsh": ["zsh", "-f", str(CLIENTS / "complete.zsh"), line],
    }  # fmt: skip
    said = host.run("env", "--chdir=/srv/shop", *commands[shell], timeout=300).stdout
    return {one.split("\t")[0].rstrip("=") for one in said.splitlines() if one.strip()}


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_completions(host: Host, shell: str) -> None:
    """Commands, options, files, server types, levels, and the names of sockets in the file and of units."""
    assert _offered(host, shell, "appd rel") == {"reload"}
    assert {"run", "check", "units", "status"} <= _offered(host, shell, "appd ")
    assert {one.rstrip("/") for one in _offered(host, shell, "appd check ")} == {"shop.conf"}
    assert _offered(host, shell, "appd units --di") == {"--diff"}
    assert _offered(host, shell, "appd run shop.conf --bind ") == {"web", "webs"}
    assert _offered(host, shell, "appd status --instance ") == {"blog", "shop", "wiki"}
    assert _offered(host, shell, "appd log-level wa") == {"warning"}
    assert {"http", "echo", "dns"} <= _offered(host, shell, "appd types ")


def test_manual_pages(host: Host) -> None:
    """`man` finds both, has nothing to complain of, and `man -k` knows what they are."""
    for page, words in (("appd", "systemctl"), ("appd.conf", "tls-address")):
        said = host.run("env", "LC_ALL=C.UTF-8", "MANWIDTH=80", "man", "--warnings", page, timeout=120)
        assert said.stderr == ""
        assert words in said.stdout
    host.run("mandb", "--quiet", timeout=300)
    assert "appd.conf (5)" in host.run("man", "-k", "appd").stdout
