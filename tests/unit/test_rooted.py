"""Files below a folder: what can be done, and that nothing leads out."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time

import pytest

from appd.servers.rooted import Root


@pytest.fixture
def tree(tmp_path):
    """A folder with files and links, and a secret beside it."""
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "x").write_text("outside")
    links = {
        "good": "a/file", "folder": "a", "a/up": "../a/file", "a/b/top": "../..", "absolute": f"{top}/a/file",
        "absolute-folder": f"{top}/a", "again": "good",
        "out": "../secret", "a/out": "../../secret", "out-folder": "../secrets", "out-absolute": f"{tmp_path}/secret",
        "etc": "/etc", "loop": "loop", "beside": f"{top}x", "sneaky": f"{top}/../secret", "a/b/round": "../../../secret",
        "dangling": "nothing", "dangling-out": "../new",
    }  # fmt: skip
    for name, target in links.items():
        (top / name).symlink_to(target)
    (tmp_path / "topx").write_text("outside")
    return top


def content(root, path):
    fd = root.open(path, os.O_RDONLY)
    with open(fd, "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    "path",
    ["a/file", "/a/file", "//a/./file", "a/../a/file", "../../a/file", "/../../../a/file", "good", "again", "folder/file",
     "a/up", "a/b/top/a/file", "absolute", "absolute-folder/file", "folder/b/top/good"],
)  # fmt: skip
def test_what_is_inside_is_there(tree, path):
    """By whatever way that stays inside; `..` stops at the top."""
    assert content(Root(str(tree)), path.encode()) == b"inside"


@pytest.mark.parametrize(
    "path",
    ["../secret", "/../secret", "a/../../secret", "out", "a/out", "out-folder/x", "out-absolute", "etc/passwd", "beside",
     "sneaky", "a/b/round", "a/b/top/out", "loop", "nothing", "a\0b", "x/" * 2100, "/etc/passwd", "%2e%2e/secret"],
)  # fmt: skip
def test_what_is_outside_is_not(tree, path):
    """Neither to read, nor to look at, nor to write, nor to remove, nor to list."""
    root, name = Root(str(tree)), path.encode()
    for attempt in (
        lambda: root.open(name, os.O_RDONLY),
        lambda: root.stat(name),
        lambda: root.open(name, os.O_WRONLY | os.O_TRUNC),
        lambda: root.entries(name),
        lambda: root.chmod(name, 0o777),
        lambda: root.utime(name, 0, 0),
        lambda: root.truncate(name, 0),
    ):
        with pytest.raises(OSError):
            attempt()
    assert (tree.parent / "secret").read_text() == "outside"


def test_what_is_made_is_inside(tree):
    """A new file behind a link that dangles to the outside is not made there."""
    root = Root(str(tree))
    with pytest.raises(OSError):
        root.open(b"dangling-out", os.O_WRONLY | os.O_CREAT)
    assert not (tree.parent / "new").exists()
    os.close(root.open(b"dangling", os.O_WRONLY | os.O_CREAT))
    assert (tree / "nothing").exists()
    os.close(root.open(b"../../made", os.O_WRONLY | os.O_CREAT, 0o6777))
    assert stat.S_IMODE((tree / "made").stat().st_mode) & 0o7000 == 0
    root.mkdir(b"/../new-folder")
    assert (tree / "new-folder").is_dir()
    with pytest.raises(FileExistsError):
        root.open(b"good", os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def test_links_themselves_are_removed_and_renamed(tree):
    """What they lead to stays."""
    root = Root(str(tree))
    assert stat.S_ISLNK(root.stat(b"out", follow=False).st_mode)
    assert root.readlink(b"out") == b"../secret"
    root.rename(b"out", b"moved")
    root.unlink(b"moved")
    assert (tree.parent / "secret").read_text() == "outside"


def test_a_rename_replaces_only_if_told(tree):
    """Of files and of folders."""
    root = Root(str(tree))
    (tree / "other").write_text("other")
    with pytest.raises(FileExistsError):
        root.rename(b"other", b"a/file")
    (tree / "empty").mkdir()
    with pytest.raises(FileExistsError):
        root.rename(b"a/b", b"empty")
    root.rename(b"other", b"a/file", replace=True)
    assert content(root, b"a/file") == b"other" and not (tree / "other").exists()
    root.rename(b"a/file", b"back")
    assert content(root, b"back") == b"other" and not (tree / "a/file").exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "a/../../secret", "", "../../x"])
def test_no_link_is_made_that_leads_out(tree, target):
    """Other programs would follow it."""
    with pytest.raises(PermissionError):
        Root(str(tree)).symlink(target.encode(), b"made")
    assert not (tree / "made").is_symlink()


def test_links_that_stay_inside_are_made(tree):
    """Relative ones."""
    root = Root(str(tree))
    root.symlink(b"../a/file", b"a/made")
    assert content(root, b"a/made") == b"inside"


def test_attributes(tree):
    """Modes without set-user-ID, times, lengths; folders too."""
    root = Root(str(tree))
    root.chmod(b"good", 0o4751)
    root.truncate(b"good", 3)
    root.utime(b"good", 1000, 2000)
    found = root.stat(b"a/file")
    assert stat.S_IMODE(found.st_mode) == 0o751 and found.st_mtime == 2000 and found.st_size == 3
    root.chmod(b"a/b", 0o700)
    assert [one.name for one in root.entries(b"folder")] == [b"b", b"file", b"out", b"up"]
    assert root.stat(b"").st_ino == root.stat(b"/").st_ino == tree.stat().st_ino


def test_read_only(tree):
    """Nothing is changed, by any way."""
    root = Root(str(tree), read_only=True)
    assert content(root, b"good") == b"inside"
    for attempt in (
        lambda: root.open(b"x", os.O_WRONLY | os.O_CREAT),
        lambda: root.open(b"a/file", os.O_RDWR),
        lambda: root.open(b"a/file", os.O_RDONLY | os.O_TRUNC),
        lambda: root.mkdir(b"x"),
        lambda: root.rmdir(b"a/b"),
        lambda: root.unlink(b"a/file"),
        lambda: root.rename(b"a/file", b"x"),
        lambda: root.symlink(b"a", b"x"),
        lambda: root.chmod(b"a/file", 0o777),
        lambda: root.utime(b"a/file", 0, 0),
        lambda: root.truncate(b"a/file", 0),
    ):
        with pytest.raises(PermissionError):
            attempt()


def test_only_regular_files_are_opened(tree):
    """A FIFO would wait for somebody, a folder is none."""
    os.mkfifo(tree / "fifo")
    root = Root(str(tree))
    for path, error in ((b"fifo", PermissionError), (b"a", IsADirectoryError)):
        for flags in (os.O_RDONLY, os.O_WRONLY):
            with pytest.raises(error):
                root.open(path, flags)


def test_a_tree_that_never_rests(tree):
    """While a folder and a link to the outside take each other's place, nothing of the outside is seen."""
    over = threading.Event()
    (tree.parent / "secrets" / "file").write_text("outside")
    (tree / "swap").mkdir()
    (tree / "swap" / "file").write_text("inside")
    (tree / "swap-link").symlink_to("../secrets")

    def swap():
        while not over.is_set():
            for old, new in (("swap", "t"), ("swap-link", "swap"), ("swap", "swap-link"), ("t", "swap")):
                os.rename(tree / old, tree / new)

    thread = threading.Thread(target=swap)
    thread.start()
    root, seen = Root(str(tree)), set()
    try:
        tries, ends = 0, time.monotonic() + 30
        # On a busy machine the other thread may rest at the link for longer than all of the tries take.
        while tries < 3000 or (not seen and time.monotonic() < ends):
            tries += 1
            try:
                seen.add(content(root, b"swap/file"))
            except OSError:
                continue
    finally:
        over.set()
        thread.join()
    assert seen == {b"inside"}


def test_no_descriptor_is_left(tree):
    """Whatever came out of it."""
    root = Root(str(tree))
    before = len(os.listdir("/proc/self/fd"))
    for path in (b"a/file", b"out", b"loop", b"a/b/top/a/file", b"none/x", b"a/file/x"):
        for call in (root.stat, root.entries):
            with contextlib.suppress(OSError):
                call(path)
    assert len(os.listdir("/proc/self/fd")) == before
