"""The log of a process: choice of the sink, journald's socket, standard error."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appd.journal import DEBUG, ERROR, INFO, WARNING, Entry, Log
from appd.journal.entry import to_bytes
from appd.journal.native import serialize


def parse_native(data: bytes) -> dict[str, bytes]:
    """Read the native format as journald does."""
    fields = {}
    while data:
        head, _, rest = data.partition(b"\n")
        if b"=" in head:
            name, _, value = head.partition(b"=")
            data = rest
        else:
            name, size = head, int.from_bytes(rest[:8], "little")
            value, end, data = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        assert name.decode() not in fields
        fields[name.decode()] = value
    return fields


class Pipe:
    """A pipe that stands for standard error."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def read(self) -> bytes:
        os.set_blocking(self.reader, False)
        data = b""
        while True:
            try:
                data += os.read(self.reader, 1 << 20)
            except BlockingIOError:
                return data


class FakeJournald:
    """Listens where journald would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listen()

    def listen(self) -> None:
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(30)
        self.through_memfd = 0

    def receive(self) -> dict[str, bytes]:
        data, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
        if descriptors:
            assert data == b""
            self.through_memfd += 1
            with open(descriptors[0], "rb") as file:
                file.seek(0)
                data = file.read()
        return parse_native(data)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe."""
    pipe = Pipe()
    yield pipe
    for descriptor in (pipe.reader, pipe.writer):
        with contextlib.suppress(OSError):
            os.close(descriptor)


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[FakeJournald]:
    """A journald."""
    journald = FakeJournald(tmp_path / "socket")
    yield journald
    journald.socket.close()


def journal_log(journald: FakeJournald, pipe: Pipe, max_entries: int = 10_000) -> Log:
    """Make a log that writes to the fake journald."""
    log = Log("journal", environ={}, stream=pipe.writer, journal_path=str(journald.path), max_entries=max_entries)
    assert log.format == "journal"
    return log


@given(
    st.dictionaries(st.from_regex(r"\A[A-Z][A-Z0-9_]{0,20}\Z"), st.text() | st.binary() | st.integers()), st.binary()
)
def test_native_round_trip(own: dict[str, str | bytes | int], message: bytes) -> None:
    """Whatever a value holds, journald reads it as it was."""
    entry = Entry(message, INFO, own, 0.0)
    fields = parse_native(serialize(entry, {"APPD_WORKER": 1, "_PID": 1, "lower": 1, "": 1}))
    expected = {"APPD_WORKER": 1, **own, "MESSAGE": message, "PRIORITY": INFO}
    assert fields == {name: to_bytes(value) for name, value in expected.items()}


def test_auto_on_a_pipe(pipe: Pipe) -> None:
    """Without a journal and a terminal, lines have the priority in front."""
    log = Log(environ={}, stream=pipe.writer)
    log.write("hello\nthere", WARNING)
    assert (log.written, log.dropped) == (0, 0)
    assert log.close(5)
    assert pipe.read() == b"<4>hello\n<4>there\n"
    assert log.written == 1


def test_auto_on_a_terminal() -> None:
    """On a terminal, lines are for a person."""
    reader, terminal = os.openpty()
    log = Log(environ={}, stream=terminal)
    assert log.format == "text"
    log.write("hello")
    assert log.close(5)
    assert b"INFO appd: hello" in os.read(reader, 1000)
    os.close(reader)
    os.close(terminal)


def test_auto_under_systemd(pipe: Pipe) -> None:
    """Device and inode of the stream, and nothing else, say that it is the journal's."""
    status = os.fstat(pipe.writer)
    own = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    assert Log(environ=own, stream=pipe.writer).format == "journal"
    redirected = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}
    assert Log(environ=redirected, stream=pipe.writer).format == "prefix"


def test_unknown_format(pipe: Pipe) -> None:
    """A wrong format says which there are, and changes nothing."""
    with pytest.raises(ValueError, match="use one of auto, journal, text, json, prefix"):
        Log("xml")
    log = Log(environ={}, stream=pipe.writer)
    with pytest.raises(ValueError, match="level"):
        log.configure("json", "loud")
    assert log.format == "prefix"


def test_journal_wanted_but_absent(pipe: Pipe, tmp_path: Path) -> None:
    """A journal that was asked for and is not there is one warning; entries go to standard error."""
    log = Log("journal", environ={}, stream=pipe.writer, journal_path=str(tmp_path / "none"))
    log.write("hello")
    assert log.close(5)
    first, second = pipe.read().splitlines()
    assert first.startswith(b"<4>the log format is 'journal', but nobody listens at")
    assert second == b"<6>hello"


def test_fields_in_the_journal(pipe: Pipe, journald: FakeJournald) -> None:
    """Fields of entry and process arrive in one native entry, and nothing on standard error."""
    log = journal_log(journald, pipe)
    log.fields["APPD_WORKER"] = 3
    log.write("two\nlines", ERROR, APPD_SERVER="http:shop", HTTP_PATH=b"/\xff")
    assert log.close(5)
    assert journald.receive() == {
        "MESSAGE": b"two\nlines",
        "PRIORITY": b"3",
        "SYSLOG_IDENTIFIER": b"appd",
        "LOGGER": b"appd",
        "APPD_SERVER": b"http:shop",
        "APPD_WORKER": b"3",
        "HTTP_PATH": b"/\xff",
    }
    assert pipe.read() == b""


def test_large_entry_goes_whole(pipe: Pipe, journald: FakeJournald) -> None:
    """What is too large for a datagram goes in a memfd, whole."""
    log = journal_log(journald, pipe)
    message = bytes(range(256)) * 8000
    log.put(Entry(message, INFO, {}, time.time()))
    assert log.close(5)
    assert journald.receive()["MESSAGE"] == message
    assert journald.through_memfd == 1


def test_stopped_journald(pipe: Pipe, journald: FakeJournald) -> None:
    """A journald that does not read holds up nobody; when it reads again, all arrives with the count of the rest."""
    log = journal_log(journald, pipe, max_entries=1000)
    log.start()
    slowest = 0.0
    for number in range(20_000):
        began = time.monotonic()
        log.write(str(number))
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 5
    assert not log.flush(0.2)
    dropped = log.dropped
    assert dropped > 10_000
    received: list[dict[str, bytes]] = []

    def receive() -> None:
        missing = 20_000
        with contextlib.suppress(TimeoutError):
            while missing > 0:
                received.append(journald.receive())
                missing -= int(received[-1].get("APPD_DROPPED", 1))

    journald.socket.settimeout(20)
    reader = threading.Thread(target=receive, daemon=True)
    reader.start()
    assert log.close(30)
    reader.join(30)
    notices = [fields for fields in received if "APPD_DROPPED" in fields]
    assert sum(int(fields["APPD_DROPPED"]) for fields in notices) == dropped
    assert {fields["PRIORITY"] for fields in notices} == {b"4"}
    assert len(received) - len(notices) == 20_000 - dropped
    assert pipe.read() == b""


def test_close_while_journald_is_stopped(pipe: Pipe, journald: FakeJournald) -> None:
    """Leaving takes no longer than it was given."""
    log = journal_log(journald, pipe)
    log.start()
    for number in range(2000):
        log.write(str(number))
    began = time.monotonic()
    assert not log.close(0.2)
    assert time.monotonic() - began < 15


def test_journald_gone_and_back(pipe: Pipe, journald: FakeJournald) -> None:
    """While nobody listens entries go to standard error; when somebody does again, to him, never to both."""
    log = journal_log(journald, pipe)
    log.start()
    log.write("first")
    assert log.flush(5)
    assert journald.receive()["MESSAGE"] == b"first"
    journald.socket.close()
    log.write("refused")
    assert log.flush(5)
    journald.path.unlink()
    log.write("absent")
    assert log.flush(5)
    journald.listen()
    log.write("back")
    assert log.close(5)
    assert journald.receive()["MESSAGE"] == b"back"
    assert pipe.read() == b"<6>refused\n<6>absent\n"
    assert (log.written, log.dropped) == (4, 0)


def test_restarted_socket_loses_nothing(pipe: Pipe, journald: FakeJournald) -> None:
    """A new socket at the same place is found with the entry that met the old one."""
    log = journal_log(journald, pipe)
    log.start()
    log.write("first")
    assert log.flush(5)
    journald.socket.close()
    journald.listen()
    log.write("second")
    assert log.close(5)
    assert journald.receive()["MESSAGE"] == b"second"
    assert pipe.read() == b""


def test_reader_of_standard_error_gone(pipe: Pipe) -> None:
    """A broken pipe is counted and survived."""
    log = Log("prefix", environ={}, stream=pipe.writer)
    log.start()
    os.close(pipe.reader)
    log.write("lost")
    assert not log.flush(5)
    assert not log.close(5)
    assert (log.written, log.dropped) == (0, 1)


@pytest.mark.parametrize("blocking", [True, False])
def test_slow_reader_of_standard_error(pipe: Pipe, blocking: bool) -> None:
    """A full pipe holds up only the writer, blocking or not (EAGAIN), and gets everything in the end."""
    os.set_blocking(pipe.writer, blocking)
    log = Log("json", environ={}, stream=pipe.writer)
    log.start()
    for number in range(300):
        log.write(f"{number} " + "x" * 1000)
    assert not log.flush(0.2)
    data = b""
    deadline = time.monotonic() + 30
    while data.count(b"\n") < 300:
        assert time.monotonic() < deadline
        data += pipe.read()
        time.sleep(0.001)
    assert log.close(5)
    assert [int(json.loads(line)["MESSAGE"].split()[0]) for line in data.splitlines()] == list(range(300))
    assert log.dropped == 0


def test_standard_error_that_was_closed_before() -> None:
    """A descriptor that was closed is not written to when its number belongs to something else."""
    reader, writer = os.pipe()
    os.close(writer)
    log = Log(environ={}, stream=writer)
    descriptor = os.open("/dev/null", os.O_RDWR)
    assert descriptor == writer
    log.write("lost")
    assert not log.close(5)
    assert log.dropped == 1
    os.close(descriptor)
    os.close(reader)


def test_levels_and_format_from_the_file(pipe: Pipe) -> None:
    """`configure` changes filter and sink for what is put afterwards."""
    log = Log(environ={}, stream=pipe.writer)
    log.start()
    assert not log.enabled("shop", DEBUG)
    log.write("early")
    log.write("unwanted", DEBUG)
    assert log.flush(5)
    log.configure("json", "warning", {"shop": "debug"})
    assert log.enabled("shop.cart", DEBUG)
    log.write("unwanted")
    log.write("wanted", DEBUG, LOGGER="shop.cart")
    assert log.close(5)
    early, wanted = pipe.read().splitlines()
    assert early == b"<6>early"
    assert json.loads(wanted)["LOGGER"] == "shop.cart"


def test_close_and_start_again(pipe: Pipe) -> None:
    """A log may be closed around a fork; what is logged meanwhile is written later."""
    log = Log(environ={}, stream=pipe.writer)
    log.start()
    log.start()
    log.write("1")
    assert log.close(5)
    log.write("2")
    assert pipe.read() == b"<6>1\n"
    log.start()
    log.write("3")
    assert log.flush(5)
    assert log.close(5)
    assert pipe.read() == b"<6>2\n<6>3\n"


def test_close_of_an_unused_log(pipe: Pipe) -> None:
    """Nothing logged, nothing to do, and no thread."""
    log = Log(environ={}, stream=pipe.writer)
    before = threading.active_count()
    assert log.flush(0)
    assert log.close(0)
    assert threading.active_count() == before
