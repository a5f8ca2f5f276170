"""The files of `<auth>`: lines of users and hashes, keys, and `appd passwd`."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from appd.auth import hashes
from appd.auth.editing import ask, edit, passwd, with_user
from appd.auth.keyfiles import KeyFiles
from appd.auth.keyfiles import parse as parse_keys
from appd.auth.passwords import PasswordFile, parse, user_name
from appd.auth.secretfile import read
from appd.auth.values import checker, key_files
from appd.errors import ConfigurationError, UsageError

# Cheap ones, made by argon2-cffi and by htpasswd -B.
ARGON2 = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21l$dKVhW7n0JWqSnrpHSXSH3Q"
BCRYPT = "$2y$04$4Nd0uSoBM3AW1FjO9kCTkOEhXaKzP8a6qF1mIrMIErEcCkrBtWlUu"


@pytest.fixture(scope="module")
def made():
    """Cheap hashes of "secret"."""
    import argon2
    import bcrypt

    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return {
        "argon2": cheap.hash("secret"),
        "bcrypt": bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode(),
        "htpasswd": bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$"),
    }


@pytest.mark.parametrize("scheme", ["argon2", "bcrypt", "htpasswd"])
def test_a_hash_is_that_of_its_password(made, scheme):
    """And of no other; NUL and length play no tricks."""
    assert hashes.complaint(made[scheme]) == ""
    assert hashes.matches(made[scheme], b"secret")
    for wrong in (b"", b"Secret", b"secret\0", b"secre\0t", b"secret" * 20, b"\xff\xfe"):
        assert not hashes.matches(made[scheme], wrong)


def test_what_appd_makes_is_what_it_takes():
    """Either scheme; an accented letter is one, however it is typed."""
    for scheme in hashes.SCHEMES:
        made = hashes.make("Caf\u00e9".encode(), scheme)
        assert hashes.complaint(made) == ""
        assert hashes.matches(made, "Cafe\u0301".encode())


def test_bcrypt_takes_no_more_than_it_looks_at():
    """Nobody is to believe that the rest of a long password counts."""
    with pytest.raises(ValueError, match="first 72 bytes"):
        hashes.make(b"x" * 73, "bcrypt")
    with pytest.raises(ValueError, match="NUL"):
        hashes.make(b"x\0y", "bcrypt")


def test_a_missing_library_is_named(monkeypatch):
    """By the package that brings it, in one line."""
    monkeypatch.setitem(sys.modules, "argon2", None)
    with pytest.raises(ConfigurationError, match=r"python3-argon2 of Debian, argon2-cffi of PyPI"):
        hashes.require("argon2")


def test_a_file_is_read_line_by_line(made):
    """Comments and empty lines aside; each wrong line is told with its number and without what is in it."""
    text = (
        f"# people\n\nalice:{made['argon2']}\r\nbob:{made['bcrypt']}:Bob, of sales\n"
        f"carol:!{made['argon2']}\ndave:*\nplain:hunter2\ncut:$argon2id$v=19$m=8\n"
        f"old:$6$salt$abc\nnothing\n:x\nalice:{made['argon2']}\na/b:{made['argon2']}\n.x:{made['argon2']}\n"
    )
    found = parse(text, "f")
    assert {name for name, hashed in found.entries.items() if hashed.startswith("$")} >= {"alice", "bob"}
    assert found.entries["carol"] == found.entries["dave"] == ""
    told = {one.place.line: one.message for one in found.problems}
    assert sorted(told) == [7, 8, 9, 10, 11, 12, 13, 14]
    assert "neither of argon2 nor of bcrypt" in told[7]
    assert "cut off" in told[8]
    assert "NAME:HASH" in told[10]
    assert "the first is at line 3" in told[12]
    assert "hunter2" not in str(found.problems)


def test_a_file_that_others_may_read_is_refused(tmp_path, made):
    """So is what is no regular file, a FIFO among it, which would wait."""
    path = tmp_path / "u"
    path.write_text(f"alice:{made['argon2']}\n")
    path.chmod(0o644)
    with pytest.raises(ValueError, match=r"chmod o-rw"):
        PasswordFile(str(path)).load()
    assert PasswordFile(str(path), is_credential=True).load() == []
    os.mkfifo(tmp_path / "fifo")
    for name, told in (("fifo", "no regular file"), ("none", "no such file"), (".", "no regular file")):
        with pytest.raises(ValueError, match=told):
            read(str(tmp_path / name), 0, "")
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="UTF-8"):
        read(str(path), 0, "")


def test_an_unknown_user_costs_what_a_known_one_does(tmp_path, made, monkeypatch):
    """One hash is reckoned for each attempt, whoever it is for; the decoy of a name is always the same."""
    path = tmp_path / "u"
    path.write_text(f"alice:{made['argon2']}\nbob:{made['bcrypt']}\ncarol:!{made['argon2']}\n")
    path.chmod(0o600)
    file = PasswordFile(str(path))
    assert file.load() == []
    reckoned = []
    matches = hashes.matches
    monkeypatch.setattr(
        hashes, "matches", lambda hashed, password: reckoned.append(hashed) or matches(hashed, password)
    )
    assert file.check("alice", b"secret") and not file.check("alice", b"wrong")
    for user in ("nobody", "carol", "\0"):
        reckoned.clear()
        assert not file.check(user, b"secret"), "the password of somebody else opens nothing"
        assert not file.check(user, b"secret")
        assert len(reckoned) == 2 and len(set(reckoned)) == 1
    for number in range(40):
        file.check(f"user{number}", b"x")
    assert set(reckoned) == {made["argon2"], made["bcrypt"]}, "of every scheme of the file"


def test_a_changed_file_counts_and_a_broken_one_does_not(tmp_path, made):
    """What is wrong is said once; what was good stays good."""
    path = tmp_path / "u"
    path.write_text(f"alice:{made['argon2']}\n")
    path.chmod(0o600)
    file = PasswordFile(str(path))
    file.load()
    path.write_text(f"bob:{made['argon2']}\n")
    assert file.refresh() == [] and not file.check("alice", b"secret") and file.check("bob", b"secret")
    path.chmod(0o604)
    assert "chmod o-rw" in file.refresh()[0].message
    assert file.refresh() == [], "said once"
    assert file.check("bob", b"secret")
    path.unlink()
    assert "no such file" in file.refresh()[0].message
    assert file.refresh() == [] and file.check("bob", b"secret")
    path.write_text(f"carol:{made['argon2']}\nbad\n")
    path.chmod(0o600)
    assert [one.place.line for one in file.refresh()] == [2]
    assert file.check("carol", b"secret") and not file.check("bob", b"secret")


@pytest.mark.parametrize("name", ["", "a:b", "a/b", "..", "#x", "-x", " x", "x\n", "x" * 256, "a\\b"])
def test_what_is_no_name(name):
    """What paths, lines and options have a meaning for."""
    with pytest.raises(ValueError, match="name of a user"):
        user_name(name)


def test_a_user_is_changed_in_place():
    """Order, comments and further fields stay."""
    text = "# x\nalice:1:Alice\nbob:2\n"
    assert with_user(text, "alice", "9") == "# x\nalice:9:Alice\nbob:2\n"
    assert with_user(text, "bob", None) == "# x\nalice:1:Alice\n"
    assert with_user("bob:2", "alice", "9") == "bob:2\nalice:9\n"
    assert with_user("a:1\na:2\n", "a", "9") == "a:9\n"
    with pytest.raises(KeyError):
        with_user(text, "carol", None)


def test_the_file_keeps_its_mode_and_a_new_one_is_private(tmp_path):
    """Another file takes its place at once; a link stays a link."""
    path = tmp_path / "u"
    edit(str(path), "alice", "1")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    before = path.stat().st_ino
    (tmp_path / "link").symlink_to(path)
    edit(str(tmp_path / "link"), "bob", "2")
    assert path.read_text() == "alice:1\nbob:2\n"
    assert path.stat().st_mode & 0o777 == 0o640 and path.stat().st_ino != before
    assert (tmp_path / "link").is_symlink()
    with pytest.raises(ConfigurationError, match="no user 'carol'"):
        edit(str(path), "carol", None)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link", "u"], "nothing is left behind"


def test_two_who_edit_lose_nothing(tmp_path):
    """Twenty processes, each with a user of its own."""
    path = tmp_path / "u"
    code = "import sys; from appd.auth.editing import edit; edit(sys.argv[1], sys.argv[2], 'x')"
    those = [subprocess.Popen([sys.executable, "-c", code, str(path), f"u{number}"]) for number in range(8)]
    assert [one.wait(30) for one in those] == [0] * 8
    assert sorted(path.read_text().split()) == [f"u{number}:x" for number in range(8)]


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_password_is_asked_twice_or_read():
    """On a terminal; else it is the first line."""
    assert ask(io.StringIO("hunter 2 \r\nmore\n"), "u") == b"hunter 2 "
    assert ask(_Terminal(), "u", lambda _prompt: "s") == b"s"
    answers = iter(["one", "two"])
    with pytest.raises(UsageError, match="not the same"):
        ask(_Terminal(), "u", lambda _prompt: next(answers))
    for text in ("", "\n", "x" * 5000):
        with pytest.raises(UsageError):
            ask(io.StringIO(text), "u")


def test_the_command(tmp_path):
    """Makes, changes and takes away."""
    path = str(tmp_path / "u")
    assert "new password" in passwd(path, "alice", "bcrypt", False, io.StringIO("secret\n"))
    file = PasswordFile(path)
    assert file.load() == [] and file.check("alice", b"secret")
    with pytest.raises(UsageError, match="colon"):
        passwd(path, "a:b", "argon2", False, io.StringIO("x\n"))
    assert "gone" in passwd(path, "alice", "argon2", True)
    assert (tmp_path / "u").read_text() == ""


def _public(kind, **options):
    from cryptography.hazmat.primitives.asymmetric import dsa, ed25519, rsa
    from twisted.conch.ssh.keys import Key

    key = {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "rsa": lambda: rsa.generate_private_key(65537, options["bits"]),
        "dsa": lambda: dsa.generate_private_key(2048),
    }[kind]()
    return Key(key).public().toString("OPENSSH").decode()


def test_keys_are_read_line_by_line():
    """Weak ones, damaged ones and those with options are told and not taken."""
    good = _public("ed25519")
    text = (
        f"# keys\n\n{good} alice@home\n{_public('rsa', bits=2048)}\n{_public('rsa', bits=1024)}\n"
        f'restrict {good}\nfrom="10.0.0.1" {good}\n{good[:60]}\nrubbish\n{_public("dsa")}\n'
    )
    found = parse_keys(text, "f")
    assert len(found.keys) == 2
    assert [one.place.line for one in found.problems] == [5, 6, 7, 8, 9, 10]
    assert "1024 bits" in found.problems[0].message
    assert "options" in found.problems[1].message


def test_each_user_has_a_file(tmp_path):
    """No name leads out of the folder; a file that others may write is not believed."""
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "alice").write_text(_public("ed25519"))
    (tmp_path / "secret").write_text(_public("ed25519"))
    files = KeyFiles(str(folder / "%u"))
    assert len(files.keys_of("alice").keys) == 1
    for name in ("../secret", "..", ".", "", "alice\0", "/etc/passwd", "nobody"):
        assert files.keys_of(name) == ((), ())
    (folder / "alice").chmod(0o666)
    assert files.keys_of("alice").keys == () and "chmod go-w" in files.check()[0].message
    with pytest.raises(ValueError, match="no folder"):
        KeyFiles(str(tmp_path / "none" / "%u")).check()
    assert KeyFiles("%h/.ssh/authorized_keys").path_of("root") == "/root/.ssh/authorized_keys"
    assert KeyFiles("%h/.ssh/authorized_keys").path_of("no-such-user") is None


def test_values_of_the_section():
    """Relative to the file, with a user in it."""
    assert key_files("keys/%u", "/etc/appd/appd.conf") == "/etc/appd/keys/%u"
    assert key_files("%h/.ssh/authorized_keys", "/etc/appd/appd.conf") == "%h/.ssh/authorized_keys"
    for text in ("keys", "keys/%%u", "keys/%x/%u", "/x/%h/%u"):
        with pytest.raises(ValueError, match=r"%"):
            key_files(text, "/etc/appd/appd.conf")
    assert checker("memory:a:b") == "memory:a:b"
    with pytest.raises(ValueError, match="TYPE"):
        checker(":x")
