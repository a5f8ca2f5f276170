"""Static files: what is answered, over a real folder."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from support.heads import head

from appd.http.core.response import Parts, Response
from appd.http.routing import segments_of
from appd.http.site import Static
from appd.http.static import static
from appd.http.static.static import Folder

# Old enough for everything to be settled, and to the second.
THEN = 1_700_000_000
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
BEFORE, AFTER = "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"
ETAG = f'"{THEN * 10**9:x}-a"'


class Answer(NamedTuple):
    """A response whose body was read and whose file was closed, as whoever sends it does."""

    status: int
    fields: Mapping[str, str]
    body: bytes
    length: int | None


def sent(response: Response) -> Answer:
    body = response.body or b""
    if isinstance(body, Parts):
        pieces = [one if isinstance(one, bytes) else os.pread(body.descriptor, one[1], one[0]) for one in body.pieces]
        os.close(body.descriptor)
        body = b"".join(pieces)
        assert len(body) == response.length
    names = [name for name, _value in response.fields]
    assert len(names) == len(set(names))
    return Answer(response.status, dict(response.fields), body, response.length)


class Asked:
    """A folder `root` and how to ask for what is in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = 0.0
        # Far behind the change time of every file, which nobody can set.
        self.now = time.time() + 1000
        self.folder = self.over()

    def over(self, **keys: object) -> Folder:
        serves = Static(str(self.root))._replace(**keys)
        self.folder = Folder(serves, lambda: self.clock, lambda: self.now)
        return self.folder

    def __call__(self, target: str, method: str = "GET", **fields: str) -> Answer:
        request = head(target, method, **fields)
        segments = segments_of(request.path)
        assert segments is not None
        return sent(self.folder.respond(request, segments))

    def write(self, name: str, content: bytes, modified: float = THEN) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (modified, modified))
        return file


@pytest.fixture
def ask(tmp_path: Path) -> Asked:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    asked = Asked(root)
    asked.write("a.txt", b"0123456789")
    asked.write("sub/index.html", b"index")
    return asked


@pytest.fixture(autouse=True)
def no_descriptor_stays_open() -> Iterator[None]:
    """Whatever is answered."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture(params=["first", "again"])
def warm(request: pytest.FixtureRequest, ask: Asked) -> Asked:
    """The same when the file is known already."""
    if request.param == "again":
        assert ask("/a.txt").status == 200
    return ask


def test_a_file(warm: Asked) -> None:
    """All that is known of it."""
    assert warm("/a.txt") == Answer(
        200,
        {
            "Content-Type": "text/plain; charset=utf-8",
            "Accept-Ranges": "bytes",
            "ETag": ETAG,
            "Last-Modified": MODIFIED,
        },
        b"0123456789",
        10,
    )


def test_head(warm: Asked) -> None:
    """The same without the body; a range is for GET alone (RFC 9110, 14.2)."""
    got = warm("/a.txt")
    for fields in ({}, {"Range": "bytes=0-1"}):
        assert warm("/a.txt", "HEAD", **fields) == got._replace(body=b"")


def test_an_empty_file(ask: Asked) -> None:
    """Has a length and no body."""
    ask.write("empty", b"")
    for _ in range(2):
        answer = ask("/empty", Range="bytes=0-5")
        assert (answer.status, answer.body, answer.length) == (200, b"", 0)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get"])
def test_other_methods(ask: Asked, method: str) -> None:
    """405 with those that are allowed, whatever the path."""
    for target in ("/a.txt", "/nothing"):
        answer = ask(target, method)
        assert (answer.status, answer.fields["Allow"]) == (405, "GET, HEAD, OPTIONS")


def test_options(ask: Asked) -> None:
    """Says which methods there are."""
    assert ask("/a.txt", "OPTIONS") == Answer(204, {"Allow": "GET, HEAD, OPTIONS"}, b"", None)


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/sub", "/sub/"),
        ("/sub?a=b&c", "/sub/?a=b&c"),
        ("/%73ub", "/%73ub/"),
        ("/odd%20%22name", "/odd%20%22name/"),
        ('/sub?\\"<>', "/sub/?%5C%22%3C%3E"),
    ],
)
def test_a_slash_is_missing(ask: Asked, target: str, location: str) -> None:
    """The way to the folder, with the query."""
    ask.write('odd "name/index.html', b"odd")
    for method in ("GET", "HEAD"):
        answer = ask(target, method)
        assert (answer.status, answer.fields["Location"]) == (301, location)


@pytest.mark.parametrize("target", ["//evil.example", "//evil.example/..%2f", "/%2fevil.example", "/\\evil.example"])
def test_never_to_another_host(ask: Asked, target: str) -> None:
    """However the folder may be called."""
    ask.write("evil.example/index.html", b"mine")
    ask.write("\\evil.example/index.html", b"mine")
    segments = segments_of(head(target).path)
    if segments is None:
        return
    answer = ask(target)
    assert answer.status == 404 or answer.fields["Location"] == "/%5Cevil.example/"


def test_the_mount_itself(ask: Asked) -> None:
    """Its path without a slash is one of a folder."""
    ask.write("index.html", b"top")
    assert sent(ask.folder.respond(head("/media?x"), ())).fields["Location"] == "/media/?x"
    assert ask("/").body == b"top"


@pytest.mark.parametrize("target", ["/", "/nothing", "/bare", "/bare/", "/a.txt/", "/trap/", "/sub/index.html/"])
def test_not_found(ask: Asked, target: str) -> None:
    """Not there, or a folder without an index file."""
    (ask.root / "bare").mkdir()
    (ask.root / "trap" / "index.html").mkdir(parents=True)
    answer = ask(target)
    assert answer == Answer(404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 Not Found\n", None)


def test_another_index_file(ask: Asked) -> None:
    """By its name, and no other."""
    ask.write("start.htm", b"start")
    ask.over(index_file="start.htm")
    assert ask("/").body == b"start"
    assert ask("/sub/").status == 404


@pytest.mark.parametrize("target", ["/.env", "/.git/config", "/sub/.htpasswd", "/.git/", "/.git", "/%2egit/config"])
def test_hidden_files(ask: Asked, target: str) -> None:
    """Not found unless that is allowed."""
    for name in (".env", ".git/config", ".git/index.html", "sub/.htpasswd"):
        ask.write(name, b"hidden")
    assert ask(target).status == 404
    ask.over(hidden=True)
    assert ask(target).status in (200, 301)


def test_well_known_files(ask: Asked) -> None:
    """RFC 8615: a certificate's challenge is found."""
    ask.write(".well-known/acme-challenge/token", b"proof")
    ask.write(".well-known/.secret", b"hidden")
    assert ask("/.well-known/acme-challenge/token").body == b"proof"
    assert ask("/.well-known/.secret").status == 404


def test_links(ask: Asked) -> None:
    """Out of the folder only when that is allowed, and inside always; also when they were known."""
    (ask.root / "in").symlink_to("a.txt")
    (ask.root / "out").symlink_to("../secret")
    assert ask("/in").body == b"0123456789"
    assert ask("/out").status == 404
    (ask.root / "in").unlink()
    (ask.root / "in").symlink_to("../secret")
    assert ask("/in").status == 404
    ask.over(links_out=True)
    assert ask("/in").body == ask("/out").body == b"secret"


@pytest.mark.parametrize("change", ["write", "replace", "append", "link out", "remove", "folder", "fifo", "touch"])
def test_what_is_known_stays_true(ask: Asked, change: str) -> None:
    """Without waiting for anything: each answer asks the kernel."""
    file = ask.root / "a.txt"
    known = ask("/a.txt")
    if change == "write":
        ask.write("a.txt", b"abcdefghij")
    elif change == "replace":
        ask.write("new", b"abcdefghij").rename(file)
    elif change == "append":
        with file.open("ab") as stream:
            stream.write(b"abc")
    elif change == "touch":
        os.utime(file, (THEN + 5, THEN + 5))
    else:
        file.unlink()
        if change == "link out":
            file.symlink_to("../secret")
        if change == "folder":
            file.mkdir()
        if change == "fifo":
            os.mkfifo(file)
    answer = ask("/a.txt")
    if change in ("write", "replace"):
        # To the second, the size and the tag as it was, which is what rsync takes for the same file too.
        assert (answer.status, answer.body) == (200, b"abcdefghij")
    elif change == "append":
        assert answer.body == b"0123456789abc"
        assert answer.fields["ETag"] != known.fields["ETag"]
    elif change == "touch":
        assert answer.fields["ETag"] != known.fields["ETag"]
    else:
        assert answer.status == 404


def test_a_folder_that_has_moved_out(ask: Asked, tmp_path: Path) -> None:
    """A link in its place leads out of the root; the file itself has not changed, and is remembered for a second."""
    assert ask("/sub/").body == b"index"
    (ask.root / "sub").rename(tmp_path / "sub")
    (ask.root / "sub").symlink_to("../sub")
    ask.clock += 1
    assert ask("/sub/").status == 404


def test_a_deployment_by_link(tmp_path: Path, ask: Asked) -> None:
    """The root may be a link, and another one from now on."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "v").write_bytes(name.encode())
    (tmp_path / "current").symlink_to("one")
    folder = Folder(Static(str(tmp_path / "current")))
    assert sent(folder.respond(head("/v"), (b"v",))).body == b"one"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "current")
    assert sent(folder.respond(head("/v"), (b"v",))).body == b"two"


def test_only_so_much_is_remembered(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files are asked for."""
    monkeypatch.setattr(static, "_MOST_REMEMBERED", 10)
    for number in range(35):
        ask.write(f"{number}", b"x")
        assert ask(f"/{number}").status == 200
        assert len(ask.folder._known) <= 10


@pytest.mark.parametrize(("error", "status"), [(errno.EMFILE, 503), (errno.ENFILE, 503), (errno.EACCES, 403)])
def test_trouble(ask: Asked, monkeypatch: pytest.MonkeyPatch, error: int, status: int) -> None:
    """What cannot be opened now may be later; what may not be read is known."""

    def fail(*_args: object, **_keywords: object) -> int:
        raise OSError(error, "trouble")

    monkeypatch.setattr(os, "open", fail)
    answer = ask("/a.txt")
    monkeypatch.undo()
    assert answer.status == status
    assert ("Retry-After" in answer.fields) is (status == 503)


def test_trouble_that_somebody_must_see(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails is no answer."""

    def fail(*_args: object, **_keywords: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match="Input/output"):
        ask("/a.txt")
    monkeypatch.undo()


# Versions and conditions.


def test_a_tag_is_weak_at_first(ask: Asked) -> None:
    """Two changes in a tick look the same: RFC 9110, 8.8.1."""
    ask.now = os.stat(ask.root / "a.txt").st_ctime + 0.5
    weak = ask("/a.txt").fields["ETag"]
    assert weak == f"W/{ETAG}"
    ask.clock += 1
    ask.now += 10
    assert ask("/a.txt").fields["ETag"] == ETAG
    assert ask("/a.txt", If_None_Match=weak).status == 304


def test_a_file_from_the_future(ask: Asked) -> None:
    """RFC 9110, 8.8.2.1: no date of modification lies there."""
    ask.write("late", b"x", ask.now + 5000)
    answer = ask("/late")
    assert answer.fields["Last-Modified"] == time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(ask.now))
    assert answer.fields["ETag"].startswith("W/")


@pytest.mark.parametrize("modified", [0, 1])
def test_a_file_without_a_date(ask: Asked, modified: int) -> None:
    """Stores that are reproducible give every file the same: it tells nothing."""
    ask.write("store", b"x", modified)
    answer = ask("/store")
    assert not {"ETag", "Last-Modified"} & answer.fields.keys()
    assert ask("/store", If_None_Match="*").status == 304
    for fields in ({"If_None_Match": '""'}, {"If_Modified_Since": AFTER}, {"If_Match": "*"}):
        assert ask("/store", **fields).status == 200
    for fields in ({"If_Match": ETAG}, {"If_Unmodified_Since": AFTER}):
        assert ask("/store", **fields).status == 412


def test_not_modified(warm: Asked) -> None:
    """What guides a cache, and nothing else: RFC 9110, 15.4.5."""
    for method in ("GET", "HEAD"):
        answer = warm("/a.txt", method, If_None_Match=ETAG)
        assert answer == Answer(304, {"ETag": ETAG, "Last-Modified": MODIFIED}, b"", None)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": f'"x", {ETAG}'}, 304),
        ({"If_None_Match": f"W/{ETAG}"}, 304),
        ({"If_None_Match": '"x", W/"y"'}, 200),
        ({"If_None_Match": ETAG.strip('"')}, 200),
        ({"If_Modified_Since": MODIFIED}, 304),
        ({"If_Modified_Since": AFTER}, 304),
        ({"If_Modified_Since": BEFORE}, 200),
        ({"If_Modified_Since": "Tuesday, 14-Nov-23 22:13:20 GMT"}, 304),
        ({"If_Modified_Since": "Tue Nov 14 22:13:20 2023"}, 304),
        ({"If_Modified_Since": "yesterday"}, 200),
        ({"If_Modified_Since": f"{MODIFIED}; length=10"}, 200),
        # If-None-Match goes before the date, either way.
        ({"If_None_Match": '"x"', "If_Modified_Since": MODIFIED}, 200),
        ({"If_None_Match": ETAG, "If_Modified_Since": BEFORE}, 304),
        ({"If_Match": ETAG}, 200),
        ({"If_Match": f'"x" ,{ETAG}'}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_Match": '"x"'}, 412),
        ({"If_Match": f"W/{ETAG}"}, 412),
        ({"If_Match": "nonsense"}, 412),
        ({"If_Unmodified_Since": MODIFIED}, 200),
        ({"If_Unmodified_Since": AFTER}, 200),
        ({"If_Unmodified_Since": BEFORE}, 412),
        ({"If_Unmodified_Since": "yesterday"}, 200),
        # If-Match goes before the date, and both before what asks for a 304 (13.2.2).
        ({"If_Match": ETAG, "If_Unmodified_Since": BEFORE}, 200),
        ({"If_Match": '"x"', "If_Unmodified_Since": AFTER}, 412),
        ({"If_Match": '"x"', "If_None_Match": ETAG}, 412),
        ({"If_Match": ETAG, "If_None_Match": ETAG}, 304),
        ({"If_Unmodified_Since": BEFORE, "If_Modified_Since": MODIFIED}, 412),
        # A condition is weighed before a range.
        ({"If_None_Match": ETAG, "Range": "bytes=0-1"}, 304),
        ({"If_Match": '"x"', "Range": "bytes=0-1"}, 412),
        ({"If_Match": ETAG, "Range": "bytes=0-1"}, 206),
        ({"If_None_Match": ETAG, "Range": "bytes=99-"}, 304),
    ],
)
def test_conditions(warm: Asked, fields: dict[str, str], status: int) -> None:
    """In the order of RFC 9110, 13.2.2."""
    assert warm("/a.txt", **fields).status == status


# Ranges.


@pytest.mark.parametrize(
    ("field", "content_range", "body"),
    [
        ("bytes=0-0", "bytes 0-0/10", b"0"),
        ("bytes=2-4", "bytes 2-4/10", b"234"),
        ("bytes=7-", "bytes 7-9/10", b"789"),
        ("bytes=-3", "bytes 7-9/10", b"789"),
        ("bytes=0-99", "bytes 0-9/10", b"0123456789"),
        ("bytes=2-4,6-7", "bytes 2-7/10", b"234567"),
    ],
)
def test_a_range(warm: Asked, field: str, content_range: str, body: bytes) -> None:
    """A part, with all that a whole file would have said."""
    whole = warm("/a.txt")
    answer = warm("/a.txt", Range=field)
    assert (answer.status, answer.body, answer.length) == (206, body, len(body))
    assert answer.fields == {**whole.fields, "Content-Range": content_range}


def test_a_range_outside(warm: Asked) -> None:
    """416, and how long the file is."""
    answer = warm("/a.txt", Range="bytes=10-")
    assert (answer.status, answer.fields["Content-Range"]) == (416, "bytes */10")
    assert "ETag" not in answer.fields


def test_several_ranges(ask: Asked) -> None:
    """One body of parts, each with its place: RFC 9110, 14.6."""
    content = bytes(range(256)) * 4
    ask.write("b.bin", content)
    answer = ask("/b.bin", Range="bytes=900-909,0-4")
    kind, _, boundary = answer.fields["Content-Type"].partition("; boundary=")
    assert (answer.status, kind, len(boundary)) == (206, "multipart/byteranges", 32)
    assert "Content-Range" not in answer.fields and answer.fields["ETag"]
    expected = (
        f"--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 900-909/1024\r\n\r\n".encode()
        + content[900:910]
        + f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 0-4/1024\r\n\r\n".encode()
        + content[:5]
        + f"\r\n--{boundary}--\r\n".encode()
    )
    assert answer.body == expected
    assert ask("/b.bin", Range="bytes=900-909,0-4").fields["Content-Type"] != answer.fields["Content-Type"]


def test_an_attack_by_ranges(ask: Asked) -> None:
    """CVE-2011-3192: many overlapping ones make a large answer out of a small file."""
    ask.write("b.bin", bytes(20_000))
    many = ask("/b.bin", Range="bytes=0-," + ",".join(f"5-{one}" for one in range(5, 1300)))
    assert (many.status, many.length) == (200, 20_000)
    few = ask("/b.bin", Range="bytes=" + ",".join(["0-"] * 32))
    assert (few.status, few.length) == (206, 20_000)


@pytest.mark.parametrize(
    ("field", "status"),
    [
        (ETAG, 206),
        (MODIFIED, 206),
        (f"W/{ETAG}", 200),
        ('"x"', 200),
        (AFTER, 200),
        (BEFORE, 200),
        ("Tuesday, 14-Nov-23 22:13:20 GMT", 200),
        ("", 200),
        ("nonsense", 200),
    ],
)
def test_if_range(warm: Asked, field: str, status: int) -> None:
    """A part only of the very version that the client has."""
    assert warm("/a.txt", Range="bytes=0-1", If_Range=field).status == status
    # Outside of another version than it has, there is nothing wrong.
    assert warm("/a.txt", Range="bytes=99-", If_Range=field).status == (416 if status == 206 else 200)


def test_if_range_of_what_is_not_settled(ask: Asked) -> None:
    """A weak tag, or a date that may stand for two versions, is not good enough (13.1.5)."""
    ask.now = os.stat(ask.root / "a.txt").st_ctime + 0.5
    answer = ask("/a.txt")
    for field in (answer.fields["ETag"], answer.fields["Last-Modified"]):
        assert ask("/a.txt", Range="bytes=0-1", If_Range=field).status == 200
    assert ask("/a.txt", Range="bytes=0-1").status == 206


# Compressed copies.


@pytest.fixture
def copies(ask: Asked) -> Asked:
    ask.write("app.js", b"plain script")
    ask.write("app.js.gz", b"gzipped")
    ask.write("app.js.br", b"brotli")
    ask.write("app.js.zst", b"zstandard")
    return ask


@pytest.mark.parametrize(
    ("field", "coding", "body"),
    [
        ("gzip", "gzip", b"gzipped"),
        ("gzip, deflate, br, zstd", "br", b"brotli"),
        ("gzip, zstd", "zstd", b"zstandard"),
        ("br;q=0.5, gzip;q=0.8", "gzip", b"gzipped"),
        ("br;q=0, gzip;q=0", None, b"plain script"),
        ("", None, b"plain script"),
        ("identity", None, b"plain script"),
        ("*", "br", b"brotli"),
        ("identity;q=0.5, *;q=0.1", None, b"plain script"),
    ],
)
def test_a_copy(copies: Asked, field: str, coding: str | None, body: bytes) -> None:
    """The one that the client likes best."""
    for _ in range(2):
        answer = copies("/app.js", Accept_Encoding=field)
        assert (answer.status, answer.body, answer.fields.get("Content-Encoding")) == (200, body, coding)
        assert answer.fields["Content-Type"] == "text/javascript; charset=utf-8"
        assert answer.fields["Vary"] == "Accept-Encoding"
        assert answer.length == len(body)


def test_each_copy_has_its_tag(copies: Asked) -> None:
    """And its own 304 and ranges; a tag of another copy is one of another version."""
    tags = {copies("/app.js", Accept_Encoding=one).fields["ETag"] for one in ("", "gzip", "br", "zstd")}
    assert len(tags) == 4
    tag = copies("/app.js", Accept_Encoding="br").fields["ETag"]
    known = copies("/app.js", Accept_Encoding="br", If_None_Match=tag)
    assert (known.status, known.fields["Vary"]) == (304, "Accept-Encoding")
    assert copies("/app.js", If_None_Match=tag).status == 200
    part = copies("/app.js", Accept_Encoding="br", Range="bytes=2-3", If_Range=tag)
    assert (part.status, part.body, part.fields["Content-Range"]) == (206, b"ot", "bytes 2-3/6")
    assert part.fields["Content-Encoding"] == "br"
    assert copies("/app.js", Accept_Encoding="gzip", Range="bytes=2-3", If_Range=tag).status == 200


def test_several_ranges_of_a_copy(copies: Asked) -> None:
    """All of it instead: a content coding is not one of parts."""
    copies.write("app.js.br", bytes(1000))
    answer = copies("/app.js", Accept_Encoding="br", Range="bytes=0-0,900-900")
    assert (answer.status, answer.length, answer.fields["Content-Encoding"]) == (200, 1000, "br")


def test_copies_that_do_not_count(copies: Asked) -> None:
    """Older than the file, not a file, or leading out of the folder."""
    copies.write("app.js", b"new script", THEN + 10)
    copies.write("app.js.zst", b"new zstandard", THEN + 10)
    for suffix in ("br", "gz"):
        (copies.root / f"app.js.{suffix}").unlink()
    (copies.root / "app.js.br").mkdir()
    (copies.root / "app.js.gz").symlink_to("../../secret")
    assert copies("/app.js", Accept_Encoding="br, gzip").body == b"new script"
    assert copies("/app.js", Accept_Encoding="br, gzip, zstd").body == b"new zstandard"
    copies.write("app.js", b"newer script", THEN + 20)
    answer = copies("/app.js", Accept_Encoding="zstd")
    assert answer.body == b"newer script"
    assert "Vary" not in answer.fields


def test_no_copies(copies: Asked) -> None:
    """When they are not wanted."""
    copies.over(precompressed=False)
    answer = copies("/app.js", Accept_Encoding="br")
    assert answer.body == b"plain script"
    assert "Vary" not in answer.fields


def test_a_copy_that_was_asked_for(copies: Asked) -> None:
    """Under its own name it is a file."""
    answer = copies("/app.js.gz", Accept_Encoding="gzip")
    assert (answer.body, answer.fields["Content-Type"]) == (b"gzipped", "application/gzip")
    assert "Content-Encoding" not in answer.fields


def test_a_copy_that_comes_later(ask: Asked) -> None:
    """Is seen within a second."""
    ask.write("app.js", b"plain")
    assert ask("/app.js", Accept_Encoding="gzip").body == b"plain"
    ask.write("app.js.gz", b"gzipped")
    ask.clock += 1
    assert ask("/app.js", Accept_Encoding="gzip").body == b"gzipped"


def test_a_copy_that_changes(copies: Asked) -> None:
    """Is seen at once."""
    assert copies("/app.js", Accept_Encoding="gzip").body == b"gzipped"
    copies.write("app.js.gz", b"gzipped anew", THEN + 1)
    assert copies("/app.js", Accept_Encoding="gzip").body == b"gzipped anew"
    (copies.root / "app.js.gz").unlink()
    assert copies("/app.js", Accept_Encoding="gzip").body == b"plain script"


def test_an_svgz(ask: Asked) -> None:
    """Is compressed by its nature."""
    ask.write("x.svgz", bytes(1000))
    answer = ask("/x.svgz", Range="bytes=0-0,900-900")
    assert (answer.status, answer.fields["Content-Type"], answer.fields["Content-Encoding"]) == (
        200,
        "image/svg+xml",
        "gzip",
    )


# What a file's fields may be told.


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, None),
        ({"max_age": 60}, "max-age=60"),
        ({"max_age": 0}, "max-age=0"),
        ({"max_age": 31536000, "immutable": True}, "max-age=31536000, immutable"),
    ],
)
def test_cache_control(ask: Asked, keys: dict[str, object], says: str | None) -> None:
    """Of what was found, and never of an error, which caches would keep as long."""
    ask.over(**keys)
    assert ask("/a.txt").fields.get("Cache-Control") == says
    assert ask("/a.txt", If_None_Match=ETAG).fields.get("Cache-Control") == says
    assert ask("/a.txt", Range="bytes=0-1").fields.get("Cache-Control") == says
    for answer in (ask("/nothing"), ask("/sub"), ask("/a.txt", Range="bytes=99-"), ask("/a.txt", If_Match='"x"')):
        assert "Cache-Control" not in answer.fields


def test_charset(ask: Asked) -> None:
    """Of text, or none."""
    ask.over(charset="iso-8859-1")
    assert ask("/a.txt").fields["Content-Type"] == "text/plain; charset=iso-8859-1"
    ask.over(charset="")
    assert ask("/a.txt").fields["Content-Type"] == "text/plain"


# Listings.


def test_a_listing(ask: Asked) -> None:
    """Folders first, by name, escaped; nothing that is not served."""
    names = ["b.txt", "<script>alert(1)</script>", "a&b", "c:d", "100%", ".hidden", "ä"]
    for name in names:
        ask.write(f"list/{name.replace('/', '%')}", b"x" * 1234)
    (ask.root / "list" / "folder").mkdir()
    (ask.root / "list" / "in").symlink_to("../a.txt")
    (ask.root / "list" / "in-folder").symlink_to("../sub")
    (ask.root / "list" / "out").symlink_to("/etc/passwd")
    (ask.root / "list" / "out-folder").symlink_to("/etc")
    os.mkfifo(ask.root / "list" / "fifo")
    ask.over(listing=True)
    assert ask("/list").fields["Location"] == "/list/"
    answer = ask("/list/")
    text = answer.body.decode()
    assert answer.fields == {"Content-Type": "text/html; charset=utf-8"}
    assert "<script>" not in text and "&lt;script&gt;alert(1)&lt;%script&gt;" in text and "a&amp;b" in text
    assert "<h1>/list/</h1>" in text and "1,234" in text and MODIFIED in text
    hrefs = [one.partition('"')[0] for one in text.split('href="')[1:]]
    assert hrefs[:3] == ["../", "./folder/", "./in-folder/"]
    assert hrefs[3:] == sorted(hrefs[3:], key=lambda one: one.encode()) or len(hrefs) == 10
    assert set(hrefs[3:]) == {
        "./100%25",
        "./%3Cscript%3Ealert%281%29%3C%25script%3E",
        "./a%26b",
        "./b.txt",
        "./c%3Ad",
        "./in",
        "./%C3%A4",
    }
    for href in hrefs[1:]:
        assert ask(f"/list/{href[2:]}").status == 200


def test_listings_at_the_top_and_when_they_are_not_wanted(ask: Asked) -> None:
    """There is nothing above the folder of the mount; an index file goes first."""
    assert ask("/").status == 404
    ask.over(listing=True)
    assert b'href="../"' not in ask("/").body
    assert ask("/sub/").body == b"index"
    assert ask("/", "HEAD").status == 200


def test_a_listing_has_an_end(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that there is more."""
    from appd.http.static import listing

    monkeypatch.setattr(listing, "_MOST", 5)
    for number in range(9):
        ask.write(f"many/{number}", b"")
    ask.over(listing=True)
    assert b"and more than these 5" in ask("/many/").body


def test_a_listing_with_hidden_files_and_links_out(ask: Asked) -> None:
    """When both are allowed."""
    ask.write(".hidden", b"")
    (ask.root / "out").symlink_to("/etc/passwd")
    ask.over(listing=True, hidden=True, links_out=True)
    text = ask("/").body
    assert b"./.hidden" in text and b"./out" in text


def test_a_name_that_is_no_text(ask: Asked) -> None:
    """Bytes that are not UTF-8 are listed, and found again."""
    name = os.fsencode(ask.root) + b"/\xff.txt"
    with open(name, "wb") as file:
        file.write(b"bytes")
    ask.over(listing=True)
    assert b'href="./%FF.txt"' in ask("/").body
    assert ask("/%FF.txt").body == b"bytes"
