"""`appd passwd` and what `appd check` says of `<auth>`, as commands."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest
from support.running import APPD

from appd.auth.passwords import PasswordFile


def run(*arguments, **options):
    return subprocess.run([APPD, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)


def test_passwd_reads_standard_input(tmp_path):
    """Makes the file, adds, changes, takes away."""
    path = str(tmp_path / "u")
    assert run("passwd", path, "alice", input="secret\n").returncode == 0
    assert run("passwd", path, "bob", "--bcrypt", input="other").returncode == 0
    assert run("passwd", path, "alice", input="better\n").returncode == 0
    file = PasswordFile(path)
    assert file.load() == []
    assert file.check("alice", b"better") and not file.check("alice", b"secret") and file.check("bob", b"other")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert run("passwd", path, "bob", "--delete").returncode == 0
    done = run("passwd", path, "bob", "--delete")
    assert done.returncode == 78 and "no user 'bob'" in done.stderr
    assert run("passwd", path, "a:b", input="x\n").returncode == 64
    assert run("passwd", path, "alice", input="").returncode == 64
    done = run("passwd", str(tmp_path / "none" / "u"), "alice", input="x\n")
    assert done.returncode == 69 and "none" in done.stderr and "Traceback" not in done.stderr


def test_passwd_asks_on_a_terminal(tmp_path):
    """Twice, and shows nothing of what is typed."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(APPD, [APPD, "passwd", str(tmp_path / "u"), "alice"])
    seen = b""
    for prompt in (b"New password of alice: ", b"Again: "):
        while prompt not in seen:
            seen += os.read(fd, 1000)
        os.write(fd, b"secret\n")
    while b"new password" not in seen:
        seen += os.read(fd, 1000)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(fd)
    assert b"secret" not in seen
    file = PasswordFile(str(tmp_path / "u"))
    assert file.load() == [] and file.check("alice", b"secret")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user, which takes root")
def test_passwd_keeps_the_owner(tmp_path):
    """Root edits a file of the service's user."""
    path = tmp_path / "u"
    run("passwd", str(path), "alice", input="x\n")
    os.chown(path, 12345, 23456)
    path.chmod(0o640)
    run("passwd", str(path), "alice", input="y\n")
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 23456, 0o640)


def test_check_finds_what_is_wrong(tmp_path):
    """Each with file and line, all at once."""
    (tmp_path / "bad").write_text("alice\n")
    (tmp_path / "bad").chmod(0o644)
    file = tmp_path / "appd.conf"
    file.write_text(
        "<auth a>\n passwords bad\n</auth>\n<auth b>\n passwords none\n</auth>\n<echo>\n address 127.0.0.1:0\n</echo>\n"
    )
    done = run("check", str(file))
    assert done.returncode == 78
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f"{file}:2: ") and "chmod o-rw" in lines[0]
    assert lines[1].startswith(f"{file}:5: ") and "no such file" in lines[1]
    (tmp_path / "bad").chmod(0o600)
    assert f"{tmp_path / 'bad'}:1: " in run("check", str(file)).stderr
