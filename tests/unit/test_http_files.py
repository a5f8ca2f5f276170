"""Which file a path below a folder means."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appd.http.routing import segments_of
from appd.http.static import files
from appd.http.static.files import is_name, open_below, open_folder_below

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


def read(root: Path, path: str, *, links_out: bool = False) -> bytes:
    segments = segments_of(path)
    assert segments is not None
    return content(str(root), segments, links_out=links_out)


def content(root: str, names: Sequence[bytes], *, links_out: bool = False) -> bytes:
    fd, status = open_below(root, names, links_out=links_out)
    try:
        found = os.read(fd, 10_000)
    finally:
        os.close(fd)
    assert status.st_size == len(found)
    return found


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/a.txt", b"hello"),
        ("/%61.txt", b"hello"),
        ("/.hidden", b"dot"),
        ("/a%5cb", b"backslash"),
        ("/sub/index.html", b"index"),
        ("/in", b"hello"),
        ("/absolute", b"hello"),
        ("/in-folder/index.html", b"index"),
        ("/in-folder/up", b"hello"),
    ],
)
def test_there(tree: Path, path: str, content: bytes) -> None:
    """Files, index files, and links that stay inside."""
    assert read(tree, path) == content
    assert read(tree.parent / "current", path) == content


@pytest.mark.parametrize("names", [(), (b"sub",), (b"in-folder",), (b"trap", b"index.html")])
def test_folders(tree: Path, names: tuple[bytes, ...]) -> None:
    """A folder is no file, and is opened as what it is; a file is no folder."""
    with pytest.raises(IsADirectoryError):
        open_below(str(tree), names)
    fd = open_folder_below(str(tree), names)
    assert os.path.isdir(f"/proc/self/fd/{fd}")
    os.close(fd)
    for name in (b"a.txt", b"fifo", b"out-folder", b"out"):
        with pytest.raises(FileNotFoundError):
            open_folder_below(str(tree), (*names, name))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/out", SECRET),
        ("/out-folder/secret", SECRET),
        ("/chain", SECRET),
        ("/a.txt", b"hello"),
        ("/in-folder/up", b"hello"),
    ],
)
def test_links_that_may_lead_out(tree: Path, path: str, content: bytes) -> None:
    """When that is allowed."""
    assert read(tree, path, links_out=True) == content


@pytest.mark.parametrize("path", ["/device", "/fifo", "/socket", "/round", "/nowhere", "/..%2fsecret", "/a.txt/x"])
def test_links_that_may_lead_out_lead_to_files(tree: Path, path: str) -> None:
    """To regular ones, and the path itself does not climb."""
    with pytest.raises(FileNotFoundError):
        content(str(tree), segments_of(path) or (b"..", b"secret"), links_out=True)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
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
    """Not there, outside, or no regular file."""
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
    """A file, or gone."""
    for root in (tree / "a.txt", tree / "gone"):
        for names in ((), (b"a.txt",)):
            with pytest.raises(FileNotFoundError):
                open_below(str(root), names)
            with pytest.raises(FileNotFoundError):
                open_folder_below(str(root), names)


@pytest.mark.parametrize("name", [b"..", b".", b"../secret", b"/etc/passwd", b"a\0b", b""])
def test_segments_that_are_no_names(tree: Path, name: bytes) -> None:
    """It relies on nobody to have looked before."""
    assert not is_name(name)
    for segments in ((name,), (name, b"a.txt"), (b"sub", name, b"a.txt")):
        for links_out in (False, True):
            with pytest.raises(FileNotFoundError):
                open_below(str(tree), segments, links_out=links_out)


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
        read(tree, "/in-folder/index.html")
    monkeypatch.undo()
    assert os.listdir("/proc/self/fd") == descriptors


def test_what_was_resolved_changes_meanwhile(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is walked without following links, so that a folder made a link in between leads nowhere."""
    monkeypatch.setattr(files, "_resolve", lambda root, _names: (os.fsencode(root), [b"out-folder", b"secret"]))
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        read(tree, "/in-folder/index.html")
    monkeypatch.setattr(files, "_resolve", lambda root, _names: (os.fsencode(root), [b"out"]))
    with pytest.raises(FileNotFoundError):
        read(tree, "/in-folder/index.html")
    assert os.listdir("/proc/self/fd") == descriptors


def test_a_tree_that_never_rests(tmp_path: Path) -> None:
    """A folder that is by turns itself and a link to one outside, as fast as it can: never what is outside."""
    root, inside, link, here = (tmp_path / one for one in ("root", "root/inside", "root/link", "root/here"))
    inside.mkdir(parents=True)
    (inside / "f").write_bytes(b"mine")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_bytes(SECRET)
    link.symlink_to("../outside")
    inside.rename(here)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            here.rename(inside)
            link.rename(here)
            here.rename(link)
            inside.rename(here)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(3000):
            try:
                seen.add(content(str(root), (b"here", b"f")))
            except FileNotFoundError:
                seen.add(b"")
    finally:
        stop.set()
        thread.join()
    assert SECRET not in seen


PARTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "%2e%2e", "%2e", "..%2f", "%5c..", "%00", "secret", "root", "root-beside", "sub", "a.txt", "in",
         "out", "out-folder", "out-beside", "out-absolute", "chain", "in-folder", "absolute", "up", "fifo", "device",
         "etc", "passwd", "proc", "self", "root", "%2fetc%2fpasswd", "index.html"]
    ),
    st.text(max_size=5),
)  # fmt: skip


def check_that_it_is_inside(tree: Path, segments: Sequence[bytes]) -> None:
    for opening in (lambda: open_below(str(tree), segments).fd, lambda: open_folder_below(str(tree), segments)):
        try:
            fd = opening()
        except (FileNotFoundError, IsADirectoryError):
            continue
        where = os.readlink(f"/proc/self/fd/{fd}")
        os.close(fd)
        assert where == str(tree) or where.startswith(f"{tree}/")


@given(st.lists(PARTS, max_size=8))
def test_no_path_leads_outside(tree: Path, parts: list[str]) -> None:
    """Whatever is asked for, what is opened is inside the folder."""
    path = ("/" + "/".join(parts)).encode(errors="replace").decode("latin-1")
    check_that_it_is_inside(tree, segments_of(path) or ())


@given(st.lists(st.one_of(st.binary(max_size=6), PARTS.map(lambda one: one.encode(errors="replace"))), max_size=6))
def test_no_segments_lead_outside(tree: Path, segments: list[bytes]) -> None:
    """The same for segments that no path has."""
    check_that_it_is_inside(tree, segments)
