"""Static files under whatever is asked: nothing outside, nothing hidden, and every answer is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appd.http.core.request import Request
from appd.http.core.response import Parts
from appd.http.routing import segments_of
from appd.http.site import Static
from appd.http.static.static import Folder

SECRET = b"secret"
# Whose length is no multiple of anything.
CONTENT = bytes(range(251)) * 8

PARTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "...", "%2e%2e", "%2E.", "..%2f", "..%5c", "\\..", "%00", "a.bin%00", "secret", "root", "sub",
         "a.bin", "a%2Ebin", "in", "in-folder", "out", "out-folder", "absolute", ".hidden", "%2ehidden", ".git", "config",
         ".well-known", "token", "index.html", "fifo", "etc", "passwd", "proc", "self", "environ", "%2fetc%2fpasswd",
         "%c0%ae%c0%ae", "%252e%252e", "a.bin.gz"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5),
)  # fmt: skip
RANGES = st.lists(st.from_regex(r"[0-9]{0,4}-[0-9]{0,4}", fullmatch=True), max_size=6).map(
    lambda specs: "bytes=" + ",".join(specs)
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "range": RANGES,
        "if-range": st.sampled_from(['"x"', "Tue, 14 Nov 2023 22:13:20 GMT", ""]),
        "if-none-match": st.sampled_from(["*", '"x"', "x"]),
        "if-match": st.sampled_from(["*", '"x"']),
        "accept-encoding": st.sampled_from(["gzip", "br, *;q=0.1", "identity;q=0", ""]),
    },
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all sorts of things in it and secrets around it."""
    base = tmp_path_factory.mktemp("static")
    root = base / "root"
    for name in ("sub", ".git", ".well-known", "bare"):
        (root / name).mkdir(parents=True)
    (base / "secret").write_bytes(SECRET)
    for name in (".hidden", ".git/config", ".git/index.html"):
        (root / name).write_bytes(SECRET)
    for name in ("a.bin", "sub/index.html", ".well-known/token"):
        (root / name).write_bytes(CONTENT)
        os.utime(root / name, (1_700_000_000, 1_700_000_000))
    (root / "a.bin.gz").write_bytes(CONTENT[:700])
    for name, target in {
        "in": "a.bin",
        "in-folder": "sub",
        "out": "../secret",
        "out-folder": "..",
        "absolute": "/etc",
    }.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture(scope="module", params=[False, True], ids=["", "listing"])
def folder(root: Path, request: pytest.FixtureRequest) -> Iterator[Folder]:
    """One for all examples, so that what is remembered is met too."""
    yield Folder(Static(str(root), listing=request.param))


@given(st.lists(PARTS, max_size=6), st.sampled_from(["GET", "HEAD", "OPTIONS", "POST"]), FIELDS)
def test_every_answer(root: Path, folder: Folder, parts: list[str], method: str, named: dict[str, str]) -> None:
    """A status that there is, a length that is true, content of the folder, and the descriptor of a file in it."""
    path = "/" + "/".join(parts)
    segments = segments_of(path)
    if segments is None:
        return
    response = folder.respond(Request(method, path, 1, [], named, ("", "", path, "")), segments)
    assert response.status in (200, 204, 206, 301, 304, 404, 405, 412, 416)
    for name, value in response.fields:
        assert value and value.isprintable() and name.replace("-", "").isalpha()
    fields = dict(response.fields)
    if response.status == 301:
        assert fields["Location"].startswith("/") and not fields["Location"].startswith(("//", "/\\"))
    if not isinstance(response.body, Parts):
        assert SECRET not in (response.body or b"")
        return
    assert method == "GET" and response.status in (200, 206)
    fd = response.body.descriptor
    where = os.readlink(f"/proc/self/fd/{fd}")
    content = os.pread(fd, 10_000, 0)
    os.close(fd)
    assert where.startswith(f"{root}/") and ".git" not in where and SECRET not in content
    sent = sum(len(one) if isinstance(one, bytes) else one[1] for one in response.body.pieces)
    assert sent == response.length
    places = [one for one in response.body.pieces if not isinstance(one, bytes)]
    assert all(start >= 0 and length > 0 and start + length <= len(content) for start, length in places)
    if response.status == 206 and len(places) == 1:
        start, length = places[0]
        assert fields["Content-Range"] == f"bytes {start}-{start + length - 1}/{len(content)}"


@given(st.lists(st.binary(max_size=6), max_size=5))
def test_segments_that_no_path_has(root: Path, folder: Folder, segments: list[bytes]) -> None:
    """The folder relies on no router to have looked before."""
    response = folder.respond(Request("GET", "/x", 1, [], {}, ("", "", "/x", "")), tuple(segments))
    if isinstance(response.body, Parts):
        where = os.readlink(f"/proc/self/fd/{response.body.descriptor}")
        os.close(response.body.descriptor)
        assert where.startswith(f"{root}/")
