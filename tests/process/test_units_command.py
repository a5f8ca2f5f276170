"""`appd units`: shown, written, compared."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILE = "<socket http>\n  listen 8080\n</socket>\n<echo e>\n  address systemd:name=http\n</echo>\n"


@pytest.fixture
def units(tmp_path):
    """Runs the command on a file; the folder of units is tmp_path/units."""
    path = tmp_path / "appd.conf"
    path.write_text(FILE)

    def run(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "appd", "units", str(path), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
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
    (tmp_path / "appd.conf").write_text("<echo e>\n  address systemd:name=http\n</echo>\n")
    said = units("--output", str(folder), "--diff", code=78)
    more = f"{tmp_path}/appd.conf does not ask for it any more"
    drop_in = f"{folder}/appd.service.d/50-appd-sockets.conf"
    assert said == f"{folder}/appd.socket: {more}: disable and remove it\n{drop_in}: {more}: remove it\n"
    assert "nothing to make" in units("--output", str(folder))


@pytest.mark.parametrize("name", ["appd", "shop"])
def test_the_shipped_socket_is_set_aside(tmp_path, name):
    """Where no server asks for it, until one does; `check --units` says so before, and is content after."""
    path, folder = tmp_path / f"{name}.conf", tmp_path / "units"
    shutil.copytree(Path(__file__).parents[2] / "units", folder)
    stem = "appd" if name == "appd" else f"appd@{name}"
    shipped = "appd.socket" if name == "appd" else "appd@.socket"
    path.write_text("<socket chat>\n  listen 5000\n</socket>\n<echo e>\n  address systemd:name=chat\n</echo>\n")

    def run(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "appd", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done
        return done.stdout + done.stderr

    said = run("check", str(path), "--units", str(folder), code=78)
    assert f"{shipped} passes 'http', which no server claims; `appd units` sets it aside" in said
    said = run("units", str(path), "--output", str(folder))
    assert f"systemctl disable --now {stem}.socket; systemctl enable appd-chat" in said
    assert (folder / f"{stem}.socket.d" / "50-appd-unused.conf").exists()
    assert "good, 1 server" in run("check", str(path), "--units", str(folder))
    path.write_text(path.read_text() + "<echo f>\n  address systemd:name=http\n</echo>\n")
    assert "systemd:name=http: no .socket unit has such a socket" in run(
        "check", str(path), "--units", str(folder), code=78
    )
    said = run("units", str(path), "--output", str(folder))
    assert f"50-appd-unused.conf: {path} does not ask for it any more: remove it" in said


def test_sockets_that_the_service_does_not_start(units, tmp_path):
    """`check --units` compares Requires= and Sockets= with the sockets of the file, and with what is there."""
    folder = tmp_path / "units"
    shutil.copytree(Path(__file__).parents[2] / "units", folder)
    more = "<socket chat>\n  listen 5000\n</socket>\n<echo c>\n  address systemd:name=chat\n</echo>\n"
    (tmp_path / "appd.conf").write_text(FILE + more)
    units("--output", str(folder))
    command = [sys.executable, "-m", "appd", "check", str(tmp_path / "appd.conf"), "--units", str(folder)]

    def check() -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    assert "good, 2 servers" in check()
    drop_in = folder / "appd.service.d" / "50-appd-sockets.conf"
    made = drop_in.read_text()
    drop_in.write_text("[Service]\nSockets=appd-chat.socket\n")
    assert "good, 2 servers" in check()
    drop_in.write_text("[Unit]\nWants=appd-other.socket\n")
    [line] = check().splitlines()
    assert line == (
        f"{tmp_path}/appd.conf:7: <socket chat>: appd.service starts without appd-chat.socket, which neither Requires= "
        "nor Sockets= has; `appd units` makes the drop-in"
    )
    drop_in.write_text(made.replace("appd-chat.socket", "appd-chat.socket appd-gone.socket"))
    assert "appd.service requires appd-gone.socket, and there is no such unit, or it is masked" in check()
    drop_in.write_text(made)
    (folder / "appd-chat.socket").unlink()
    (folder / "appd-chat.socket").symlink_to("/dev/null")
    said = check()
    assert "appd.service requires appd-chat.socket, and there is no such unit, or it is masked" in said
    assert "systemd:name=chat: no .socket unit has such a socket" in said


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
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
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
