"""The command line of a child and what it is called with."""

from __future__ import annotations

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


def test_what_is_executed():
    """Through a shell, and whatever of util-linux is there."""
    everything = launched(["/x", "a b"], lambda name: name)
    assert everything[:2] == ["/bin/sh", "-c"] and everything[-2:] == ["/x", "a b"] and "setpriv" in everything
    assert launched(["/x"], lambda name: None) == [*everything[:4], "/x"]


def test_a_line():
    """With and without a priority, and whatever bytes."""
    assert prefixed_line(b"<3>broken") == (3, "broken")
    assert prefixed_line(b"<9>x") == (6, "<9>x")
    assert prefixed_line(b"plain \xff") == (6, "plain \ufffd")
    assert prefixed_line(b"") == (6, "")
