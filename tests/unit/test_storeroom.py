"""Which sockets systemd's store has room for: a store of real descriptors, and a systemd that only counts."""

from __future__ import annotations

import os

import pytest

from appd.supervisor.storeroom import StoreRoom, limit_of
from appd.systemd.notify import Notifier, parse
from appd.systemd.store import Store


class Systemd:
    """A store with room for so many, as service.c of systemd has it, and what is told of it."""

    def __init__(self, limit, *held):
        self.limit, self.held, self.said, self.now = limit, list(held), [], 0.0
        self.store = Store((f"appd-{one}", os.open("/dev/null", os.O_RDONLY)) for one in held)
        self.notifier = Notifier({"NOTIFY_SOCKET": "@x"}, self.take)
        self.room = StoreRoom(self.store, self, self.notifier, lambda: self.limit)

    def write(self, text, priority, **_fields):
        assert priority == 4
        self.said.append(text)

    def take(self, message, fds):
        words = parse(message.encode())
        name = words["FDNAME"].removeprefix("appd-")
        if "FDSTOREREMOVE" in words:
            self.held = [one for one in self.held if one != name]
        elif len(self.held) < (self.limit or 0) and name not in self.held:
            assert len(fds) == 1
            self.held.append(name)

    def bind(self, *names):
        for one in names:
            name = f"appd-{one}"
            self.store.keep(name, os.open("/dev/null", os.O_RDONLY))
            self.notifier.tell(fds=[self.store[name]], also={"FDSTORE": "1", "FDNAME": name})
            self.room.told(name)

    def forget(self, *names):
        self.store.keep_only([name for name, _fd in self.store.items() if name[5:] not in names], self.notifier, 0.0)


@pytest.fixture
def systemd():
    made = []

    def make(*arguments):
        made.append(Systemd(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.store.close({})


def test_enough_room(systemd):
    """Nothing is told, however many come and go."""
    host = systemd(3)
    host.bind("a", "b", "c")
    host.room.look()
    host.forget("a")
    host.bind("d")
    host.room.look()
    assert host.held == ["b", "c", "d"] and host.said == []


def test_too_little(systemd):
    """Told once, with those that came last; again when they are others."""
    host = systemd(1)
    host.bind("a", "127.0.0.1%3A8100", "/run/x.sock")
    for _ in range(3):
        host.room.look()
    assert host.said == [
        "of the sockets that appd has bound systemd keeps 1 of 3 over a restart (FileDescriptorStoreMax=1; 3 would do): "
        "who connects during one is refused at 127.0.0.1:8100, /run/x.sock"
    ]
    host.bind("b")
    host.room.look()
    assert host.said[1:] == [host.said[0].replace("3 ", "4 ").replace("x.sock", "x.sock, b")]
    host.forget("b", "/run/x.sock", "127.0.0.1%3A8100")
    host.room.look()
    assert len(host.said) == 2


def test_no_room_at_all(systemd):
    """A unit without FileDescriptorStoreMax=; very many are not all named."""
    host = systemd(0)
    host.bind(*(f"s{number}" for number in range(9)))
    host.room.look()
    (line,) = host.said
    assert "keeps 0 of 9 over a restart (FileDescriptorStoreMax=0; 9 would do): " in line
    assert line.endswith(" is refused at s0, s1, s2, s3, s4 and 4 more")


def test_what_did_not_fit_is_handed_on_when_there_is_room(systemd):
    """A reload has the sockets of before and after for a moment."""
    host = systemd(2, "a", "b")
    host.bind("c", "d")
    host.forget("a")
    host.room.look()
    assert host.held == ["b", "c"] and len(host.said) == 1
    host.forget("b")
    host.room.look()
    assert host.held == ["c", "d"] and len(host.said) == 1


def test_nobody_says_how_many(systemd):
    """Without systemd, and where it cannot be known: nothing is told."""
    host = systemd(None)
    host.bind("a", "b")
    host.room.look()
    assert host.said == []


def test_where_the_limit_comes_from(tmp_path):
    """The unit, with its drop-ins; without one $FDSTORE; nothing for a process that systemd has not made."""
    cgroup = tmp_path / "cgroup"
    cgroup.write_text("0::/system.slice/appd.service\n")
    folder = tmp_path / "units"
    (folder / "appd.service.d").mkdir(parents=True)
    environ = {"NOTIFY_SOCKET": "/x", "SYSTEMD_EXEC_PID": str(os.getpid()), "FDSTORE": "512"}

    def limit(**changed):
        return limit_of(environ | changed, str(cgroup), [str(folder)])

    assert limit() == 512 and limit(FDSTORE="") is None
    (folder / "appd.service").write_text("[Service]\nFileDescriptorStoreMax=512\n")
    (folder / "appd.service.d" / "x.conf").write_text(
        "[Service]\nFileDescriptorStoreMax = 3\nFileDescriptorStoreMax=\n[Unit]\nFileDescriptorStoreMax=9\n"
    )
    assert limit() == 3
    (folder / "appd.service").write_text("[Service]\n")
    (folder / "appd.service.d" / "x.conf").unlink()
    assert limit() == 0
    assert limit(SYSTEMD_EXEC_PID="1") is limit(NOTIFY_SOCKET="") is None
    cgroup.write_text("0::/user.slice/user-7.slice/user@7.service/app.slice/appd.service\n")
    assert limit() == 512
