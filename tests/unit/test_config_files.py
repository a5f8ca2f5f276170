"""What a configuration file may be, and how files include each other."""

from __future__ import annotations

import os

import pytest

from appd.config import load
from appd.errors import ConfigurationError


@pytest.fixture
def wrong(tmp_path):
    """Loads a file of these bytes; gives its problems, the folder cut away."""

    def loaded(data: bytes | str) -> list[str]:
        file = tmp_path / "appd.conf"
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        with pytest.raises(ConfigurationError) as caught:
            load(str(file))
        return [str(one).replace(f"{tmp_path}/", "") for one in caught.value.problems]

    return loaded


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_any_line_end(tmp_path, end):
    """CR, CR LF and LF end a line."""
    file = tmp_path / "appd.conf"
    file.write_bytes(end.join(["<echo>", "  address 8080", "</echo>", ""]).encode())
    (server,) = load(str(file)).servers
    assert [str(one) for one in server.address] == ["8080"]
    assert server.where("address").line == 2


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\n"])
def test_lines_are_counted_alike(wrong, end):
    """A byte that is wrong is in the line that an editor shows."""
    assert wrong(b"#" + end + b"\0") == ["appd.conf: it contains a NUL byte in line 2"]
    assert wrong(b"#" + end + b"\xff") == ["appd.conf: it is not UTF-8: byte 0xff in line 2"]
    assert wrong(b"#" + end + b"threads x") == ["appd.conf:2: threads: 'x' is not a whole number from 1 on"]


@pytest.mark.parametrize("path", ["/dev/full", "/dev/zero", "fifo"])
def test_only_regular_files(tmp_path, path):
    """A device is not read without end, and a FIFO is not waited for."""
    path = str(tmp_path / path)
    if path.endswith("fifo"):
        os.mkfifo(path)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: it is no regular file"


def test_not_too_large(tmp_path):
    """A file that is no configuration by its size is refused."""
    file = tmp_path / "appd.conf"
    with file.open("wb") as opened:
        opened.truncate(16 * 1024**2 + 1)
    with pytest.raises(ConfigurationError) as caught:
        load(str(file))
    assert str(caught.value) == f"{file}: it is larger than 16 MB"


def chain(folder, length: int) -> str:
    """Files that include each other one after the other; the last one holds a key."""
    for number in range(length):
        (folder / f"{number}.conf").write_text(f"%include {number + 1}.conf\n")
    (folder / f"{length}.conf").write_text("threads 3\n")
    return str(folder / "0.conf")


def test_a_chain_of_fifty(tmp_path):
    """Is read."""
    assert load(chain(tmp_path, 50)).threads == 3


def test_a_chain_of_three_hundred(tmp_path):
    """Is refused at the file that goes too deep, once."""
    with pytest.raises(ConfigurationError) as caught:
        load(chain(tmp_path, 300))
    (problem,) = caught.value.problems
    assert problem.place == (str(tmp_path / "50.conf"), 1)
    assert problem.message == f"%include {tmp_path}/51.conf: it is included 51 deep, and 50 are allowed"


def test_files_that_double(tmp_path):
    """Thirty files that include the next one twice each are a thousand million."""
    for number in range(30):
        (tmp_path / f"{number}.conf").write_text(f"%include {number + 1}.conf\n" * 2)
    (tmp_path / "30.conf").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        load(str(tmp_path / "0.conf"))
    assert all("more than 1000 files are included" in one.message for one in caught.value.problems)
    assert len(caught.value.problems) <= 60


def test_definitions_that_double(wrong):
    """So are thirty definitions of twice the one before; what uses them is not a problem of its own."""
    lines = ["%define x0 0123456789", *(f"%define x{n + 1} $x{n}$x{n}" for n in range(30)), "virtualenv $x30", ""]
    assert wrong("\n".join(lines)) == [
        "appd.conf:14: '$x12$x12' with its names replaced is longer than 65536 characters"
    ]


def test_a_name_that_no_file_has(wrong):
    """Control characters are shown, not printed."""
    assert wrong("%include \x7f") == ["appd.conf:1: %include '\\x7f': the name of a file has no control characters"]


def test_a_file_that_goes_round(wrong):
    """A file that includes itself."""
    assert wrong("%include appd.conf") == ["appd.conf:1: %include goes round in a circle: appd.conf includes appd.conf"]
