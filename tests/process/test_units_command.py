"""`appd units`: shown, written, compared."""

from __future__ import annotations

import subprocess
import sys

import pytest

FILE = "<socket http>\n  listen 8080\n</socket>\n<echo e>\n  address systemd:name=http\n</echo>\n"


@pytest.fixture
def units(tmp_path):
    """Runs the command on a file; the folder of units is tmp_path/units."""
    path = tmp_path / "appd.conf"
    path.write_text(FILE)

    def run(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "appd", "units", str(path), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == code, done
        return done.stdout + done.stderr

    return run


def test_shown(units, tmp_path):
    """Without a folder nothing is written."""
    said = units()
    assert "# /etc/systemd/system/appd.socket\n" in said
    assert "ListenStream=8080\n" in said
    assert [one.name for one in tmp_path.iterdir()] == ["appd.conf"]


def test_written_and_compared(units, tmp_path):
    """A port is changed in one place: the file says what is to be done, `--diff` whether it has been."""
    folder = str(tmp_path / "units")
    said = units("--output", folder)
    assert "appd.service.d/50-appd-sockets.conf" in said
    assert "systemctl enable appd.socket" in said
    assert units("--output", folder, "--diff") == ""
    (tmp_path / "appd.conf").write_text(FILE.replace("8080", "8081"))
    said = units("--output", folder, "--diff", code=78)
    assert "-ListenStream=8080\n+ListenStream=8081\n" in said
    units("--output", folder)
    assert units("--output", folder, "--diff") == ""


def test_a_socket_that_is_not_wanted_any_more(units, tmp_path):
    """Its unit is named, and left to the administrator; units of others are nobody's business."""
    folder = tmp_path / "units"
    units("--output", str(folder))
    (folder / "sshd.socket").write_text("[Socket]\nListenStream=22\n")
    (tmp_path / "appd.conf").write_text("<echo e>\n  address 8080\n</echo>\n")
    said = units("--output", str(folder), "--diff", code=78)
    assert said == f"{folder}/appd.socket: {tmp_path}/appd.conf does not ask for it any more: disable and remove it\n"
    assert "nothing to make" in units("--output", str(folder))


def test_a_folder_that_cannot_be_written(units, tmp_path):
    """69 and one line."""
    (tmp_path / "taken").write_text("")
    said = units("--output", str(tmp_path / "taken"), code=69)
    assert said == f"{tmp_path}/taken/appd.socket cannot be written: Not a directory\n" or "cannot be written" in said
    assert said.count("\n") == 1


def test_a_bad_file(units, tmp_path):
    """78, as `appd check` has it."""
    (tmp_path / "appd.conf").write_text("nonsense\n")
    assert "appd.conf:1: " in units(code=78)
