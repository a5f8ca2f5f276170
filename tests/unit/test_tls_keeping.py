"""What of a worker's certificates is passed to its supervisor, and what the worker after it makes of that."""

from __future__ import annotations

import fcntl
import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from support.authority import Authority, write_secret

from appd.errors import Place
from appd.sealed import read_sealed, write_sealed
from appd.supervisor.mailbox import Mailbox
from appd.systemd.notify import MARK, Notifier
from appd.tls import stdlib
from appd.tls.keeping import Keeping, read_or_keep
from appd.tls.kept import from_bytes, merged, to_bytes
from appd.tls.material import Premature, Refused, read_material
from appd.tls.policy import Policy, Source
from appd.tls.termination import Termination

ROOT = Authority("Root")
HERE = Place("appd.conf", 1)


def source(key, path):
    return Source(key, str(path), HERE)


def policy_of(*paths):
    return Policy(HERE, tuple(source("certificate", path) for path in paths))


@pytest.fixture
def whole(tmp_path):
    """A policy with one of everything."""
    issued = Authority("Sub", by=ROOT).issue("a.example", "*.wild.example")
    issued.write(tmp_path / "crt.pem", issued.certificate_pem)
    issued.write(tmp_path / "chain.pem", issued.chain_pem)
    issued.write(tmp_path / "key.pem", issued.key_pem(b"swordfish"))
    write_secret(tmp_path / "word", b"swordfish\n")
    (tmp_path / "ca.pem").write_bytes("Größe\n".encode("latin-1") + ROOT.pem)
    (tmp_path / "crl.pem").write_bytes(ROOT.revoke())
    return Policy(
        HERE,
        (source("certificate", tmp_path / "crt.pem"),),
        private_key=source("private-key", tmp_path / "key.pem"),
        chain=source("chain", tmp_path / "chain.pem"),
        passphrase=source("key-passphrase", tmp_path / "word"),
        authorities=(source("client-ca", tmp_path / "ca.pem"),),
        client_verify="required",
        revocations=(source("crl", tmp_path / "crl.pem"),),
    )


def pairs(material):
    return [tuple(getattr(one, name) for name in one.__slots__) for one in material.pairs]


def test_what_is_read_is_what_was_written(whole):
    """Every part of it, so that a later look takes again what has not changed; the passphrase is none of it."""
    material, _unseen = read_material(whole)
    written = to_bytes({"shop": material, "empty": read_material(Policy(HERE, ()))[0]})
    assert b"swordfish" not in written
    found = from_bytes(written)
    assert list(found) == ["shop", "empty"] and found["empty"].pairs == ()
    read = found["shop"]
    assert pairs(read) == pairs(material)
    for name in ("trust", "fingerprint", "lists", "authorities", "since"):
        assert getattr(read, name) == getattr(material, name), name
    assert read.index.find("www.wild.example") == (0,) == read.index.default
    stdlib.Contexts(whole, read)
    again, _unseen = read_material(whole, before=read)
    assert again.pairs[0] is read.pairs[0]


def test_a_folder_is_as_it_was(tmp_path):
    """Its stamp is one of stamps."""
    for name in "ab":
        ROOT.issue(f"{name}.example").write(tmp_path / f"{name}.pem")
    material, _unseen = read_material(policy_of(tmp_path))
    read = from_bytes(to_bytes({"x": material}))["x"]
    assert read.fingerprint == material.fingerprint and hash(read.fingerprint) == hash(material.fingerprint)
    ROOT.issue("b.example").write(tmp_path / "b.pem")
    again, _unseen = read_material(policy_of(tmp_path), before=read)
    assert again.pairs[0] is read.pairs[0] and again.pairs[1].serial != read.pairs[1].serial


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"[1]",
        b'{"format": 1}',
        b'{"format": 1, "kept": 7}',
        b'{"format": 1, "kept": {"x": {"known": 3}}}',
        b'{"format":1,"kept":{"x":{"known":[],"trust":"","fingerprint":[],"lists":[],"authorities":[],"since":"now"}}}',
        json.dumps({"format": 2, "kept": {}}).encode(),
    ],
)
def test_what_nobody_wrote_is_nothing(data):
    """Hosted code may pass anything, and a later version may write otherwise."""
    assert from_bytes(data) == {}


def test_a_field_that_a_version_does_not_know(whole):
    """What it cannot make anything of is nothing, and no traceback."""
    material, _unseen = read_material(whole)
    plain = json.loads(to_bytes({"x": material}))
    del plain["kept"]["x"]["known"][0][1]["strength"]
    assert from_bytes(json.dumps(plain).encode()) == {}


def test_the_newest_of_several(tmp_path):
    """Of each name, whoever had it."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    old, new = (read_material(policy_of(path))[0] for _one in range(2))
    assert old.since < new.since
    assert merged([{"x": old, "y": new}, {"x": new, "y": old, "z": old}]) == {"x": new, "y": new, "z": old}


def test_nobody_can_change_what_is_sealed():
    """Not even who made it."""
    descriptor = write_sealed("certificates", b"key")
    with pytest.raises(PermissionError):
        os.write(descriptor, b"other")
    with pytest.raises(PermissionError):
        os.truncate(descriptor, 0)
    assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert read_sealed(os.dup(descriptor)) == read_sealed(descriptor) == b"key"
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


class Supervised:
    """A worker with a supervisor's mailbox at the other end of its notifier."""

    def __init__(self, folder):
        self.mailbox = Mailbox(str(folder))
        self.notifier = Notifier({"NOTIFY_SOCKET": self.mailbox.path})
        self.notifier.mark = MARK
        self.queue = []

    def keeping(self, *given, first=True):
        return Keeping(given, first, self.notifier)

    def begin(self, keeping):
        keeping.begin(self.queue.append)
        self.turn()

    def turn(self):
        while self.queue:
            self.queue.pop(0)()

    def passed(self):
        """What has come in each letter."""
        found = []
        for letter in self.mailbox.read():
            assert letter.words["X_APPD_MATERIAL"] == "1" and len(letter.fds) == 1
            found.append(read_sealed(letter.fds[0]))
        return found


@pytest.fixture
def supervised(tmp_path):
    (tmp_path / "mailbox").mkdir()
    made = Supervised(tmp_path / "mailbox")
    yield made
    made.mailbox.close()


def hold(keeping, policy, name="shop"):
    """A termination as `make_termination` makes it."""
    made = Termination(name, policy, None)
    made.former = keeping.former(name, policy)
    made.material, _unseen, made.refused = read_or_keep(policy, made.former)
    keeping.hold(name, made, policy)
    return made


def test_once_when_it_serves_and_with_each_renewal(tmp_path, supervised):
    """Nothing before, and nothing twice; no descriptor stays."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    policy, keeping = policy_of(path), supervised.keeping()
    made = hold(keeping, policy)
    hold(keeping, policy, "other")
    made.changed()
    assert supervised.queue == [] and supervised.passed() == []
    before = len(os.listdir("/proc/self/fd"))
    supervised.begin(keeping)
    (data,) = supervised.passed()
    assert [pairs(one) for one in from_bytes(data).values()] == [pairs(made.material)] * 2
    made.changed()
    supervised.turn()
    assert supervised.passed() == []
    ROOT.issue("a.example").write(path)
    made.renew(read_material(policy, before=made.material)[0])
    made.changed()
    supervised.turn()
    (data,) = supervised.passed()
    assert pairs(made.material) in [pairs(one) for one in from_bytes(data).values()]
    assert len(os.listdir("/proc/self/fd")) == before


def test_those_beside_the_first_pass_what_they_renew(tmp_path, supervised):
    """At the start they have what the first has; a later one has what it was given, or passes it."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    policy, keeping = policy_of(path), supervised.keeping(first=False)
    made = hold(keeping, policy)
    supervised.begin(keeping)
    assert supervised.passed() == []
    ROOT.issue("a.example").write(path)
    made.renew(read_material(policy, before=made.material)[0])
    supervised.turn()
    (data,) = supervised.passed()
    for first in (True, False):
        later = supervised.keeping(data, first=first)
        assert pairs(hold(later, policy).material) == pairs(made.material)
        supervised.begin(later)
        assert supervised.passed() == []
    ROOT.issue("a.example").write(path)
    for first in (True, False):
        later = supervised.keeping(data, first=first)
        assert pairs(hold(later, policy).material) != pairs(made.material)
        supervised.begin(later)
        assert len(supervised.passed()) == 1


def test_a_mailbox_that_is_full(tmp_path, supervised):
    """The letter waits with its descriptor, which goes when it has been sent."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    policy, keeping = policy_of(path), supervised.keeping()
    made = hold(keeping, policy)
    before = len(os.listdir("/proc/self/fd"))
    while not supervised.notifier.keep():
        supervised.notifier.tell(also={"X_APPD_KEEPS": ""})
    supervised.begin(keeping)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert all("X_APPD_KEEPS" in letter.words for letter in supervised.mailbox.read())
    supervised.notifier.flush()
    letters = list(supervised.mailbox.read())
    assert from_bytes(read_sealed(letters[-1].fds[0]))
    ROOT.issue("a.example").write(path)
    made.renew(read_material(policy, before=made.material)[0])
    supervised.turn()
    assert len(supervised.passed()) == 1
    assert len(os.listdir("/proc/self/fd")) == before


def given_of(supervised, policy):
    """What a worker with that policy leaves."""
    keeping = supervised.keeping()
    hold(keeping, policy)
    supervised.begin(keeping)
    (data,) = supervised.passed()
    return data


def test_files_that_are_bad_when_it_begins(tmp_path, supervised):
    """It has what the one before had; one of another policy, or without one before, refuses."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    policy = policy_of(path)
    before, data = read_material(policy)[0], given_of(supervised, policy)
    path.write_bytes(b"nonsense")
    made = hold(supervised.keeping(data), policy)
    assert pairs(made.material) == pairs(before)
    assert str(made.refused) == (f"appd.conf:1: certificate {path}: it is not PEM: no block begins with -----BEGIN")
    for keeping, name in ((supervised.keeping(data), "other"), (supervised.keeping(b"rubbish"), "shop")):
        with pytest.raises(Refused):
            hold(keeping, policy, name)
    with pytest.raises(Refused):
        hold(supervised.keeping(data), policy._replace(place=Place("appd.conf", 9)))
    ROOT.issue("a.example", start=2).write(path)
    assert isinstance(hold(supervised.keeping(data), policy).refused, Premature)


def test_what_expired_while_it_was_served(tmp_path, supervised):
    """It is in use, and no reason to end; beside it another is taken."""
    one, two = (ROOT.issue(f"{name}.example", days=90).write(tmp_path / f"{name}.pem") for name in "ab")
    policy = policy_of(one, two)
    data, later = given_of(supervised, policy), read_material(policy)[0].pairs[0].expires + 1
    ROOT.issue("b.example", days=300).write(two)
    (former,) = from_bytes(data).values()
    with pytest.raises(Refused):
        read_material(policy, now=later)
    material, _unseen = read_material(policy, now=later, before=former)
    assert [one.title for one in material.pairs] == ["a.example", "b.example"]
    assert material.pairs[1].expires > later


def test_what_the_library_refuses(tmp_path, supervised):
    """A key that is too short is read and checked, and the library does not take it: neither does this worker."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    policy = policy_of(path)
    before, data = read_material(policy)[0], given_of(supervised, policy)
    ROOT.issue("a.example", key=rsa.generate_private_key(65537, 1024)).write(path)
    if not Termination("shop", policy, read_material(policy)[0]).problems():
        pytest.skip("this OpenSSL takes a key of 1024 bits")
    keeping = supervised.keeping(data)
    made = hold(keeping, policy)
    assert made.refused is None
    assert made.problems() == []
    assert pairs(made.material) == pairs(before)
    assert "key too small" in str(made.refused)
    assert made.refused.fingerprint != made.material.fingerprint
    supervised.begin(keeping)
    assert supervised.passed() == []
    alone = Termination("shop", policy, read_material(policy)[0])
    assert len(alone.problems()) == 1
