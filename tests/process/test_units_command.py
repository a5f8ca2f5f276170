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
    more = f"{tmp_path}/appd.conf does not ask for it any more"
    drop_in = f"{folder}/appd.service.d/50-appd-sockets.conf"
    assert said == f"{folder}/appd.socket: {more}: disable and remove it\n{drop_in}: {more}: remove it\n"
    assert "nothing to make" in units("--output", str(folder))


def test_a_credential(units, tmp_path):
    """Loaded from a conventional place until somebody says otherwise, and that stays; the file decides which there are."""
    folder = tmp_path / "units"
    text = FILE.replace("address", "tls-address").replace(
        "</echo>", "  <tls>\n    certificate credential:{}\n  </tls>\n</echo>"
    )
    (tmp_path / "appd.conf").write_text(text.format("appd-test.pem"))
    said = units("--output", str(folder))
    assert "credential appd-test.pem: there is no /etc/appd/credentials/appd-test.pem" in said
    drop_in = folder / "appd.service.d" / "50-appd-credentials.conf"
    line = "LoadCredential=appd-test.pem:/etc/appd/credentials/appd-test.pem\n"
    assert line in drop_in.read_text()
    drop_in.write_text(drop_in.read_text().replace(line, f"LoadCredential=appd-test.pem:{tmp_path}/appd.conf\n"))
    assert units("--output", str(folder), "--diff") == ""
    assert "there is no" not in units("--output", str(folder))
    assert f"LoadCredential=appd-test.pem:{tmp_path}/appd.conf\n" in drop_in.read_text()
    (tmp_path / "appd.conf").write_text(text.format("other.pem"))
    said = units("--output", str(folder), "--diff", code=78)
    assert f"-LoadCredential=appd-test.pem:{tmp_path}/appd.conf\n+LoadCredential=other.pem:" in said
    command = [sys.executable, "-m", "appd", "check", str(tmp_path / "appd.conf"), "--units", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 78
    assert f"{tmp_path}/appd.conf:7: credential:other.pem: appd.service does not load it" in done.stderr


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
