"""The command line of a child and what it is called with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from appd.servers.process.command import command, environment, find_program, launched, prefixed_line, socket_name


def test_a_command_line():
    """As a shell splits it."""
    assert command("a 'b c' d\\ e \"f\"") == ["a", "b c", "d e", "f"]
    for wrong in "a 'b", "", "   ":
        with pytest.raises(ValueError, match=r"command line|missing"):
            command(wrong)


def test_the_environment():
    """Nothing that is appd's own; LISTEN_* only with sockets; LISTEN_PID is the launcher's to say."""
    base = {"PATH": "/bin", "LISTEN_PID": "1", "LISTEN_FDS": "9", "NOTIFY_SOCKET": "/x", "APPD_CHANNEL": "3", "A": "1"}
    assert environment(base, {"A": "2"}, []) == {"PATH": "/bin", "A": "2"}
    made = environment(base, {}, ["web", "web"])
    assert (made["LISTEN_FDS"], made["LISTEN_FDNAMES"]) == ("2", "web:web") and "LISTEN_PID" not in made


@pytest.mark.parametrize(
    ("name", "server", "expected"),
    [
        ("web", "s", "web"),
        (None, "my server", "my-server"),
        ("", "http:[::1]:80", "http-[-1]-80"),
        (None, "\u00e4", "-"),
        (None, "n" * 300, "n" * 255),
    ],
)
def test_a_name_among_names(name, server, expected):
    """Nothing that would separate."""
    assert socket_name(name, server) == expected


def test_a_program(tmp_path):
    """By path, by a path relative to the folder, in PATH."""
    program = tmp_path / "run-me"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(ValueError, match="there is no program"):
        find_program("run-me", "/", str(tmp_path))
    program.chmod(0o755)
    assert find_program("run-me", "/", str(tmp_path)) == str(program)
    assert find_program("./run-me", str(tmp_path), "") == f"{tmp_path}/./run-me"
    assert find_program(str(program), "/", "") == str(program)


def launch(parent, *program, **environ):
    """What becomes of a program that is launched."""
    command = launched(program, sys.executable, parent)
    environ = {"PATH": "/usr/bin:/bin", **environ}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)


def test_what_is_executed():
    """The program is the process that was begun, alone in its session; the rest is as it was, LISTEN_PID aside."""
    command = [
        "/bin/sh",
        "-c",
        "echo $$ $(ps -o sid= $$) $LISTEN_PID x$LC_CTYPE $1; kill -PIPE $$; echo lived",
        "sh",
        "a b",
    ]
    done = launch(os.getpid(), *command, LISTEN_FDS="1", LC_ALL="C")
    pid, session, listen_pid, locale, *rest = done.stdout.split()
    assert pid == session == listen_pid and (locale, rest) == ("x", ["a", "b"])
    assert done.returncode == -signal.SIGPIPE, "Python ignores it, and its children do not"
    assert launch(os.getpid(), *command).stdout.split()[2] == "x", "without sockets there is no LISTEN_PID"


def test_what_cannot_be_executed():
    """One line, and 127; also when who starts it has gone in the meantime."""
    done = launch(os.getpid(), "/no/such")
    assert (done.returncode, done.stderr) == (127, "<3>cannot start: /no/such: No such file or directory\n")
    done = launch(1, "/bin/true")
    assert (done.returncode, done.stderr) == (127, "<3>cannot start: the worker that starts it has gone\n")


def test_a_line():
    """With and without a priority, and whatever bytes."""
    assert prefixed_line(b"<3>broken") == (3, "broken")
    assert prefixed_line(b"<9>x") == (6, "<9>x")
    assert prefixed_line(b"plain \xff") == (6, "plain \ufffd")
    assert prefixed_line(b"") == (6, "")
