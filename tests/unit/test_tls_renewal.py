"""Files that change → certificates in use; dates that come nearer → warnings. The clock is the test's."""

from __future__ import annotations

import errno
import json
import os
import time
from itertools import pairwise
from pathlib import Path

import pytest
from support.authority import Authority, write_secret
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from appd.errors import Place
from appd.tls import sources
from appd.tls.expiry import Warnings, listed, sentence
from appd.tls.keeping import read_or_keep
from appd.tls.material import Refused, read_material
from appd.tls.policy import Policy, Source
from appd.tls.renewal import INTERVAL, Renewal
from appd.tls.termination import Termination
from appd.troubles import Trouble

ROOT = Authority("Root")
HERE = Place("appd.conf", 1)
DAY = 86400.0


def policy_of(*paths: Path, **others: Path) -> Policy:
    apart = {key: Source(key, str(path), HERE) for key, path in others.items()}
    return Policy(HERE, tuple(Source("certificate", str(path), HERE) for path in paths), **apart)  # type: ignore[arg-type]


def termination_of(policy: Policy) -> Termination:
    material, unseen = read_material(policy)
    assert not unseen
    return Termination("shop", policy, material)


@pytest.fixture
def logged():
    """The texts of what is logged."""
    lines: list[str] = []

    def observe(event):
        if event.get("log_namespace") == "appd.tls":
            lines.append(f"{event['log_level'].name}: {event['log_format'].format(**event)}")

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def watch(logged):
    """Starts a renewal, and stops it after the test."""
    started = []

    def begin(termination, speaks=True):
        clock, told = Clock(), []
        clock.now = time.time()
        renewal = Renewal([termination], clock, lambda *said: told.append(said), speaks, lambda: clock.now)
        renewal.startService()
        started.append(renewal)

        def turns(count):
            for _one in range(count):
                clock.now += INTERVAL
                clock.advance(INTERVAL)

        return turns, told, clock

    yield begin
    for one in started:
        one.stopService()


def serials(termination: Termination) -> list[str]:
    return [one.serial for one in termination.material.pairs]


def test_changed_file_is_taken(tmp_path, watch, logged):
    """After it has lain still for a turn; whoever uses certificates is asked first."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    termination = termination_of(policy_of(path))
    turns, told, _clock = watch(termination)
    before = serials(termination)
    taken = []
    termination.renewed.append(lambda material: lambda: taken.append(material))
    turns(3)
    assert serials(termination) == before
    ROOT.issue("a.example", days=300).write(path)
    turns(1)
    assert serials(termination) == before
    turns(1)
    assert serials(termination) != before
    assert [material.pairs for material in taken] == [termination.material.pairs]
    turns(5)
    assert len(taken) == 1
    assert [line.split(" expires")[0] for line in logged] == ["info: shop: renewed: certificate of a.example"]
    assert len(told) == 2
    assert told[0] != told[1]


@pytest.mark.parametrize("swap", ["certbot", "kubernetes"])
def test_swapped_links_are_seen(tmp_path, watch, swap):
    """certbot links each file into its archive, Kubernetes a folder."""
    old, new = ROOT.issue("a.example"), ROOT.issue("a.example")
    live = tmp_path / "live"
    for number, one in ((1, old), (2, new)):
        folder = tmp_path / f"archive{number}"
        folder.mkdir()
        one.write(folder / "tls.crt", one.certificate_pem)
        one.write(folder / "tls.key", one.key_pem())
    live.mkdir()
    if swap == "certbot":
        for name in ("tls.crt", "tls.key"):
            (live / name).symlink_to(tmp_path / "archive1" / name)
    else:
        (live / "..data").symlink_to(tmp_path / "archive1")
        for name in ("tls.crt", "tls.key"):
            (live / name).symlink_to(f"..data/{name}")
    termination = termination_of(policy_of(live / "tls.crt", private_key=live / "tls.key"))
    turns, _told, _clock = watch(termination)
    before = serials(termination)
    if swap == "certbot":
        for name in ("tls.crt", "tls.key"):
            (live / name).unlink()
            (live / name).symlink_to(tmp_path / "archive2" / name)
            turns(1)  # between the two files: key and certificate do not match
    else:
        (live / "..new").symlink_to(tmp_path / "archive2")
        (live / "..new").rename(live / "..data")
    turns(2)
    assert serials(termination) != before


def test_half_written_pair_is_waited_for(tmp_path, watch, logged):
    """Nothing is said of a key that is there a moment before its certificate."""
    old, new = ROOT.issue("a.example"), ROOT.issue("a.example")
    crt, key = old.write(tmp_path / "a.crt", old.certificate_pem), old.write(tmp_path / "a.key", old.key_pem())
    termination = termination_of(policy_of(crt, private_key=key))
    turns, _told, _clock = watch(termination)
    new.write(key, new.key_pem())
    turns(1)
    new.write(crt, new.certificate_pem)
    turns(2)
    assert len(logged) == 1
    assert "renewed" in logged[0]


@pytest.mark.parametrize("swap", ["its links", "itself"])
def test_a_folder_of_links_is_seen(tmp_path, watch, swap):
    """As Kubernetes mounts a secret, or as a release is linked."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ROOT.issue("a.example").write(tmp_path / name / "a.pem")
    live = tmp_path / "live"
    link = live
    if swap == "its links":
        live.mkdir()
        (live / "a.pem").symlink_to("..data/a.pem")
        link = live / "..data"
    link.symlink_to(tmp_path / "one")
    termination = termination_of(policy_of(live))
    turns, _told, _clock = watch(termination)
    before = serials(termination)
    (tmp_path / "new").symlink_to(tmp_path / "two")
    (tmp_path / "new").rename(link)
    turns(2)
    assert serials(termination) != before


def test_a_file_that_is_written_slowly_into_a_folder(tmp_path, watch, logged):
    """It is refused as long as it is not whole, and told once if it lies still in between."""
    ROOT.issue("a.example").write(tmp_path / "a.pem")
    termination = termination_of(policy_of(tmp_path))
    turns, _told, _clock = watch(termination)
    whole = ROOT.issue("b.example").pem
    with write_secret(tmp_path / "b.pem", b"").open("r+b", 0) as file:
        for part in range(0, len(whole), 100):
            file.write(whole[part : part + 100])
            turns(1)
            if part == 500:
                turns(40)
    turns(1)
    assert [one.title for one in termination.material.pairs] == ["a.example", "b.example"]
    assert [line.partition(":")[0] for line in logged] == ["error", "info"]
    assert "b.pem): it is cut off" in logged[0]


def test_files_that_change_while_they_are_read(tmp_path, watch, logged, monkeypatch):
    """Certificate of the one, key of the other: what is there in the end is taken."""
    crt, key = tmp_path / "a.crt", tmp_path / "a.key"

    def put(one):
        one.write(crt, one.certificate_pem)
        one.write(key, one.key_pem())

    put(ROOT.issue("a.example"))
    termination = termination_of(policy_of(crt, private_key=key))
    turns, _told, _clock = watch(termination)
    last = ROOT.issue("a.example")
    put(ROOT.issue("a.example"))
    turns(1)

    def read_and_change(source, path):
        found = sources.read(source, path)
        if path == str(key):
            put(last)
        return found

    with monkeypatch.context() as patch:
        patch.setattr("appd.tls.material.read", read_and_change)
        turns(1)
    assert "are refused" in logged[-1]
    turns(2)
    assert "renewed" in logged[-1]
    assert termination.material.pairs[0].chain == last.certificate_pem


BAD = {
    "no file": lambda path: path.unlink(),
    "another key": lambda path: ROOT.issue("a.example").write(
        path, ROOT.issue("a.example").certificate_pem + ROOT.issue("a.example").key_pem()
    ),
    "expired": lambda path: ROOT.issue("a.example", days=-1).write(path),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "readable by all": lambda path: path.chmod(0o644),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_renewal_is_refused(tmp_path, watch, logged, what):
    """One entry, the old certificate stays; a good one after it is taken. Status tells as long as it lasts."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    termination = termination_of(policy_of(path))
    turns, told, clock = watch(termination)
    before = serials(termination)
    BAD[what](path)
    turns(10)
    assert serials(termination) == before
    assert len(told) == 2
    assert len(logged) == 1
    assert logged[0].startswith("error: shop: the new certificates are refused and the old ones stay: appd.conf:1: ")
    assert str(path) in logged[0]
    (wrong,) = told[-1][2]
    # In the second turn after the change; told nothing but that since.
    assert (wrong.server, wrong.what) == ("shop", "the certificates on disk have been refused")
    assert wrong.since == int(clock.now - 8 * INTERVAL)
    reason = logged[0].partition("appd.conf:1: ")[2]
    assert wrong.reason == f"{reason}; the former ones are served"
    if path.is_dir():
        path.rmdir()
    ROOT.issue("a.example").write(path)
    turns(2)
    assert serials(termination) != before
    assert len(told) == 3 and told[-1][2] == []


def test_what_is_refused_is_told_until_it_is_not_there(tmp_path, watch):
    """Another fault is told since the first; it ends when what is served is put back, and when it is a matter of time."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    (kept := tmp_path / "kept").hardlink_to(path)
    turns, told, _clock = watch(termination_of(policy_of(path)))
    path.unlink()
    turns(3)
    (first,) = told[-1][2]
    write_secret(path, b"nonsense")
    turns(40)
    (second,) = told[-1][2]
    assert "there is no such file" in first.reason and "it is not PEM" in second.reason
    assert second.since == first.since
    kept.replace(path)
    turns(3)
    assert len(told) == 4 and told[-1][2] == []
    write_secret(path, b"nonsense")
    turns(3)
    assert told[-1][2][0].since > first.since
    ROOT.issue("a.example", start=2).write(path)
    turns(3)
    assert told[-1][2] == [] and "is not valid before" in told[-1][0]


def test_what_is_not_valid_yet_is_taken_when_it_is(tmp_path, watch, logged):
    """Told once, and part of what people and the supervisor are told until then."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    termination = termination_of(policy_of(path))
    turns, told, clock = watch(termination)
    before = serials(termination)
    fresh = ROOT.issue("a.example", start=2)
    fresh.write(path)
    turns(3)
    assert serials(termination) == before
    begins = read_one(fresh.pem, clock.now + 3 * DAY).begins
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(begins))
    assert logged == [
        "warn: shop: the new certificates are not valid yet and will be taken then; the old ones stay: "
        f"appd.conf:1: certificate {path}: the certificate of 'a.example' is not valid before {when}"
    ]
    assert len(told) == 2
    assert told[1][0].endswith(f", a new one of a.example is not valid before {when}")
    assert [row["begins"] for row in json.loads(told[1][1])] == [0, int(begins)]
    for left in (86400, 3600, 299, 60, 1):
        clock.now = begins - left - INTERVAL
        turns(1)
        assert serials(termination) == before
    turns(1)
    assert serials(termination) != before
    assert [line.split(" expires")[0] for line in logged[1:]] == ["info: shop: renewed: certificate of a.example"]
    assert "not valid before" not in told[2][0]
    assert [row["begins"] for row in json.loads(told[2][1])] == [0]


def test_what_waited_is_forgotten_with_its_file(tmp_path, watch, logged):
    """The old one is put back, or a third takes its place."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    (kept := tmp_path / "kept").hardlink_to(path)
    termination = termination_of(policy_of(path))
    turns, told, clock = watch(termination)
    before = serials(termination)
    ROOT.issue("a.example", start=2).write(path)
    turns(3)
    assert "not valid before" in told[-1][0]
    kept.replace(path)
    turns(3)
    assert "not valid before" not in told[-1][0]
    clock.now += 3 * DAY
    turns(3)
    assert serials(termination) == before
    assert [line for line in logged if "not valid yet" not in line and "expires" not in line] == []


def test_two_faults_are_no_matter_of_time(tmp_path, watch, logged):
    """What is wrong besides does not mend itself: refused as ever, and what is left of it is told when it is another."""
    one, two = (ROOT.issue(f"{name}.example").write(tmp_path / f"{name}.pem") for name in "ab")
    termination = termination_of(policy_of(one, two))
    turns, told, clock = watch(termination)
    before = serials(termination)
    ROOT.issue("a.example", start=2).write(one)
    ROOT.issue("b.example").write(two, b"nonsense")
    turns(3)
    clock.now += 3 * DAY
    turns(100)
    assert serials(termination) == before
    assert [line.startswith("error: shop: the new certificates are refused") for line in logged] == [True, True]
    assert logged[0].endswith(" UTC (and 1 more)")
    assert logged[1].endswith("b.pem: it is not PEM: no block begins with -----BEGIN")
    assert [
        one.reason.endswith(" (and 1 more); the former ones are served") for (one,) in (those[2] for those in told[1:])
    ] == [True, False]


def replaced(termination: Termination) -> Termination:
    """That of a worker in the place of one that had those certificates."""
    made = Termination("shop", termination.policy, None)
    made.material, _unseen, made.refused = read_or_keep(termination.policy, termination.material)
    return made


@pytest.mark.parametrize("speaks", [True, False])
def test_a_worker_that_begins_with_bad_files(tmp_path, watch, logged, speaks):
    """Each says so, once; what is good is taken after it, and what is bad in another way is told as ever."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    former = termination_of(policy_of(path))
    path.unlink()
    termination = replaced(former)
    turns, told, _clock = watch(termination, speaks)
    turns(200)
    assert [[one.reason for one in said[2]] for said in told] == [
        [f"certificate {path}: there is no such file; the former ones are served"]
    ]
    assert logged == [
        "warn: shop: the certificates that lie there are refused, and this worker serves those of the one before it: "
        f"appd.conf:1: certificate {path}: there is no such file"
    ]
    assert serials(termination) == serials(former)
    path.write_bytes(b"nonsense")
    turns(3)
    assert len(logged) == 1 + speaks
    ROOT.issue("a.example").write(path)
    turns(2)
    assert serials(termination) != serials(former)
    assert len(logged) == 1 + 2 * speaks


def test_a_list_that_expired_while_it_was_served(tmp_path, watch, logged):
    """It is what is served still, said once and of which status tells until it is another."""
    path, ca = ROOT.issue("a.example").write(tmp_path / "a.pem"), ROOT.write(tmp_path / "ca.pem")
    (crl := tmp_path / "crl.pem").write_bytes(ROOT.revoke(days=1))
    policy = policy_of(path)._replace(
        authorities=(Source("client-ca", str(ca), HERE),),
        client_verify="required",
        revocations=(Source("crl", str(crl), HERE),),
    )
    former = termination_of(policy)
    termination = Termination("shop", policy, former.material)
    with pytest.raises(Refused) as caught:
        read_material(policy, before=former.material, now=time.time() + 2 * DAY)
    termination.refused = caught.value
    turns, told, _clock = watch(termination)
    turns(200)
    assert len(logged) == 1 and "has expired on" in logged[0]
    assert len(told) == 1 and len(told[0][2]) == 1
    crl.write_bytes(ROOT.revoke())
    turns(2)
    assert len(told) == 2 and told[1][2] == []


def test_a_worker_that_begins_too_early(tmp_path, watch, logged):
    """What is not valid yet is told, waited for, and taken at its time."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    former = termination_of(policy_of(path))
    fresh = ROOT.issue("a.example", start=2)
    fresh.write(path)
    termination = replaced(former)
    turns, told, clock = watch(termination)
    assert "not valid before" in told[0][0]
    turns(3)
    clock.now = read_one(fresh.pem, clock.now + 3 * DAY).begins - INTERVAL - 1
    turns(1)
    assert serials(termination) == serials(former)
    turns(1)
    assert serials(termination) != serials(former)
    assert [line.partition(":")[0] for line in logged] == ["warn", "info"]


@pytest.mark.parametrize("where", ["appd.tls.openssl.as_file", "appd.tls.sources._read_file"])
def test_a_lack_of_descriptors_passes(tmp_path, watch, logged, monkeypatch, where):
    """It is told once, and tried again ever less often; the watch does not end with it."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    termination = termination_of(policy_of(path))
    termination.wrap(object(), Clock())
    turns, _told, clock = watch(termination)
    before = serials(termination)
    tries = []

    def none_left(_what):
        tries.append(clock.now)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    ROOT.issue("a.example").write(path)
    with monkeypatch.context() as patch:
        patch.setattr(where, none_left)
        turns(6000)
        assert serials(termination) == before
        refused = [line for line in logged if "expires" not in line]
        assert len(refused) == 1
        assert refused[0].startswith("error: shop: the new certificates are refused and the old ones stay: ")
        assert refused[0].endswith("Too many open files")
        waits = [later - earlier for earlier, later in pairwise(tries)]
        assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    turns(1801)
    assert serials(termination) != before


def test_library_has_the_last_word(tmp_path, watch, logged):
    """What a user of the certificates refuses is not taken by any."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    termination = termination_of(policy_of(path))
    turns, _told, _clock = watch(termination)
    before, taken = serials(termination), []

    def refuse(_material):
        raise ValueError("not this one")

    termination.renewed += [lambda _material: lambda: taken.append(1), refuse]
    ROOT.issue("a.example").write(path)
    turns(2)
    assert (serials(termination), taken) == (before, [])
    assert "not this one" in logged[0]


def test_one_of_many_is_read_anew(tmp_path, watch):
    """The others are the same objects as before: nothing of them was read."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(5):
        ROOT.issue(f"{number}.example").write(folder / f"{number}.pem")
    termination = termination_of(policy_of(folder))
    turns, _told, _clock = watch(termination)
    before = termination.material.pairs
    ROOT.issue("3.example").write(folder / "3.pem")
    ROOT.issue("new.example").write(folder / "new.pem")
    (folder / "0.pem").unlink()
    turns(2)
    after = termination.material.pairs
    assert [one.title for one in after] == ["1.example", "2.example", "3.example", "4.example", "new.example"]
    assert [one in before for one in after] == [True, True, False, True, False]


def test_one_that_has_expired_keeps_no_other_from_being_renewed(tmp_path, watch, logged):
    """It is served on as it would be without the renewal, and has been told."""
    late, other = ROOT.issue("late.example", days=1).write(tmp_path / "late.pem"), tmp_path / "other.pem"
    ROOT.issue("other.example").write(other)
    termination = termination_of(policy_of(late, other))
    turns, _told, clock = watch(termination)
    before = serials(termination)
    clock.now += 2 * DAY
    ROOT.issue("other.example").write(other)
    turns(3)
    assert serials(termination)[0] == before[0]
    assert serials(termination)[1] != before[1]
    assert any("shop: renewed: certificate of other.example" in line for line in logged)
    ROOT.issue("late.example", days=1).write(late)  # which has expired by that clock, too
    turns(3)
    assert serials(termination)[0] == before[0]
    assert "late.pem: the certificate of 'late.example' has expired on" in logged[-1]


def test_what_nobody_expects_does_not_end_the_watch(tmp_path, watch):
    """The reactor logs what is raised; later renewals are taken."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    termination = termination_of(policy_of(path))
    turns, _told, _clock = watch(termination)
    before = serials(termination)

    def fail(_material):
        raise RuntimeError

    termination.renewed.append(fail)
    ROOT.issue("a.example").write(path)
    turns(1)
    with pytest.raises(RuntimeError):
        turns(1)
    termination.renewed.clear()
    ROOT.issue("a.example").write(path)
    turns(3)
    assert serials(termination) != before


def test_touched_files_change_nothing(tmp_path, watch, logged):
    """A file that was only touched: taken, and said to be the same."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    termination = termination_of(policy_of(path))
    turns, _told, _clock = watch(termination)
    before = serials(termination)
    os.utime(path, (1, 1))
    turns(3)
    assert serials(termination) == before
    assert logged == ["info: shop: renewed: no certificate is another"]


def test_only_one_worker_writes(tmp_path, watch, logged):
    """The others renew without a word, and tell the supervisor what they refuse."""
    path = ROOT.issue("a.example", days=3).write(tmp_path / "a.pem")
    termination = termination_of(policy_of(path))
    turns, told, _clock = watch(termination, speaks=False)
    before = serials(termination)
    ROOT.issue("a.example", days=300).write(path)
    turns(2)
    write_secret(path, b"")
    turns(2)
    assert serials(termination) != before
    assert (logged, len(told)) == ([], 3)


def test_warnings_in_the_journal(tmp_path, watch, logged):
    """At 21, 7 and 1 days, once each, and when it has happened; a renewed one begins again."""
    path = ROOT.issue("a.example", days=30).write(tmp_path / "a.pem")
    termination = termination_of(policy_of(path))
    _turns, _told, clock = watch(termination)
    found = []
    for hour in range(31 * 24):
        clock.now += 3600
        clock.advance(3600)
        found += [(hour // 24, line.split(") ")[1].split(",")[0]) for line in logged]
        logged.clear()
    assert [day for day, _said in found] == [8, 22, 28, 29]  # the last hour of each
    assert [said for _day, said in found] == [
        "expires in 20 days",
        "expires in 6 days",
        "expires in less than a day",
        f"has expired on {sentence(termination.material.pairs)[-10:]}",
    ]


def test_due_says_each_once():
    """A certificate that is late already is told of once, by the nearest of the days."""
    one = read_one(ROOT.issue("a.example", days=5).pem)
    warnings = Warnings()
    now = one.expires - 5 * DAY
    assert [words for _one, words in warnings.due([one], now)] == [f"expires in 5 days, on {sentence([one])[-10:]}"]
    assert warnings.due([one], now + DAY) == []
    assert warnings.due([one], one.expires - 1.5 * DAY) == []
    assert len(warnings.due([one], one.expires - 0.5 * DAY)) == 1
    assert len(warnings.due([one], one.expires + 1)) == 1
    assert warnings.due([one], one.expires + 100) == []
    assert Warnings().due([one], one.expires - 30 * DAY) == []


def read_one(pem: bytes, now: float = 0.0):
    from appd.tls.certificates import read_pair

    return read_pair("a.pem", [pem], None, None, now or time.time())


def test_what_the_supervisor_is_told():
    """The first few to expire, in one line that is not too long for a datagram."""
    pairs = [read_one(ROOT.issue(f"{number}.example", days=100 - number).pem) for number in range(30)]
    text = listed({"shop": pairs})
    assert "\n" not in text
    assert [row["name"] for row in json.loads(text)][:2] == ["29.example", "28.example"]
    assert len(json.loads(text)) == 20
    assert sentence(pairs).startswith("certificate of 29.example expires 20")
    assert sentence([]) == ""


def test_both_adapters_follow(tmp_path, watch):
    """Twisted's transports and an engine on sockets of its own serve the new certificate from the same moment on."""
    import ssl

    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    termination = termination_of(policy_of(path))
    termination.by_stdlib(alone=False)
    assert termination.problems() == []
    contexts = termination.on_sockets().contexts
    factory = termination.wrap(object(), Clock())
    turns, _told, _clock = watch(termination)
    before = contexts().default, factory._contexts().default
    assert isinstance(before[0], ssl.SSLContext)
    ROOT.issue("a.example").write(path, b"nonsense")
    turns(2)
    assert (contexts().default, factory._contexts().default) == before
    ROOT.issue("a.example").write(path)
    turns(2)
    assert contexts().default is not before[0]
    assert factory._contexts().default is not before[1]


@pytest.mark.parametrize("stdlib", [False, True])
def test_what_the_library_cannot_do_is_told(tmp_path, stdlib):
    """With the line of the key, by whichever library serves."""
    path = ROOT.issue("a.example").write(tmp_path / "a.pem")
    policy = policy_of(path)._replace(ciphers="NOSUCH", ciphers_place=Place("appd.conf", 7))
    termination = termination_of(policy)
    if stdlib:
        termination.by_stdlib(alone=True)
    (problem,) = termination.problems()
    assert str(problem).startswith("appd.conf:7: ciphers: 'NOSUCH' is no cipher suite")


def test_an_authority_that_expires_is_warned_of(tmp_path, watch, logged):
    """When it has, its clients are refused and a start is, too."""
    path = ROOT.issue("a.example", days=9000).write(tmp_path / "a.pem")
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    termination = termination_of(
        policy_of(path)._replace(authorities=(Source("client-ca", str(tmp_path / "ca.pem"), HERE),))
    )
    turns, _told, clock = watch(termination)
    turns(1)
    assert logged == []
    said = []
    for days in (20, 6, 0.5, -1):
        clock.now = termination.material.authorities[0].expires - days * DAY
        clock.advance(3600)
        turns(2)
        said.append([line.partition(", on ")[0] for line in logged])
        logged.clear()
    text = f"warn: shop: the certificate of 'Root' ({tmp_path}/ca.pem)"
    assert [[one.partition(" on ")[0] for one in those] for those in said] == [
        [f"{text} expires in 20 days"],
        [f"{text} expires in 6 days"],
        [f"{text} expires in less than a day"],
        [f"{text} has expired"],
    ]


def test_a_list_that_has_expired_is_told_once(tmp_path, watch, logged):
    """From then on whoever comes with a certificate is refused: nobody would know why."""
    path = ROOT.issue("a.example", days=300).write(tmp_path / "a.pem")
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    (tmp_path / "crl.pem").write_bytes(ROOT.revoke())
    policy = policy_of(path)
    client_ca, crl = (
        Source(key, str(tmp_path / name), HERE) for key, name in (("client-ca", "ca.pem"), ("crl", "crl.pem"))
    )
    termination = termination_of(policy._replace(authorities=(client_ca,), revocations=(crl,)))
    [(where, until)] = termination.material.lists
    assert where == str(tmp_path / "crl.pem") and until > time.time()
    turns, told, clock = watch(termination)
    turns(2)
    assert logged == [] and told[-1][2] == []
    clock.now = until - INTERVAL + 1
    turns(1)
    assert told[-1][2] == [
        Trouble(
            "shop",
            f"the list of revoked certificates {where} has been out of date",
            int(until),
            "clients with a certificate are refused",
        )
    ]
    turns(2)
    assert len(told) == 2
    assert (
        len(
            [line for line in logged if f"error: shop: the list of revoked certificates {where} has expired on" in line]
        )
        == 1
    )
    clock.advance(3600)
    turns(2)
    assert len([line for line in logged if "the list of revoked" in line]) == 1
