"""Files of a policy → material, or every reason why not: permissions, folders, what belongs to whom."""

from __future__ import annotations

import os

import pytest
from support.authority import Authority, write_secret

from appd.errors import ConfigurationError, Place
from appd.tls.material import read_material
from appd.tls.policy import Policy, Source
from appd.tls.sources import read, stamp

ROOT = Authority("Root")
SITE = ROOT.issue("a.example")
HERE = Place("appd.conf", 1)


def source(key, path):
    return Source(key, str(path), HERE)


def problems(policy):
    with pytest.raises(ConfigurationError) as caught:
        read_material(policy)
    return [one.message for one in caught.value.problems]


def test_a_key_that_is_left_in_the_certificate(tmp_path):
    """With private-key apart nobody looks for one there, but every user of the host finds it."""
    both = write_secret(tmp_path / "both.pem", SITE.pem, 0o644)
    key = SITE.write(tmp_path / "a.key", SITE.key_pem())
    policy = Policy(HERE, (source("certificate", both),), source("private-key", key))
    assert problems(policy) == [
        f"certificate {both}: every user of the host may read or write the secret in it: "
        f"chmod o-rwx {both}, or world-readable-key allow"
    ]
    assert read_material(policy._replace(world_readable_key=True))[0]
    both.chmod(0o600)
    assert read_material(policy)[0]


def test_a_passphrase_that_everybody_may_read(tmp_path):
    """It is as good as the key."""
    word = write_secret(tmp_path / "word", b"swordfish\n", 0o644)
    path = SITE.write(tmp_path / "a.pem", SITE.certificate_pem + SITE.key_pem(b"swordfish"))
    policy = Policy(HERE, (source("certificate", path),), passphrase=source("key-passphrase", word))
    assert problems(policy) == [
        f"key-passphrase {word}: every user of the host may read or write the secret in it: "
        f"chmod o-rwx {word}, or world-readable-key allow"
    ]
    word.chmod(0o600)
    assert read_material(policy)[0]


def test_authorities_that_everybody_may_write(tmp_path):
    """Whoever writes one of his own into it is let in, as anybody: reading is fine, writing is not."""
    path = SITE.write(tmp_path / "a.pem")
    authority = ROOT.write(tmp_path / "ca.pem")
    policy = Policy(
        HERE, (source("certificate", path),), authorities=(source("client-ca", authority),), client_verify="required"
    )
    authority.chmod(0o666)
    assert problems(policy) == [
        f"client-ca {authority}: every user of the host may write an authority of their own into it: chmod o-w {authority}"
    ]
    authority.chmod(0o644)
    assert read_material(policy)[0]


def test_an_authority_without_the_one_above(tmp_path):
    """OpenSSL believes nobody whose chain does not come to an end; it may end in another file."""
    path = SITE.write(tmp_path / "a.pem")
    sub, root = Authority("Sub", by=ROOT).write(tmp_path / "sub.pem"), ROOT.write(tmp_path / "root.pem")
    policy = Policy(
        HERE, (source("certificate", path),), authorities=(source("client-ca", sub),), client_verify="required"
    )
    assert problems(policy) == [
        f"client-ca {sub}: 'Sub' was signed by 'Root', which is not there: nobody of theirs would be believed"
    ]
    both = policy._replace(authorities=(source("client-ca", sub), source("client-ca", root)))
    assert read_material(both)[0]
    hidden = both._replace(authorities=(source("client-ca", sub), Source("client-ca", "", HERE, "root.pem")))
    material, unseen = read_material(hidden, lenient=True)
    assert material is None
    assert len(unseen) == 1


def test_each_file_of_a_folder_is_told_of(tmp_path):
    """By its name, and all of them at once; what was opened is closed."""
    SITE.write(tmp_path / "a.pem")
    (tmp_path / "b.pem").mkdir()
    (tmp_path / "c.pem").symlink_to("gone.pem")
    SITE.write(tmp_path / "d.pem", b"nonsense")
    policy, before = Policy(HERE, (source("certificate", tmp_path),)), len(os.listdir("/proc/self/fd"))
    assert problems(policy) == [
        f"certificate {tmp_path} ({tmp_path}/b.pem): it is no regular file",
        f"certificate {tmp_path} ({tmp_path}/c.pem): there is no such file: the link leads to gone.pem",
        f"certificate {tmp_path} ({tmp_path}/d.pem): it is not PEM: no block begins with -----BEGIN",
    ]
    assert len(os.listdir("/proc/self/fd")) == before


def test_folders_within_folders_are_not_looked_into(tmp_path):
    """Links that lead back would be followed without an end, by each of 40 at each depth."""
    SITE.write(tmp_path / "a.pem")
    (tmp_path / "b.pem").symlink_to(".")
    found = dict(stamp(str(tmp_path)))
    assert sorted(found) == ["a.pem", "b.pem"]
    assert [len(one) for one in found.values()] == [5, 5]
    assert not any(isinstance(part, tuple) for one in found.values() for part in one)


def test_whatever_is_shown_by_accident_holds_no_secret(tmp_path):
    """As in a report of variables, or a traceback with them."""
    path = SITE.write(tmp_path / "a.pem", SITE.certificate_pem + SITE.key_pem(b"swordfish"))
    word = write_secret(tmp_path / "word", b"swordfish\n")
    policy = Policy(HERE, (source("certificate", path),), passphrase=source("key-passphrase", word))
    material, _unseen = read_material(policy)
    contents = [read(one, one.path) for one in policy.sources]
    secrets = [*SITE.key_pem().decode().split("\n")[1:-2], "PRIVATE KEY", "swordfish"]
    for shown in (repr(policy), repr(material), repr(material.pairs), repr(contents)):
        assert not [one for one in secrets if one in shown]
