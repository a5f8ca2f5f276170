"""What a client has not taken yet."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from appd.http.lane.outbox import Outbox
from appd.http.spool import Stretch
from appd.http.upload import Upload


@pytest.fixture
def pair():
    """A socket that sends, non-blocking, and one that reads."""
    one, other = socket.socketpair()
    one.setblocking(False)
    other.settimeout(30)
    yield one, other
    one.close()
    other.close()


def drain(outbox: Outbox, reader: socket.socket) -> bytes:
    """Sends all and returns it."""
    data = bytearray()
    while outbox.size:
        with outbox.lock:
            outbox.flush()
        reader.setblocking(False)
        try:
            while part := reader.recv(65536):
                data += part
        except BlockingIOError:
            pass
    return bytes(data)


def test_order(pair, tmp_path: Path) -> None:
    """Memory, the spool, files of others, and memory again."""
    file = tmp_path / "f"
    file.write_bytes(b"f" * 300_000)
    outbox = Outbox(pair[0])
    with outbox.lock:
        outbox.add(b"a" * 100_000)
        outbox.add(b"b" * 400_000)  # no room in memory: into the file
        outbox.add(b"c" * 100_000)  # behind it
        outbox.add_file(Stretch(os.open(file, os.O_RDONLY), 10, 200_000, owned=True))
        outbox.add(b"d" * 10)
        assert outbox.size == 800_010
    assert drain(outbox, pair[1]) == b"a" * 100_000 + b"b" * 400_000 + b"c" * 100_000 + b"f" * 200_000 + b"d" * 10
    with outbox.lock:
        outbox.add(b"again")
    assert drain(outbox, pair[1]) == b"again"


def test_descriptors(pair, tmp_path: Path) -> None:
    """None is left, whether all was sent or not."""
    file = tmp_path / "f"
    file.write_bytes(b"f" * 300_000)
    before = len(os.listdir("/proc/self/fd"))
    for sends in (True, False):
        outbox = Outbox(pair[0])
        with outbox.lock:
            outbox.add(b"b" * 400_000)
            outbox.add_file(Stretch(os.open(file, os.O_RDONLY), 0, 300_000, owned=True))
        if sends:
            drain(outbox, pair[1])
        with outbox.lock:
            outbox.close()
        assert len(os.listdir("/proc/self/fd")) == before
        assert outbox.size == 0


def test_a_file_that_has_become_shorter(pair, tmp_path: Path) -> None:
    """It is noticed."""
    file = tmp_path / "f"
    file.write_bytes(b"f" * 10)
    outbox = Outbox(pair[0])
    with outbox.lock:
        outbox.add_file(Stretch(os.open(file, os.O_RDONLY), 0, 20, owned=True))
        with pytest.raises(EOFError):
            outbox.flush()
            outbox.flush()
        outbox.close()


def test_upload() -> None:
    """In memory, then in a file; the same to whoever reads it."""
    for memory in (5, 500):
        upload = Upload(memory, 0.0)
        for part in (b"one\n", b"two\n", b"three"):
            upload.add(part)
        file = upload.complete()
        assert upload.length == 13
        assert [file.readline(), file.read(2), *file] == [b"one\n", b"tw", b"o\n", b"three"]
        assert (file.read(), file.read(-1), file.readline()) == (b"", b"", b"")
        upload.close()


def test_an_upload_that_nobody_wants() -> None:
    """It is counted and not kept."""
    upload = Upload(5, 0.0, keep=False)
    upload.add(b"x" * 100)
    assert (upload.length, upload.complete().read()) == (100, b"")


def in_files() -> int:
    """How many bytes lie in files without a name."""
    found = 0
    for one in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{one}").endswith(" (deleted)"):
                found += os.fstat(int(one)).st_size
    return found


def test_a_reader_that_never_catches_up(pair) -> None:
    """What lies in files is about what it has not taken, not all that there has ever been."""
    outbox, sent, received, before, most = Outbox(pair[0]), bytearray(), bytearray(), in_files(), 0
    pair[1].setblocking(False)
    for number in range(400):
        part = bytes([number % 251]) * 100_000
        sent += part
        with outbox.lock:
            outbox.add(part)
            most = max(most, in_files() - before)
            while outbox.size > 1_000_000:
                outbox.flush()
                with suppress(BlockingIOError):
                    received += pair[1].recv(65536)
    assert outbox.size > 500_000
    assert most < 10_000_000
    received += drain(outbox, pair[1])
    assert received == sent
    assert in_files() == before


def test_no_room_for_an_upload() -> None:
    """What was not written is not tried again at the end."""
    upload, limits = Upload(100, 0.0), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError):
            for _ in range(10):
                upload.add(bytes(4000))
        upload.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
