"""The Debian package: installed as the README says, operated, upgraded under load, removed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packages.conftest import explained, made_in, readme
from system.disposable_host import Host, wait_until

from appd.messages import SUPERVISOR_RENEWED

_CHECKOUT = Path(__file__).parents[2]
_SHOP = """
<http shop>
  address systemd:name=http
  <static>
    root /srv/shop
  </static>
</http>
"""


def _install(host: Host, package: Path) -> None:
    # Nobody is there to be asked: what was edited stays, where versions ship different files.
    host.run("dpkg", "--force-confold", "--install", str(package), timeout=300)


def test_the_readme_installs_and_it_answers(bare_host: Host, deb: Path) -> None:
    """Word for word; nothing listens before it is enabled, and nothing runs before somebody connects."""
    host = bare_host
    install, *rest = readme("Debian").splitlines()
    assert "dist/appd_" in install
    host.run("sh", "-euc", f"cd {deb.parent.parent}; {install}", timeout=300)
    assert host.systemctl("is-enabled", "appd.socket", "appd.service", check=False).stdout.split() == ["disabled"] * 2
    assert "8080" not in host.run("ss", "-ltnH").stdout
    said = host.run("sh", "-euc", "\n".join(rest)).stdout
    assert "appd" in said and "</html>" in said
    # The first request is answered before all is ready.
    wait_until(lambda: host.state("appd.service") == "active", timeout=90)
    assert host.run("stat", "--format=%U %a", "/var/lib/appd").stdout == "appd 750\n"
    # What the package says in the journal is explained in it.
    host.run("journalctl", "--sync")
    explained = host.run("journalctl", "-x", "--no-pager", "-u", "appd").stdout
    assert "Every address of every server listens" in explained
    for path in ("man/man8/appd.8.gz", "man/man5/appd.conf.5.gz", "bash-completion/completions/appd"):
        assert host.path(f"/usr/share/{path}").exists()
    # All that appd reports of itself is of its package: the user who runs it sees no other copy.
    assert host.run("appd", "version").stdout.strip() == f"appd {deb.name.split('_')[1]}"
    said = host.run("appd", "check", "/etc/appd/appd.conf", "--units", "/usr/lib/systemd/system").stdout
    assert "good, 1 server" in said
    # Those of twistd that are cached for everybody have appd's plugin among them.
    assert " appd " in host.run("twistd3", "--help").stdout


def test_root_is_told_how_the_service_sees_the_file(installed: Host) -> None:
    """A folder that only root may read is no mistake for root; the command that `check` names finds it."""
    host = installed
    host.run("install", "-d", "-m", "700", "/srv/closed")
    file = "/etc/appd/closed.conf"
    host.write(file, f"python-path /srv/closed\n{(_CHECKOUT / 'etc/appd.conf').read_text()}")
    said = host.run("appd", "check", file).stdout
    assert "good, 1 server" in said
    [command] = re.findall("`(.+)`", said)
    done = host.run("sh", "-c", command, check=False)
    assert done.returncode == 78 and f"{file}:1: python-path /srv/closed: " in done.stderr


def test_every_message_is_explained(installed: Host) -> None:
    """By the catalogue that dpkg has had systemd read."""
    explained(installed)


def test_operated(installed: Host) -> None:
    """Reload, a reload that fails, the operators' commands, logs by server, a second and a third instance."""
    host = installed
    host.write("/srv/shop/index.html", "first")
    host.write("/etc/appd/appd.conf", _SHOP)
    host.systemctl("enable", "--now", "appd.socket")
    assert host.get("http://localhost:8080/").body == "first"
    wait_until(lambda: host.state("appd.service") == "active", timeout=90)
    pid = host.main_pid()
    host.write("/etc/appd/appd.conf", _SHOP.replace("/srv/shop", "/srv/second"))
    said = host.systemctl("reload", "appd", check=False)
    assert said.returncode != 0
    assert host.get("http://localhost:8080/").body == "first"
    host.run("journalctl", "--sync")
    assert "the generation of workers before\n" in host.run("journalctl", "-x", "--no-pager", "-u", "appd").stdout
    host.write("/srv/second/index.html", "second")
    host.systemctl("reload", "appd")
    assert host.get("http://localhost:8080/").body == "second"
    assert host.main_pid() == pid
    assert "generation" in host.run("appd", "status").stdout
    host.run("appd", "log-level", "debug")

    for name in ("a", "b"):
        host.write(f"/srv/{name}/index.html", f"this is {name}")
        host.write(f"/etc/appd/{name}.conf", _SHOP.replace("/srv/shop", f"/srv/{name}"))
    host.systemctl("enable", "--now", "appd@a.socket", "appd@b.socket")

    def ask(name: str) -> str:
        return host.get("http://localhost/", "--unix-socket", f"/run/appd-sockets/{name}.sock").body

    assert (ask("a"), ask("b")) == ("this is a", "this is b")
    wait_until(lambda: host.state("appd@a.service") == "active", timeout=90)
    wait_until(lambda: host.state("appd@b.service") == "active", timeout=90)
    other = host.main_pid("appd@b.service")
    host.systemctl("kill", "--signal=KILL", "appd@a.service")
    assert ask("a") == "this is a"
    host.systemctl("stop", "appd@a.socket", "appd@a.service")
    assert (ask("b"), host.main_pid("appd@b.service"), host.main_pid()) == ("this is b", other, pid)
    assert host.property("appd@b.service", "NRestarts") == "0"
    assert "generation" in host.run("appd", "status", "--instance", "b").stdout


def _version_of(package: Path) -> str:
    return package.name.split("_")[1]


def _start_load(host: Host, count: int) -> subprocess.Popen[str]:
    """Eight clients, four of which keep their connections, until they are judged and so many requests are made."""
    return host.start(*host.client("load.py", "8", "127.0.0.1", "8080", str(count), "4"))


def _judge(load: subprocess.Popen[str], count: int, what: str) -> None:
    """No request failed, of those who keep their connections and of the others."""
    said = json.loads(load.communicate()[0])
    kept, new = said["kept"], said["new"]
    print(
        f"{what}: {new['results']} on connections of their own, {kept['results']} on kept ones {kept['connections']}, "
        f"the longest took {said['longest']:.2f} s"
    )
    assert set(said["results"]) == {"ok"}
    assert said["results"]["ok"] >= count
    assert min(kept["results"]["ok"], new["results"]["ok"]) > count / 10
    # They were kept, and closed by each service that left.
    assert 4 < kept["connections"]["made"] < kept["results"]["ok"] / 10


def test_upgrades_lose_nothing(bare_host: Host, deb: Path, earlier_deb: Path) -> None:
    """From an earlier version and back to it, under load: no request fails, the sockets are untouched, service and instances
    run what is installed and have made their cache anew."""
    host = bare_host
    _install(host, earlier_deb)
    host.write("/srv/shop/index.html", "x" * 100)
    host.write("/etc/appd/appd.conf", _SHOP)
    host.write("/etc/appd/other.conf", _SHOP)
    host.systemctl("enable", "--now", "appd.socket", "appd@other.socket")
    assert host.get("http://localhost/", "--unix-socket", "/run/appd-sockets/other.sock").status == 200
    count = int(os.environ.get("APPD_TEST_REQUESTS", "5000"))
    load = _start_load(host, count)
    wait_until(lambda: host.state("appd.service") == "active", timeout=90)
    wait_until(lambda: host.state("appd@other.service") == "active", timeout=90)

    def facts() -> tuple[str, ...]:
        sockets = [host.property(f"{one}.socket", "ActiveEnterTimestampMonotonic") for one in ("appd", "appd@other")]
        inode = host.run("stat", "--format=%i", "/run/appd-sockets/other.sock").stdout
        return (*sockets, inode)

    cache = host.path("/var/cache/appd/%2Fetc%2Fappd%2Fappd.conf.json")

    def cached_by() -> str:
        return str(json.loads(cache.read_text())["surroundings"][1]) if cache.exists() else ""

    before = facts()
    for package in (deb, earlier_deb) * 2:
        pids = host.main_pid(), host.main_pid("appd@other.service")
        _install(host, package)
        assert host.run("appd", "version").stdout.strip() == f"appd {_version_of(package)}"
        for one in ("appd", "appd@other"):
            wait_until(lambda one=one: host.state(f"{one}.service") == "active", timeout=90)
        after = host.main_pid(), host.main_pid("appd@other.service")
        assert 0 not in after
        assert not set(pids) & set(after)
        # What the other version has kept there is not taken.
        wait_until(lambda package=package: cached_by() == _version_of(package), timeout=90)
    assert facts() == before
    _judge(load, count, "two upgrades and two downgrades")
    # What an administrator has changed stays.
    assert host.path("/etc/appd/appd.conf").read_text() == _SHOP


def test_upgrades_by_reload(bare_host: Host, deb: Path, earlier_deb: Path) -> None:
    """Unpacked and reloaded in place of restarted, and back, under load: the same process goes on as the other version."""
    host = bare_host
    _install(host, earlier_deb)
    host.write("/srv/shop/index.html", "x" * 100)
    host.write("/etc/appd/appd.conf", _SHOP)
    host.systemctl("enable", "--now", "appd.socket")
    count = int(os.environ.get("APPD_TEST_REQUESTS", "5000")) // 5
    load = _start_load(host, count)
    wait_until(lambda: host.state("appd.service") == "active", timeout=90)
    pid = host.main_pid()
    for number, package in enumerate((deb, earlier_deb)):
        host.run("dpkg", "--unpack", str(package))
        host.systemctl("reload", "appd")
        assert host.main_pid() == pid

        def renewed() -> list[str]:
            return [one["MESSAGE"] for one in host.journal("-u", "appd", f"MESSAGE_ID={SUPERVISOR_RENEWED}")]

        wait_until(lambda number=number, renewed=renewed: len(renewed()) > number, timeout=90)
        said = renewed()[-1]
        assert f"goes on as appd {_version_of(package)}" in said
        # Until it has gone on it takes no other reload.
        wait_until(
            lambda package=package: f"appd {_version_of(package)}," in host.run("appd", "status").stdout, timeout=30
        )
    _judge(load, count, "a reload into the next version and one back")
    assert host.main_pid() == pid


# What may be there afterwards: Debian keeps system users, and these belong to dpkg, systemd and the test.
_STAYS = re.compile(
    r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|/etc/\.pwd\.lock$|/var/(log|lib/dpkg|lib/apt|cache/(apt|debconf|ldconfig))(/|$)"
    r"|/var/lib/systemd/(catalog|deb-systemd-helper-\w+)(/database)?$|/run/systemd/|/etc/systemd/system$"
    r"|.*/(dropin\.cache|__pycache__(/.*)?)$|/var/lib/systemd/(timers|random-seed|linger).*"
)


def _tree(host: Host) -> set[str]:
    """Every file and folder that a package could have left."""
    found = host.run("find", "/etc", "/usr", "/var", "/run", "-xdev", "-not", "-path", "/run/systemd/*").stdout
    return {one for one in found.splitlines() if not _STAYS.match(one)}


def test_nothing_is_left(bare_host: Host, deb: Path) -> None:
    """`remove` stops everything and keeps configuration and state; `purge` leaves what was there before, and the user."""
    host = bare_host
    before = _tree(host)
    _install(host, deb)
    host.write("/etc/appd/other.conf", (_CHECKOUT / "etc/appd.conf").read_text())
    chat = "<socket chat>\n  listen 5000\n</socket>\n<echo chat>\n  address systemd:name=chat\n</echo>\n"
    host.write("/etc/appd/chat.conf", chat)
    host.run("appd", "units", "/etc/appd/chat.conf", "--output", "/etc/systemd/system")
    host.systemctl("daemon-reload")
    host.systemctl("enable", "--now", "appd-chat@chat.socket")
    assert host.exchange("TCP:127.0.0.1:5000", "hello\n") == "hello\n"
    # One that has no socket of systemd's at all.
    host.write("/etc/appd/own.conf", "<echo own>\n  address 127.0.0.1:5001\n</echo>\n")
    host.run("appd", "units", "/etc/appd/own.conf", "--output", "/etc/systemd/system")
    host.systemctl("daemon-reload")
    host.systemctl("enable", "--now", "appd@own.service")
    assert host.state("appd@own.socket") == "inactive"
    assert host.exchange("TCP:127.0.0.1:5001", "hello\n") == "hello\n"
    # A drop-in of the administrator's own stays.
    theirs = "/etc/systemd/system/appd@other.service.d/theirs.conf"
    host.write(theirs, "[Service]\nNice=1\n")
    before |= {theirs, theirs.rpartition("/")[0]}
    host.systemctl("enable", "--now", "appd.socket", "appd@other.socket", "appd.service")
    assert host.get("http://localhost:8080/").status == 200
    assert host.get("http://localhost/", "--unix-socket", "/run/appd-sockets/other.sock").status == 200
    assert "appd" in host.run("cat", "/etc/passwd").stdout
    host.run("dpkg", "--remove", "appd")
    for unit in ("appd.socket", "appd.service", "appd@other.socket", "appd@other.service", "appd@own.service"):
        assert host.state(unit) in ("inactive", "failed"), unit
    assert "8080" not in host.run("ss", "-ltnH").stdout
    assert host.path("/etc/appd/appd.conf").exists() and host.path("/var/lib/appd").exists()
    host.run("dpkg", "--purge", "appd")
    assert _tree(host) - before == set()
    assert before - _tree(host) == set()


def test_installed_again_after_a_removal(installed: Host, deb: Path) -> None:
    """It is enabled as it was, and serves what it served."""
    host = installed
    host.systemctl("enable", "--now", "appd.socket")
    host.run("dpkg", "--remove", "appd")
    _install(host, deb)
    assert host.systemctl("is-enabled", "appd.socket").stdout.strip() == "enabled"
    assert host.get("http://localhost:8080/").status == 200


def test_django_in_its_own_virtual_environment(installed: Host) -> None:
    """`virtualenv` and `python-path` are all that it takes; Django is in no path of the package."""
    host = installed
    django = made_in(
        "trixie",
        "django",
        'python3 -m venv "$0"; "$0/bin/pip" install --quiet --disable-pip-version-check "Django>=4.2"',
    )
    host.run("cp", "-a", str(django), "/srv/venv")
    for path in sorted((_CHECKOUT / "tests/applications/shop").rglob("*.py")):
        host.write(f"/srv/shop/{path.relative_to(_CHECKOUT / 'tests/applications/shop')}", path.read_text())
    host.write(
        "/etc/appd/appd.conf",
        "virtualenv /srv/venv\npython-path /srv/shop\n<environment>\n  SHOP_DATA /var/lib/appd\n</environment>\n<http shop>\n  address systemd:name=http\n"
        "  <wsgi>\n    application shop.wsgi:application\n  </wsgi>\n</http>\n",
    )
    assert host.run("/usr/bin/python3", "-c", "import django", check=False).returncode != 0
    host.systemctl("start", "appd.socket")
    assert json.loads(host.get("http://localhost:8080/where/a%20b?q=1").body)["name"] == "a b"


@pytest.mark.parametrize("driver", ["lane", "loop"])
def test_the_corpora(installed: Host, driver: str) -> None:
    """Every request of tests/corpora is answered by the installed package as by the sources."""
    from process.test_http_corpora import APPLICATIONS, configuration

    host = installed
    host.write("/srv/corpora/quiet.py", (APPLICATIONS / "quiet.py").read_text())
    host.write("/etc/appd/appd.conf", configuration(driver, "http", Path("/srv/corpora")))
    # A file that is wrong fails here, and not request by request.
    host.systemctl("start", "appd.service")
    enter = (
        "nsenter",
        f"--net=/proc/{host.init}/ns/net",
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
    )
    done = subprocess.run(
        [*enter, "-k", driver, str(_CHECKOUT / "tests/process/test_http_corpora.py")],
        cwd=_CHECKOUT,
        env={**os.environ, "APPD_CORPORA_PORT": "8080"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert host.journal("-u", "appd", "-p", "err") == []


def test_the_benchmark_runs_on_it(installed: Host) -> None:
    """bench/ measures the installed package as it does the sources: $APPD_PROGRAM. What it measures here means nothing."""
    [program] = [one for one in ("http_rates.py", "throughput.py") if (_CHECKOUT / "bench" / one).exists()]
    command = ["/usr/bin/python3", str(_CHECKOUT / "bench" / program), "--alone", "--quick"]
    said = installed.run("env", "APPD_PROGRAM=/usr/bin/appd", *command, timeout=300).stdout
    assert re.search(r"^appd +[1-9]", said, re.M), said
