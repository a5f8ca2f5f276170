"""`<auth>` for Twisted's protocols: what they are answered, when, and what is logged."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import argon2
import pytest
from twisted.conch.error import ValidPublicKey
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse as Memory
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword, SSHPrivateKey, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.strcred import makeChecker
from twisted.internet import address, reactor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from unit.test_auth_files import _public

from appd.auth.auth import AT_ONCE, Auth
from appd.auth.keyfiles import KeyFiles
from appd.auth.passwords import PasswordFile
from appd.auth.portal import PeerPortal, host_of, takes
from appd.auth.sections import auth_of, portals_of, prepare
from appd.config import load
from appd.errors import ConfigurationError
from appd.interfaces import Host

# Twisted's own plugin for SSH keys imports crypt and spwd, where they are.
pytestmark = pytest.mark.filterwarnings("ignore:.*(spwd|crypt)")


class Realm:
    """Gives back whom it was asked for."""

    def requestAvatar(self, avatar_id, mind, *interfaces):
        return interfaces[0], avatar_id, lambda: None


class Pool:
    """Runs at once what it is given."""

    def callInThreadWithCallback(self, on_result, call, *arguments, **named):
        try:
            on_result(True, call(*arguments, **named))
        except Exception:
            on_result(False, Failure())


class Reactor(Clock):
    def callFromThread(self, call, *arguments):
        call(*arguments)


@pytest.fixture
def passwords(tmp_path):
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    path = tmp_path / "u"
    path.write_text(f"alice:{cheap.hash('secret')}\n")
    path.chmod(0o600)
    file = PasswordFile(str(path))
    file.load()
    return file


@pytest.fixture
def attempt(passwords):
    """Tries to log in; what came out is a list, empty as long as nothing has."""
    made = SimpleNamespace(clock=Reactor(), lines=[])
    made.auth = Auth(
        "staff",
        passwords,
        None,
        [Memory(joe=b"pass"), makeChecker("memory:ann:text")],
        1.0,
        lambda line, **_fields: made.lines.append(line),
    )

    def login(user, password, peer="192.0.2.7"):
        portal = PeerPortal(Realm(), made.auth, peer, "shop", made.clock, login.pool)
        out = []
        credentials = UsernamePassword(user, password)
        portal.login(credentials, None, IUsernamePassword).addBoth(out.append)
        return out

    login.made, login.pool = made, Pool()
    return login


def test_who_may_is_in(attempt):
    """By the file, by a checker, in bytes or in text."""
    for user, password, who in (
        (b"alice", b"secret", b"alice"),
        ("alice", "secret", b"alice"),
        (b"joe", b"pass", b"joe"),
        (b"ann", b"text", b"ann"),
    ):
        [(_interface, avatar, _logout)] = attempt(user, password)
        assert avatar == who
    assert attempt.made.lines == []


@pytest.mark.parametrize("user", [b"alice", b"nobody", b"joe", b"", b"\xff", b"a:b", b"x" * 1000])
def test_who_may_not_learns_nothing(attempt, user):
    """The same answer, after the same time, whether the user is there or not; the log has the peer."""
    out = attempt(user, b"wrong")
    assert out == []
    attempt.made.clock.advance(0.99)
    assert out == []
    attempt.made.clock.advance(0.01)
    assert out[0].check(UnauthorizedLogin) and out[0].getErrorMessage() == ""
    [line] = attempt.made.lines
    assert "192.0.2.7" in line and "shop" in line and "staff" in line and len(line) < 300


def test_failures_slow_the_next_attempts_of_the_peer(attempt):
    """The right password too, and no other peer's."""
    clock = attempt.made.clock
    for _ in range(3):
        out = attempt(b"alice", b"wrong")
        clock.pump([0.5] * 40)
        assert len(out) == 1
    out = [attempt(b"alice", b"wrong") for _ in range(3)]
    right = attempt(b"alice", b"secret")
    assert attempt(b"alice", b"secret", "192.0.2.8")
    assert right == []
    clock.pump([0.5] * 200)
    assert [one[0].type for one in out] == [UnauthorizedLogin] * 3 and right


class Later(Pool):
    """Runs what it was given when it is told to."""

    def __init__(self):
        self.given = []

    def callInThreadWithCallback(self, *arguments, **named):
        self.given.append((arguments, named))

    def run(self):
        given, self.given = self.given, []
        for arguments, named in given:
            super().callInThreadWithCallback(*arguments, **named)
        return len(given)


def test_guesses_at_one_time_are_no_way_around_it(attempt):
    """Those that came before the first has failed wait for it like all after it; nobody else stands behind them."""
    pool = attempt.pool = Later()
    out = [attempt(b"alice", b"wrong") for _ in range(50)]
    assert pool.run() == AT_ONCE
    other = attempt(b"alice", b"secret", "192.0.2.8")
    # One of the fifty has taken the place of the first before that was found to be wrong.
    assert pool.run() == 2 and other, "the hashes of a peer that fails are not reckoned before another's"
    ran = 0
    for _ in range(100):
        attempt.made.clock.advance(0.1)
        ran += pool.run()
    assert ran <= 11, "one in a second, as they stand in the queue by then"
    for _ in range(200):
        attempt.made.clock.advance(1)
        pool.run()
    assert all(one[0].type is UnauthorizedLogin for one in out)


def test_a_checker_that_breaks_lets_nobody_in(attempt, caplog):
    """Its error is logged, and the client is told what all are told."""

    class Broken:
        credentialInterfaces = (IUsernamePassword,)

        def requestAvatarId(self, credentials):
            raise RuntimeError("no database")

    attempt.made.auth.checkers = [Broken()]
    out = attempt(b"joe", b"pass")
    attempt.made.clock.advance(1)
    assert out[0].check(UnauthorizedLogin)


def test_keys(tmp_path):
    """The offer of a key is no guess; a signature that is wrong is."""
    from twisted.conch.ssh.keys import Key

    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "alice").write_text(_public("ed25519"))
    lines = []
    auth = Auth("staff", None, KeyFiles(str(folder / "%u")), (), 1.0, lambda line, **_fields: lines.append(line))
    clock = Reactor()
    mine = Key.fromString((folder / "alice").read_bytes())
    other = Key.fromString(_public("ed25519"))

    def login(key, signature=None):
        out = []
        portal = PeerPortal(Realm(), auth, "192.0.2.7", "shop", clock, Pool())
        credentials = SSHPrivateKey(b"alice", key.sshType(), key.blob(), b"data", signature)
        portal.login(credentials, None, IUsernamePassword).addBoth(out.append)
        return out

    assert login(mine)[0].check(ValidPublicKey)
    assert login(other)[0].check(UnauthorizedLogin)
    assert lines == []
    out = login(mine, b"\0\0\0\x0bssh-ed25519\0\0\0\x40" + b"x" * 64)
    clock.advance(1)
    assert out[0].check(UnauthorizedLogin) and "key of 'alice'" in lines[0]


def test_a_peer_is_found_in_every_address():
    """TCP, UNIX, conch's around either, a transport."""
    tcp = address.IPv4Address("TCP", "192.0.2.7", 1)
    assert host_of(tcp) == "192.0.2.7"
    assert host_of(SimpleNamespace(getPeer=lambda: tcp)) == "192.0.2.7"
    assert host_of(SimpleNamespace(address=tcp)) == "192.0.2.7"
    assert host_of(address.UNIXAddress(b"/x")) == ""
    assert host_of(None) == ""


def _host(tmp_path, text, log=None):
    file = tmp_path / "a.conf"
    file.write_text(text + "<echo>\n address 127.0.0.1:0\n</echo>\n")
    return Host(reactor, None, load(str(file)), log, {})


def test_a_server_finds_its_auth(tmp_path, passwords):
    """By name, in any case; one that is not there is told with those that are."""
    host = _host(tmp_path, "<auth Staff>\n passwords u\n checker memory:joe:pass\n</auth>\n")
    assert prepare(host) == ([], [])
    server = host.settings.servers[0]
    server.values["auth"] = "staff"
    auth = auth_of(server, host)
    assert auth.name == "Staff"
    assert auth.check_password("alice", b"secret")
    assert takes(auth, IUsernamePassword) and takes(auth, IUsernameHashedPassword)
    assert portals_of(server, host, "shop")(Realm(), None).listCredentialsInterfaces()
    server.values["auth"] = "stafff"
    with pytest.raises(ConfigurationError, match=r"no <auth stafff> in the file; did you mean Staff"):
        auth_of(server, host)


def test_what_is_wrong_with_a_section(tmp_path, passwords):
    """Every problem at once, with its line; the text of a checker, which may hold a password, is not shown."""
    (tmp_path / "bad").write_text("x\n")
    (tmp_path / "bad").chmod(0o600)
    (tmp_path / "open").write_text("")
    (tmp_path / "open").chmod(0o644)
    host = _host(
        tmp_path,
        "<auth a>\n</auth>\n<auth b>\n passwords none\n authorized-keys none/%u\n checker nothing:hunter2\n"
        " checker file:/none:hunter2\n</auth>\n<auth c>\n passwords bad\n</auth>\n<auth d>\n passwords open\n</auth>\n"
        "<auth e>\n passwords credential:x\n</auth>\n",
    )
    problems, unseen = prepare(host)
    told = [str(one) for one in problems]
    assert [one.place.line for one in problems] == [1, 4, 5, 6, 1, 13], told
    assert "lets nobody in" in told[0] and "no such file" in told[1] and "no folder" in told[2]
    assert "anonymous, file, memory" in told[3]
    assert "NAME:HASH" in told[4] and f"{tmp_path}/bad:1: auth c" in told[4]
    assert "chmod o-rw" in told[5]
    assert "hunter2" not in str(told)
    [one] = unseen
    assert "credential:x is not checkable here" in str(one)


def test_hashes_are_not_reckoned_in_the_reactor(passwords):
    """The pool's thread it is."""
    where = []
    auth = Auth("staff", passwords)
    auth.check_password = lambda user, password: where.append(threading.current_thread()) or True  # type: ignore[method-assign]

    class Threads(Pool):
        def callInThreadWithCallback(self, on_result, call, *arguments, **named):
            thread = threading.Thread(
                target=lambda: super(Threads, self).callInThreadWithCallback(on_result, call, *arguments)
            )
            thread.start()
            thread.join()

    out = []
    portal = PeerPortal(Realm(), auth, "", "shop", Reactor(), Threads())
    portal.login(UsernamePassword(b"alice", b"x"), None, IUsernamePassword).addBoth(out.append)
    assert out and where != [threading.main_thread()]
