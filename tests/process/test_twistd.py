"""`twistd -n appd --config FILE`: the same worker among twistd's own options."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from support.running import TWISTD, ask, listening, spare_port, wait_until

ECHO = "<echo e>\n  address systemd:name=e\n</echo>\n"


@pytest.fixture
def twistd(start, tmp_path):
    """Starts twistd on a configuration text."""

    def begin(text, *passed, before=(), after=(), **options):
        file = tmp_path / "twistd.conf"
        file.write_text(text)
        command = [TWISTD, "-n", "--pidfile=", *before, "appd", "--config", str(file), *after]
        return start("", *passed, command=command, **options)

    return begin


def test_adopts_and_drains(twistd):
    """Descriptors by name, READY=1, STATUS=, a drained stop, exit 0 and not death by SIGTERM."""
    passed = listening()
    running = twistd(ECHO, ("e", passed)).wait_ready()
    with socket.create_connection(passed.getsockname(), timeout=30) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        assert running.stop() == 0
        assert client.recv(1) == b""
    messages = running.manager.read_all()
    assert "STOPPING" in messages[-1] or any("STOPPING" in one for one in messages)


def test_adopts_when_twisted_was_there_first(twistd, tmp_path):
    """Without a dropin.cache twistd imports all plugins; endpoints, imported by one, takes LISTEN_FDS away."""
    (tmp_path / "twisted" / "plugins").mkdir(parents=True)
    (tmp_path / "twisted" / "plugins" / "other.py").write_text("import twisted.internet.endpoints\n")
    passed = listening()
    running = twistd(ECHO, ("e", passed), environ={"PYTHONPATH": str(tmp_path)}).wait_ready()
    with socket.create_connection(passed.getsockname(), timeout=30) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    assert running.stop() == 0


def test_logs_as_appd_does(twistd):
    """Without a log option of twistd's own the log is appd's: here lines with priorities, or JSON when asked."""
    running = twistd("<log>\n format json\n</log>\n" + ECHO, ("e", listening())).wait_ready()
    entry = json.loads(running.wait_said("Server started"))
    assert (entry["APPD_SERVER"], entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("e", 6, "appd")


def test_logfile(twistd, tmp_path):
    """--logfile stays twistd's."""
    running = twistd(ECHO, ("e", listening()), before=("--logfile", str(tmp_path / "log"))).wait_ready()
    wait_until(lambda: "Server started" in (tmp_path / "log").read_text())
    assert "Server started" not in running.errors


def test_pidfile_rundir_umask_and_reactor(twistd, tmp_path):
    """--pidfile, --rundir, --umask and --reactor do what twistd says."""
    (tmp_path / "run").mkdir()
    path = tmp_path / "e.sock"
    before = (
        "--pidfile",
        str(tmp_path / "pid"),
        "--rundir",
        str(tmp_path / "run"),
        "--umask",
        "077",
        "--reactor",
        "poll",
    )
    running = twistd(f"<echo e>\n address {path}\n</echo>\n", before=before).wait_ready()
    pid = running.process.pid
    assert (tmp_path / "pid").read_text() == str(pid)
    assert str(Path(f"/proc/{pid}/cwd").readlink()) == str(tmp_path / "run")
    assert path.stat().st_mode & 0o077 == 0
    assert running.stop() == 0
    assert not (tmp_path / "pid").exists()


def test_daemon(tmp_path):
    """Without -n twistd goes into the background; the daemon serves and stops by its pid file."""
    file = tmp_path / "d.conf"
    file.write_text(f"<echo e>\n address {tmp_path}/d.sock\n</echo>\n")
    command = [
        TWISTD,
        "--pidfile",
        str(tmp_path / "pid"),
        "--logfile",
        str(tmp_path / "log"),
        "appd",
        "--config",
        str(file),
    ]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    wait_until(lambda: (tmp_path / "d.sock").exists() and (tmp_path / "pid").exists())
    try:
        assert ask(str(tmp_path / "d.sock"), b"x", socket.AF_UNIX) == b"x"
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    wait_until(lambda: not (tmp_path / "pid").exists())
    assert "Server started" in (tmp_path / "log").read_text()


def test_bind(twistd):
    """--bind as for `appd run`."""
    running = twistd(ECHO, after=("--bind", "e=127.0.0.1:0")).wait_ready()
    line = running.wait_said("Address: ")
    assert ask(("127.0.0.1", int(line.split(":")[2].split()[0])), b"x") == b"x"


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("thread 5\n" + ECHO, 78, "did you mean threads?"),
        ("<echo e>\n address systemd:name=nope\n</echo>\n", 78, "no descriptor of that name"),
        ("<echo e>\n address /nowhere/at/all.sock\n</echo>\n", 69, "there is no folder /nowhere/at"),
    ],
)
def test_failures(twistd, text, code, reason):
    """The exit codes and lines of `appd run`, without a traceback."""
    running = twistd(text)
    assert running.wait_exit() == code, running.errors
    assert reason in running.errors and "Traceback" not in running.errors


def test_help_lists_it(start):
    """twistd --help knows the plugin."""
    running = start("", command=[TWISTD, "appd", "--help"])
    assert running.wait_exit() == 0
    assert running.process.stdout is not None
    text = running.process.stdout.read().decode()
    assert "--config" in text and "--bind" in text


def test_hangup(twistd):
    """SIGHUP is one line there too."""
    running = twistd(ECHO, ("e", listening())).wait_ready()
    running.process.send_signal(signal.SIGHUP)
    assert "reload needs the supervisor" in running.wait_said("SIGHUP")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give it up")
def test_uid_and_gid(twistd, tmp_path):
    """--uid and --gid: ports below 1024 are bound before root is given up."""
    for parent in (tmp_path, *tmp_path.parents):
        if "pytest" in str(parent):
            parent.chmod(0o755)
    port = spare_port(below=1024)
    text = f"<echo e>\n address 127.0.0.1:{port}\n</echo>\n"
    running = twistd(text, before=("--uid", "65534", "--gid", "65534")).wait_ready()
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    assert "Uid:\t65534\t65534\t65534" in status
    assert ask(("127.0.0.1", port), b"x") == b"x"
    assert running.stop() == 0


def test_logger(twistd, tmp_path):
    """--logger: an observer of the user's own, by dotted name."""
    (tmp_path / "mylog.py").write_text(
        "from twisted.logger import textFileLogObserver\ndef observer():\n"
        f"    return textFileLogObserver(open({str(tmp_path / 'mine')!r}, 'a'))\n"
    )
    environ = {"PYTHONPATH": str(tmp_path)}
    twistd(ECHO, ("e", listening()), before=("--logger", "mylog.observer"), environ=environ).wait_ready()
    wait_until(lambda: "Server started" in (tmp_path / "mine").read_text())


@pytest.mark.parametrize("option", [("--profile", "p", "--profiler", "cprofile"), ("--no_save",)])
def test_other_options(twistd, tmp_path, option):
    """Profiling and --no_save leave a worker that serves and stops."""
    before = [str(tmp_path / one) if one == "p" else one for one in option]
    passed = listening()
    running = twistd(ECHO, ("e", passed), before=before).wait_ready()
    assert ask(passed, b"x") == b"x"
    assert running.stop() == 0
    assert "--profile" not in before or (tmp_path / "p").exists()
