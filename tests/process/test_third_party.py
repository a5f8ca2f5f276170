"""Server types of other packages: the example of the documentation, clashes, and nested sections of one name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.running import APPD, ask, listening

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def greeting(tmp_path_factory) -> Path:
    """The package of docs/server-types.md, its files taken from the page, installed with pip."""
    page = (ROOT / "docs/server-types.md").read_text()
    source = tmp_path_factory.mktemp("greeting")
    (source / "greeting").mkdir()
    (source / "greeting" / "__init__.py").touch()
    blocks = dict(re.findall(r"```(toml|xml|python)\n(.*?)```", page, re.S))
    (source / "pyproject.toml").write_text(blocks["toml"])
    (source / "greeting" / "component.xml").write_text(blocks["xml"])
    (source / "greeting" / "server.py").write_text(blocks["python"])
    code = [line for line in blocks["python"].splitlines() if line.strip()]
    assert len(code) < 20, "the page promises a server type in under 20 lines"
    site = source / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(site), str(source)], check=True, capture_output=True, timeout=120)
    return site


def package(site: Path, name: str, xml: str, target: str | None = None, distribution: str | None = None) -> None:
    """An installed package that brings a server type."""
    folder = site / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "from twisted.internet.protocol import Factory, Protocol\nfrom appd.servers import ServerType\n"
        "class Says(Protocol):\n"
        "    def connectionMade(self):\n"
        "        self.transport.write(repr(self.factory.says).encode())\n        self.transport.loseConnection()\n"
        "def make(db, settings):\n    factory = Factory.forProtocol(Says)\n"
        "    factory.says = [settings.section_type, [(one.section_type, one.name, one.color) for one in settings.parts]]\n"
        "    return factory\n"
        "server_type = ServerType(make, 9)\n"
    )
    (folder / "component.xml").write_text(f"<component>{xml}</component>")
    info = site / f"{distribution or name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution or name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[appd.server_types]\n{target or f'{name} = {name}:server_type'}\n")


def nested(name: str, default: str) -> str:
    """Components whose nested section is called <part> in the file, and does not mean the same."""
    return (
        f"<sectiontype name='{name}.part'><key name='color' datatype='string' default='{default}'/></sectiontype>"
        f"<sectiontype name='{name}' implements='appd.server' extends='appd.listener'>"
        f"<multisection name='*' type='{name}.part' attribute='parts'/></sectiontype>"
    )


def test_the_example_of_the_page(start, greeting):
    """Installed by pip, its section serves what the file says, and `types` and `explain` know it."""
    passed = listening()
    environ = {"PYTHONPATH": str(greeting)}
    page = (ROOT / "docs/server-types.md").read_text()
    text = re.search(r"```\n(<greeting door>.*?)```", page, re.S)[1]
    running = start(text, ("door", passed), environ=environ).wait_ready()
    assert ask(passed, b"") == b"come in\n"
    running.wait_said("-- door Server started.")
    done = subprocess.run(
        [APPD, "types", "greeting"], capture_output=True, text=True, env=environ, timeout=60, check=True
    )
    assert "Greets who connects." in done.stdout and "text  (text, default hello)" in done.stdout
    done = subprocess.run([APPD, "types"], capture_output=True, text=True, env=environ, timeout=60, check=True)
    assert re.search(r"^greeting +greeting +Greets who connects", done.stdout, re.M)


def test_one_wrong_key_of_the_example(start, greeting):
    """Its keys are checked as ours are."""
    running = start("<greeting d>\n address 127.0.0.1:0\n txet x\n</greeting>\n", environ={"PYTHONPATH": str(greeting)})
    assert running.wait_exit() == 78
    assert ":3: <greeting> has no key 'txet': did you mean text? `appd types greeting`" in running.errors


def test_nested_sections_of_one_name(start, tmp_path):
    """Two packages both have a <part>: side by side, each its own."""
    site = tmp_path / "site"
    package(site, "apple", nested("apple", "red"))
    package(site, "plum", nested("plum", "blue"))
    text = (
        "<apple a>\n address systemd:name=a\n <part one>\n </part>\n <part two>\n  color green\n </part>\n</apple>\n"
        "<plum p>\n address systemd:name=p\n <part one>\n </part>\n</plum>\n"
    )
    one, two = listening(), listening()
    start(text, ("a", one), ("p", two), environ={"PYTHONPATH": str(site)}).wait_ready()
    assert ask(one, b"") == b"['apple', [('apple.part', 'one', 'red'), ('apple.part', 'two', 'green')]]"
    assert ask(two, b"") == b"['plum', [('plum.part', 'one', 'blue')]]"


def test_two_packages_with_one_name(start, tmp_path):
    """An error that names both, when the name is asked for and in `types`."""
    site = tmp_path / "site"
    package(site, "apple", nested("apple", "red"))
    package(site, "other", nested("apple", "red"), "Apple = other:server_type", "other-dist")
    environ = {"PYTHONPATH": str(site)}
    running = start("<apple a>\n address 127.0.0.1:0\n</apple>\n", environ=environ)
    assert running.wait_exit() == 78
    reason = "server type 'apple' is brought by apple (apple:server_type) and other-dist (other:server_type)"
    assert reason in running.errors
    done = subprocess.run([APPD, "types"], capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert done.returncode == 78 and reason in done.stderr


def test_a_name_of_appds_own(tmp_path):
    """A package that brings `echo` is told apart in `types`, with both owners."""
    package(tmp_path, "apple", nested("apple", "red"), "echo = apple:server_type")
    environ = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([APPD, "types"], capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert done.returncode == 78
    assert (
        "server type 'echo' is brought by appd (appd.servers.echo.echo:server_type) and apple (apple:server_type)"
        in done.stderr
    )


BROKEN = {
    "no component": ("", "apple = apple:server_type", "has no <sectiontype name='apple'>"),
    "bad XML": ("<sectiontype", "apple = apple:server_type", "component.xml of apple: "),
    "no module": (nested("apple", "red"), "apple = pear:server_type", "there is no module pear"),
    "no object": (nested("apple", "red"), "apple = apple:nothing", "apple:nothing does not import"),
    "no server type": (nested("apple", "red"), "apple = apple:make", "apple:make is no IServerType"),
}


@pytest.mark.parametrize("wrong", BROKEN)
def test_broken_packages(start, tmp_path, wrong):
    """Each fault of a package is one line that names the package."""
    xml, target, reason = BROKEN[wrong]
    site = tmp_path / "site"
    package(site, "apple", xml, target)
    running = start("<apple a>\n address 127.0.0.1:0\n</apple>\n", environ={"PYTHONPATH": str(site)})
    assert running.wait_exit() == 78
    assert reason in running.errors and "server type 'apple' of apple" in running.errors
    assert len(running.err) == 1


def test_a_type_that_opens_connections(tmp_path):
    """`types` says so, and `check --units` finds the drop-in that would keep it from that."""
    package(tmp_path / "site", "dialler", nested("dialler", "red"))
    module = tmp_path / "site" / "dialler" / "__init__.py"
    module.write_text(module.read_text().replace("ServerType(make, 9)", "ServerType(make, 9, outgoing=True)"))
    file = tmp_path / "appd.conf"
    file.write_text("<dialler far>\n address systemd:name=http\n</dialler>\n")
    units = tmp_path / "units"
    (units / "appd.service.d").mkdir(parents=True)
    for name in ("appd.socket", "appd.service"):
        (units / name).write_text((ROOT / "units" / name).read_text())
    environ = {"PYTHONPATH": str(tmp_path / "site")}

    def appd(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [APPD, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)

    assert "opens connections" in appd("types", "dialler").stdout.splitlines()[0]
    assert "opens connections" not in appd("types", "http").stdout.splitlines()[0]
    by_name = tmp_path / "by-name" / "appd.conf"
    by_name.parent.mkdir()
    by_name.write_text("<server far>\n type dialler\n address systemd:name=http\n</server>\n")
    checking = ("check", str(file), "--units", str(units))
    assert appd(*checking).returncode == 0
    (units / "appd.service.d" / "inbound-only.conf").write_text((ROOT / "units/inbound-only.conf").read_text())
    done = appd(*checking)
    assert done.returncode == 78
    assert done.stderr == (
        f"{file}:1: server 'far': it opens connections of its own: remove inbound-only.conf from appd.service, "
        "or allow AF_INET and AF_INET6\n"
    )
    done = appd("check", str(by_name), "--units", str(units))
    assert done.stderr.startswith(f"{by_name}:1: server 'far': it opens connections of its own")
