"""The words of sd_notify(3)."""

from __future__ import annotations

import os
import socket

import pytest

from appd.systemd.notify import Notifier, compose, parse


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, ""),
        ({"ready": True, "status": "fine"}, "READY=1\nSTATUS=fine"),
        ({"reloading": True, "clock": lambda: 5_000_000}, "RELOADING=1\nMONOTONIC_USEC=5000"),
        ({"stopping": True}, "STOPPING=1"),
        ({"status": "two\nlines\tand  more"}, "STATUS=two lines and more"),
        ({"status": "", "errno": 98}, "STATUS=\nERRNO=98"),
        ({"watchdog": True}, "WATCHDOG=1"),
        ({"extend_timeout": 1.5}, "EXTEND_TIMEOUT_USEC=1500000"),
    ],
)
def test_compose(words, message):
    """Each word in the spelling of the man page; nothing can smuggle in a line."""
    assert compose(**words) == message


def test_parse():
    """What was composed reads back; what is no assignment is passed over; the last of several wins."""
    assert parse(compose(ready=True, status="a=b").encode()) == {"READY": "1", "STATUS": "a=b"}
    assert parse(b"X\nSTATUS=1\nSTATUS=\xff\n") == {"STATUS": "�"}


def test_silent_without_a_manager():
    """No NOTIFY_SOCKET: nothing is sent."""
    sent: list[str] = []
    Notifier({}, lambda message, fds: sent.append(message)).tell(ready=True)
    Notifier({"NOTIFY_SOCKET": "@x"}, lambda message, fds: sent.append(message)).tell(ready=True)
    assert sent == ["READY=1"]


def test_a_manager_that_has_gone():
    """A message that cannot be sent is no error."""

    def refuse(_message: str, _fds: object) -> None:
        raise ConnectionRefusedError

    Notifier({"NOTIFY_SOCKET": "@x"}, refuse).tell(ready=True)


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2000000"}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environ, interval):
    """Half of WATCHDOG_USEC, for the process that is meant."""
    assert Notifier(environ).watchdog_interval == interval


def test_a_manager_that_is_busy_is_not_waited_for(tmp_path):
    """Its queue is full: what is of the moment is replaced, what matters is kept, and all of it sent in order later."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(30)
        notifier = Notifier({"NOTIFY_SOCKET": path})
        blocked: list[int] = []
        notifier.when_blocked = lambda: blocked.append(1)
        count = 0
        while not blocked:
            notifier.tell(status=f"number {count}")
            count += 1
            assert count < 100_000
        notifier.tell(ready=True)
        for number in range(1000):
            notifier.tell(status=f"later {number}")
        notifier.tell(stopping=True)
        # However much is said meanwhile, one flush is due at a time.
        assert blocked == [1]
        notifier.flush()
        assert blocked == [1, 1]
        received: list[bytes] = []
        while b"STOPPING=1" not in received:
            received.append(manager.recv(4096))
            notifier.flush()
    assert received[-3:] == [b"READY=1", b"STATUS=later 999", b"STOPPING=1"]
    assert len(received) < count + 3


def test_descriptors_go_along(tmp_path):
    """FDSTORE=1 with its descriptor: the receiver has a copy of it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        with (tmp_path / "file").open("w") as file:
            Notifier({"NOTIFY_SOCKET": path}).tell(fds=[file.fileno()], also={"FDSTORE": "1", "FDNAME": "x"})
            data, fds, _flags, _address = socket.recv_fds(manager, 100, 4)
            assert data == b"FDSTORE=1\nFDNAME=x" and os.fstat(fds[0]).st_ino == os.fstat(file.fileno()).st_ino
            os.close(fds[0])
