"""check, types, explain and version, as a person types them."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import activate
from support.running import APPD, datagram, listening

from appd import cli

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([APPD, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)


def activated(*arguments: str, passed):
    fds = [sock.fileno() for _name, sock in passed]
    command = [
        sys.executable,
        activate_path(),
        ":".join(map(str, fds)),
        ":".join(name for name, _ in passed),
        APPD,
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, pass_fds=fds)


def activate_path() -> str:
    return str(Path(activate.__file__))


def test_version():
    """The version of the installed package."""
    from importlib.metadata import version

    assert run("version").stdout == f"appd {version('appd')}\n"


def test_the_example_is_good(tmp_path):
    """The configuration file that is shipped, from any folder, without sockets."""
    done = run("check", str(ROOT / "etc/appd.conf"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "good, 1 server: welcome" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_check_with_the_shipped_units():
    """The example agrees with the shipped .socket unit."""
    done = run("check", str(ROOT / "etc/appd.conf"), "--units", str(ROOT / "units"))
    # Beside appd.socket the folder holds the template of the instances, which passes the same name.
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("limit", "warned"), [("", True), ("FileDescriptorStoreMax=1", True), ("FileDescriptorStoreMax=2", False)]
)
def test_check_warns_of_a_store_that_is_too_small(tmp_path, limit, warned):
    """Addresses that appd binds itself, of which systemd keeps fewer over a restart; those of units do not count."""
    file = tmp_path / "appd.conf"
    file.write_text(
        f"<socket passed>\n listen 127.0.0.1:8079\n</socket>\n"
        f"<echo e>\n address systemd:name=passed\n address 127.0.0.1:8080\n address {tmp_path}/x.sock\n</echo>\n"
    )
    (tmp_path / "p.socket").write_text("[Socket]\nListenStream=127.0.0.1:8079\nFileDescriptorName=passed\n")
    (tmp_path / "appd.service").write_text(f"[Unit]\nRequires=p.socket\n[Service]\n{limit}\n")
    done = run("check", str(file), "--units", str(tmp_path))
    assert done.returncode == 0, done.stderr
    limit = limit.partition("=")[2] or "0"
    line = (
        f"warning: of the sockets that appd binds systemd keeps {limit} of 2 over a restart (FileDescriptorStoreMax={limit} of "
        "appd.service): who connects during one is refused at the others\n"
    )
    assert (line in done.stdout) is warned and ("restart" in done.stdout) is warned


def test_check_finds_units_that_disagree(tmp_path):
    """A name that no unit has, a kind that does not fit, a unit that nobody serves: one line each."""
    (tmp_path / "a.socket").write_text("[Socket]\nListenDatagram=514\nFileDescriptorName=log\n")
    (tmp_path / "b.socket").write_text("[Socket]\nListenStream=81\nFileDescriptorName=spare\n")
    file = tmp_path / "appd.conf"
    file.write_text(
        f"<http web>\n address systemd:name=web\n address systemd:name=log\n <static>\n  root {tmp_path}\n </static>\n</http>\n"
    )
    done = run("check", str(file), "--units", str(tmp_path))
    assert done.returncode == 78
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert (
        f"{file}:2: systemd:name=web: no .socket unit has such a socket (FileDescriptorName=), they pass log, spare"
        in lines
    )
    assert (
        f"{file}:3: systemd:name=log: a.socket passes a datagram socket (514), but server 'web' takes stream" in lines
    )
    assert "b.socket passes 'spare', which no server claims" in lines


LOUD = "import sys\nprint('imported', file=sys.stdout)\ndef app(environ, start_response): ...\n"


def hosted(folder: Path, text: str = "") -> Path:
    """A file with an application beside it that prints when it is imported."""
    (folder / "loud.py").write_text(LOUD)
    file = folder / "appd.conf"
    file.write_text(
        f"python-path .\n{text}<http web>\n address systemd:name=web\n <wsgi>\n  application loud:app\n </wsgi>\n</http>\n"
    )
    return file


def test_check_and_explain_write_nothing(tmp_path):
    """No bytecode beside hosted code, and nothing of what it prints in the output."""
    file = hosted(tmp_path)
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    checked = run("check", str(file), env=environ)
    assert checked.returncode == 0 and checked.stdout == f"{file}: good, 1 server: web\n"
    explained = run("explain", str(file), "--json", env=environ)
    assert json.loads(explained.stdout)[0]["server"] == "web"
    assert "imported" in checked.stderr and "imported" in explained.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["appd.conf", "loud.py"]


def test_the_folder_of_units_is_relative_to_the_caller(tmp_path):
    """--units is meant from where the command is given, whatever working-directory says."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "units").mkdir()
    (here / "units" / "web.socket").write_text("[Socket]\nListenStream=80\nFileDescriptorName=web\n")
    file = hosted(tmp_path, "working-directory there\n")
    done = run("check", str(file), "--units", "units", cwd=here)
    assert done.returncode == 0, done.stderr


def test_check_knows_what_a_server_section_serves(tmp_path):
    """<server> finds out when it is made: a protocol factory takes no datagrams."""
    file = tmp_path / "appd.conf"
    file.write_text(
        "<server log>\n type twisted.internet.protocol:ServerFactory\n address systemd:name=log\n</server>\n"
    )
    (tmp_path / "log.socket").write_text("[Socket]\nListenDatagram=514\nFileDescriptorName=log\n")
    done = run("check", str(file), "--units", str(tmp_path))
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        f"{file}:3: systemd:name=log: log.socket passes a datagram socket (514), but server 'log' takes stream"
    ]


def test_check_takes_a_name_for_a_socket_of_systemd(tmp_path):
    """What only Twisted's own addresses cannot have is no fault of a name that nobody has passed yet."""
    file = tmp_path / "appd.conf"
    file.write_text(
        "<http web>\n address systemd:name=web\n trusted 10.0.0.0/8\n proxy-protocol on\n <proxy>\n  upstream http://127.0.0.1:1\n"
        " </proxy>\n</http>\n"
    )
    done = run("check", str(file))
    assert done.returncode == 0, done.stderr
    file.write_text(file.read_text().replace("systemd:name=web", "haproxy:tcp:0"))
    assert f"{file}:4: proxy-protocol on is not for an address that Twisted binds" in run("check", str(file)).stderr


def test_check_of_accepted_connections(tmp_path):
    """Whoever serves streams takes the connections of a unit with Accept=yes."""
    (tmp_path / "each.socket").write_text("[Socket]\nListenStream=515\nAccept=yes\n")
    file = tmp_path / "appd.conf"
    file.write_text("<echo e>\n address systemd:name=connection\n</echo>\n")
    done = run("check", str(file), "--units", str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_check_with_an_index(tmp_path):
    """index= may mean any socket that its server takes: only what cannot be meant is reported."""
    file = tmp_path / "appd.conf"
    file.write_text(
        f"<http web>\n address systemd:index=0\n address systemd:name=gone\n <static>\n  root {tmp_path}\n </static>\n</http>\n"
    )
    (tmp_path / "a.socket").write_text("[Socket]\nListenStream=80\n")
    (tmp_path / "b.socket").write_text("[Socket]\nListenDatagram=81\n")
    done = run("check", str(file), "--units", str(tmp_path))
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{file}:3: systemd:name=gone: no .socket unit")
    assert second == "b.socket passes 'b.socket', which no server claims"
    (tmp_path / "c.socket").write_text("[Socket]\nListenStream=82\n")
    done = run("check", str(file), "--units", str(tmp_path))
    assert (
        "a.socket, c.socket: 2 sockets that no name claims, more than the file has index= addresses (1)" in done.stderr
    )


def test_types():
    """The list, and the keys of one."""
    listed = run("types").stdout
    assert all(f"\n{name} " in f"\n{listed}" for name in ("echo", "http", "server"))
    assert "drain-timeout  (time like 30s, default 30s)" in listed
    assert max(map(len, listed.splitlines())) <= 100
    described = run("types", "HTTP").stdout
    assert "<wsgi>  (repeatable)" in described and "address  (address, repeatable)" in described
    assert "access-log  (off | journal | combined, default off)" in described
    assert "body-size  (bytes like 64KB, default 1GB)" in described


def test_no_command_is_told_the_commands():
    """What a newcomer types first."""
    done = run()
    assert done.returncode == 64 and not done.stdout
    assert "serve what a configuration file says" in done.stderr and "Exit status: 0 done" in done.stderr
    asked = run("--help")
    assert asked.returncode == 0 and asked.stdout == done.stderr


def test_the_version_by_both_its_names():
    """As most programs have it, and as a command."""
    assert run("--version").stdout == run("version").stdout != ""


def test_a_slip_in_a_command_or_a_word():
    """What was meant, or what there is; a command that is no person's is in neither."""
    assert run("chek", "x").stderr == "appd: COMMAND 'chek' is unknown: did you mean check? (see appd --help)\n"
    said = run("resum").stderr
    assert "resumable" not in said
    level = run("log-level", "loud")
    assert level.returncode == 64
    assert "LEVEL 'loud' is unknown: there are debug, info, warning, error, critical" in level.stderr


def test_a_name_that_nobody_passed_without_systemd(tmp_path):
    """Says what takes the place of a .socket unit there."""
    file = tmp_path / "appd.conf"
    file.write_text("<echo e>\n address systemd:name=web\n</echo>\n")
    said = run("run", str(file)).stderr
    assert "; without systemd: --bind web=ADDRESS, or a <socket web> in the file)" in said


def test_nobody_at_the_control_socket_and_how_to_name_another(tmp_path):
    """The options that do."""
    done = run("status", "--socket", str(tmp_path / "none"))
    assert done.returncode == 69 and "--instance NAME and --socket PATH name others" in done.stderr


def test_every_command_has_help_for_every_argument():
    """Nothing is left to be guessed."""
    [commands] = [one for one in cli.parser()._actions if isinstance(one, argparse._SubParsersAction)]
    for shown in commands._choices_actions:
        command = commands.choices[shown.dest]
        assert shown.help and command.description, shown.dest
        assert all(one.help for one in command._actions), shown.dest


def test_explain_with_descriptors(tmp_path):
    """With descriptors passed: what each is, and who serves it, also the one that nobody claims."""
    file = tmp_path / "appd.conf"
    file.write_text("<echo e>\n address systemd:name=a\n address 127.0.0.1:0\n</echo>\n")
    stream, spare = listening(), datagram()
    done = activated("explain", str(file), "--json", passed=[("a", stream), ("b", spare)])
    assert done.returncode == 0, done.stderr
    first, second, third = json.loads(done.stdout)
    where = f"127.0.0.1:{stream.getsockname()[1]}"
    assert (first["descriptor"], first["name"], first["kind"], first["where"], first["server"]) == (
        "3",
        "a",
        "stream",
        where,
        "e",
    )
    assert "echo" in first["factory"]
    assert (second["descriptor"], second["unit"], second["where"]) == ("-", "made by appd", "127.0.0.1:0")
    assert (third["descriptor"], third["server"]) == ("4", "nobody claims it")


def test_explain_as_a_table(tmp_path):
    """Without descriptors: a table with a head, one line for each address."""
    done = run("explain", str(ROOT / "etc/appd.conf"))
    head, row = done.stdout.splitlines()
    assert head.split() == ["DESCRIPTOR", "NAME", "KIND", "WHERE", "UNIT", "SERVER", "FACTORY"]
    assert "http" in row and "welcome" in row


def test_explain_of_a_wrong_name(tmp_path):
    """Descriptors that do not fit the file are refused as by run."""
    file = tmp_path / "appd.conf"
    file.write_text("<echo e>\n address systemd:name=a\n</echo>\n")
    done = activated("explain", str(file), passed=[("b", listening())])
    assert done.returncode == 78 and "no descriptor of that name" in done.stderr


def test_check_as_a_stranger(tmp_path):
    """`check` works in a folder that cannot be written, and leaves nothing."""
    if os.geteuid() != 0:
        return
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        APPD,
        "check",
        str(ROOT / "etc/appd.conf"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
