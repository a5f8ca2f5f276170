"""`appd new-type`: what it writes is installed, tested and served as it is, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.running import APPD, ask, listening


def appd(*arguments: str, cwd: Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [APPD, *arguments], capture_output=True, text=True, cwd=cwd, env=environ, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with the package `line-back`, and `site`, which pip has installed it into."""
    folder = tmp_path_factory.mktemp("made")
    done = appd("new-type", "line-back", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and "'line-back'" in done.stdout and done.stderr == ""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    target = ["--target", str(folder / "site"), str(folder / "line-back")]
    subprocess.run([*command, *target], check=True, capture_output=True, timeout=120)
    return folder


def test_its_own_test_passes(made):
    """By pytest, warnings as errors, on the installed package."""
    environ = {**os.environ, "PYTHONPATH": str(made / "site")}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(
        command, cwd=made / "line-back", env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_its_own_test_can_fail(made):
    """With another answer."""
    environ = {**os.environ, "PYTHONPATH": str(made / "site")}
    code = (
        "import line_back.server as server, pytest, sys\n"
        "server.Lines.lineReceived = lambda self, line: self.sendLine(line)\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'tests']))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=made / "line-back", env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1 and "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr


def test_it_serves(start, made):
    """The section of its README, on a descriptor that systemd passes."""
    readme = (made / "line-back" / "README.md").read_text()
    lines = [line.removeprefix("    ") for line in readme.splitlines()]
    text = "\n".join(lines[lines.index("<line-back first>") : lines.index("</line-back>") + 1])
    passed = listening()
    start(
        text.replace("hello", "good day"), ("line-back", passed), environ={"PYTHONPATH": str(made / "site")}
    ).wait_ready()
    assert ask(passed, b"to you\n") == b"good day to you\n"


def test_types_shows_it(made):
    """With its key, its default, and who brings it."""
    done = appd("types", "line-back", cwd=made, environ={"PYTHONPATH": str(made / "site")})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<line-back NAME>  from line-back (line_back.server:server_type)")
    assert "word  (text, default hello)" in done.stdout


REFUSED = {
    "": "cannot name a server type: it takes",
    "Chat": "cannot name a server type: it takes",
    "9p": "cannot name a server type: it takes",
    "a_b": "cannot name a server type: it takes",
    "a--b": "cannot name a server type: it takes",
    "../up": "cannot name a server type: it takes",
    "chat\n": "cannot name a server type: it takes",
    "c" * 61: "cannot name a server type: it takes",
    "echo": "there is a server type 'echo' already, of appd (appd.servers.echo.echo:server_type)",
    "tls": "<tls> is a section of appd's",
    "class": "Python has a word or module class already",
    "email": "Python has a word or module email already",
    "twisted": "Python has a word or module twisted already",
}


@pytest.mark.parametrize("name", REFUSED)
def test_names_that_are_refused(tmp_path, name):
    """In one line with 64, and nothing is written."""
    done = appd("new-type", name, cwd=tmp_path)
    assert done.returncode == 64
    assert REFUSED[name] in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_type_that_another_package_brings(made, tmp_path):
    """Is told with its package."""
    done = appd("new-type", "line-back", cwd=tmp_path, environ={"PYTHONPATH": str(made / "site")})
    assert done.returncode == 64 and done.stderr.count("\n") == 1
    assert "there is a server type 'line-back' already, of line-back (line_back.server:server_type)" in done.stderr


def test_without_a_name(tmp_path):
    """Wrong usage as everywhere."""
    done = appd("new-type", cwd=tmp_path)
    assert done.returncode == 64 and "appd new-type: " in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_something_is_there(tmp_path, kind):
    """One line with 78, and it stays as it is."""
    there = tmp_path / "chat"
    if kind == "folder":
        there.mkdir()
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to("nowhere")
    done = appd("new-type", "chat", cwd=tmp_path)
    assert done.returncode == 78
    assert "chat is there already; nothing was changed" in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [there]
    assert there.read_text() == "mine" if kind == "file" else not there.exists() or list(there.iterdir()) == []


def test_no_room(tmp_path):
    """A write that fails leaves nothing of the folder: 69."""
    code = (
        "import resource, signal, sys\nfrom appd import cli\nfrom appd.signals import StopSignals\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))\n"
        "sys.exit(cli.main(['new-type', 'chat'], StopSignals()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 69, done.stderr
    assert done.stderr.strip().endswith("chat: File too large") and list(tmp_path.iterdir()) == []
