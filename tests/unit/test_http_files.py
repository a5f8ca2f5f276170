"""Which file a path below a folder means."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appd.http import files
from appd.http.files import open_below
from appd.http.routing import segments_of

SECRET = b"secret"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder `root` with all sorts of things in it and secrets around it."""
    base = tmp_path_factory.mktemp("files")
    root = base / "root"
    (root / "sub").mkdir(parents=True)
    (root / "bare").mkdir()
    (root / "trap" / "index.html").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"hello")
    (root / ".hidden").write_bytes(b"dot")
    (root / "a\\b").write_bytes(b"backslash")
    (root / "sub" / "index.html").write_bytes(b"index")
    (base / "secret").write_bytes(SECRET)
    (base / "root-beside").mkdir()
    (base / "root-beside" / "secret").write_bytes(SECRET)
    links = {
        "in": "a.txt",
        "in-folder": "sub",
        "absolute": str(root / "a.txt"),
        "out": "../secret",
        "out-folder": "..",
        "out-beside": "../root-beside/secret",
        "out-absolute": "/etc/passwd",
        "chain": "out",
        "round": "round",
        "nowhere": "nothing",
        "device": "/dev/zero",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    (root / "sub" / "up").symlink_to("../a.txt")
    (base / "current").symlink_to("root")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.getcwd()
        os.chdir(root)
        sock.bind("socket")
        os.chdir(here)
        yield root


def read(root: Path, path: str) -> bytes | None:
    segments = segments_of(path.encode())
    assert segments is not None
    found = open_below(str(root), segments, "index.html")
    if found is None:
        return None
    with found.file:
        content = found.file.read()
    assert found.size == len(content)
    return content


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/a.txt", b"hello"),
        ("/%61.txt", b"hello"),
        ("/.hidden", b"dot"),
        ("/a%5cb", b"backslash"),
        ("/sub/", b"index"),
        ("/sub/index.html", b"index"),
        ("/in", b"hello"),
        ("/absolute", b"hello"),
        ("/in-folder/", b"index"),
        ("/in-folder/up", b"hello"),
    ],
)
def test_there(tree: Path, path: str, content: bytes) -> None:
    """Files, index files, and links that stay inside."""
    assert read(tree, path) == content
    assert read(tree.parent / "current", path) == content


@pytest.mark.parametrize("path", ["/sub", "/in-folder"])
def test_a_slash_is_missing(tree: Path, path: str) -> None:
    """A folder with an index file."""
    assert read(tree, path) is None


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/bare",
        "/bare/",
        "/trap",
        "/trap/",
        "/a.txt/",
        "/a.txt/x",
        "//a.txt",
        "/sub//index.html",
        "/sub%2findex.html",
        "/out",
        "/out-folder",
        "/out-folder/",
        "/out-folder/secret",
        "/out-beside",
        "/out-absolute",
        "/chain",
        "/round",
        "/nowhere",
        "/device",
        "/fifo",
        "/socket",
        "/" + "x" * 300,
        "/" + "x/" * 3000,
    ],
)
def test_not_there(tree: Path, path: str) -> None:
    """Not there, outside, a folder without an index, or no regular file."""
    with pytest.raises(FileNotFoundError):
        read(tree, path)


def test_special_files_are_not_even_opened(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening alone can block, or do something."""
    opened: list[bytes] = []
    real = os.open

    def recording(path: bytes, *args: int, **keywords: int) -> int:
        opened.append(path)
        return real(path, *args, **keywords)

    monkeypatch.setattr(files.os, "open", recording)
    for path in ("/fifo", "/socket", "/device"):
        with pytest.raises(FileNotFoundError):
            read(tree, path)
    assert set(opened) <= {os.fsencode(tree)}


def test_the_root_itself(tree: Path) -> None:
    """The path of the mount without a slash, with an index file and without."""
    assert open_below(str(tree / "sub"), (), "index.html") is None
    with pytest.raises(FileNotFoundError):
        open_below(str(tree), (), "index.html")
    with pytest.raises(FileNotFoundError):
        open_below(str(tree / "a.txt"), (), "index.html")
    with pytest.raises(FileNotFoundError):
        open_below(str(tree / "gone"), (b"a.txt",), "index.html")


@pytest.mark.parametrize("name", [b"..", b".", b"../secret", b"/etc/passwd", b"a\0b", b""])
def test_segments_that_are_no_names(tree: Path, name: bytes) -> None:
    """It relies on nobody to have looked before."""
    for segments in ((name, b"a.txt"), (b"sub", name, b"a.txt")):
        with pytest.raises(FileNotFoundError):
            open_below(str(tree), segments, "index.html")


def test_not_readable(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and a folder that the process may not read; as root, a kernel that says so is needed."""

    def refuse(*_args: object, **_keywords: object) -> int:
        raise PermissionError(13, "Permission denied", "a.txt")

    descriptors = os.listdir("/proc/self/fd")
    monkeypatch.setattr(files.os, "open", refuse)
    with pytest.raises(PermissionError, match="not readable"):
        read(tree, "/a.txt")
    monkeypatch.undo()
    monkeypatch.setattr(files.os.path, "realpath", refuse)
    with pytest.raises(PermissionError, match="not readable"):
        read(tree, "/a.txt")
    monkeypatch.undo()
    assert os.listdir("/proc/self/fd") == descriptors


def test_a_tree_that_changes_meanwhile(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was resolved is opened without following links, so that a folder made a link in between leads nowhere."""
    real = files._resolve

    def swapped(base: bytes, names: list[bytes]) -> bytes:
        real(base, names)
        return base + b"/out-folder/secret"

    monkeypatch.setattr(files, "_resolve", swapped)
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        read(tree, "/a.txt")
    assert os.listdir("/proc/self/fd") == descriptors


PARTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "%2e%2e", "%2e", "..%2f", "%5c..", "%00", "secret", "root", "root-beside", "sub", "a.txt", "in",
         "out", "out-folder", "out-beside", "out-absolute", "chain", "in-folder", "absolute", "up", "fifo", "device",
         "etc", "passwd", "proc", "self", "root", "%2fetc%2fpasswd", "index.html"]
    ),
    st.text(max_size=5),
)  # fmt: skip


@given(st.lists(PARTS, max_size=8))
def test_no_path_leads_outside(tree: Path, parts: list[str]) -> None:
    """Whatever is asked for, what is opened is a regular file inside the folder."""
    segments = segments_of(("/" + "/".join(parts)).encode(errors="replace"))
    try:
        found = open_below(str(tree), segments if segments is not None else (), "index.html")
    except FileNotFoundError:
        return
    if found is not None:
        with found.file:
            assert os.readlink(f"/proc/self/fd/{found.file.fileno()}").startswith(f"{tree}/")
            assert SECRET not in found.file.read()


@given(st.lists(st.one_of(st.binary(max_size=6), PARTS.map(lambda one: one.encode(errors="replace"))), max_size=6))
def test_no_segments_lead_outside(tree: Path, segments: list[bytes]) -> None:
    """The same for segments that no path has."""
    try:
        found = open_below(str(tree), segments, "index.html")
    except FileNotFoundError:
        return
    if found is not None:
        with found.file:
            assert os.readlink(f"/proc/self/fd/{found.file.fileno()}").startswith(f"{tree}/")
