"""The cache of the validated file: taken only when nothing has changed, and never from somebody else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from appd.config.cache import SettingsCache
from appd.config.inputs import Inputs, identity
from appd.config.loader import Loader
from appd.config.plain import NotPlain, decode, encode
from appd.registry import Registration, Registry

GOLDEN = Path(__file__).parents[1] / "golden" / "files" / "good.conf"
# Root has no cache: the tests then write as root and hand the file to somebody else.
USER = os.geteuid() or 65534

TEXT = """
%define port 8080
%include part.conf
<environment>
  Home $(CACHE_TEST)
</environment>
<echo one>
  address 127.0.0.1:$port
</echo>
"""


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A file that includes another, both older than the resolution of time stamps."""
    monkeypatch.setenv("CACHE_TEST", "here")
    (tmp_path / "part.conf").write_text("workers 2\n")
    (tmp_path / "main.conf").write_text(TEXT)
    for one in tmp_path.iterdir():
        age(one)
    (tmp_path / "cache").mkdir()
    return tmp_path / "main.conf"


def age(path):
    """Makes a file ten seconds older."""
    past = path.stat().st_mtime - 10
    os.utime(path, (past, past))


def cache_of(conf):
    return SettingsCache(str(conf), {**os.environ, "CACHE_DIRECTORY": f"{conf.parent}/cache:/elsewhere"}, USER)


def loader_of(later=100.0):
    """A loader as it is some time after the package was installed."""
    loader = Loader(Registry())
    own = loader.inputs
    loader.inputs = Inputs(clock=lambda: time.time() + later)
    for path in own.files:
        loader.inputs.file(path)
    return loader


def store(conf):
    """Reads the file and keeps what came out; returns both."""
    loader = loader_of()
    settings = loader.load(str(conf))
    cache = cache_of(conf)
    assert cache.write(settings, loader.inputs)
    os.chown(cache.file, USER, -1)
    return cache, settings


def same(one, other):
    """Equal in values, and in the places that `==` passes over."""
    assert one == other
    assert (one.place, one.places, one.written) == (other.place, other.places, other.written)
    for value, there in zip(one.values.get("servers", []), other.values.get("servers", []), strict=True):
        same(value, there)


def test_what_was_kept_is_what_was_read(conf):
    """Values, places and texts."""
    cache, settings = store(conf)
    found = cache.read()
    same(found, settings)
    assert found.workers == 2
    assert found.servers[0].where("address").line == 8


def test_the_texts_of_what_was_kept(conf):
    """What the settings were made of goes to later workers of the generation, unless it has been changed by then."""
    cache, _settings = store(conf)
    assert cache.texts() == {}
    cache.read()
    part = conf.parent / "part.conf"
    texts = {str(conf): TEXT, str(part): "workers 2\n"}
    assert cache.texts() == texts
    part.write_text("workers 3\n")
    assert cache.texts() is None
    settings = Loader(Registry(), texts).load(str(conf))
    assert settings.workers == 2
    part.unlink()
    conf.unlink()
    same(Loader(Registry(), texts).load(str(conf)), settings)
    assert cache.texts() is None


def test_a_file_with_everything_survives():
    """The golden file has every key of the process and every kind of server."""
    settings = Loader(Registry()).load(str(GOLDEN))
    same(decode(json.loads(json.dumps(encode(settings)))), settings)


@pytest.mark.parametrize("name", ["main.conf", "part.conf"])
def test_a_changed_file_is_read_again(conf, name):
    """Also when only its time stamp or its inode tells."""
    cache, _settings = store(conf)
    path = conf.parent / name
    text = path.read_text()
    path.unlink()
    path.write_text(text)
    age(path)
    assert cache.read() is None


def test_a_file_that_has_gone_is_no_crash(conf):
    """The error is the reading's."""
    cache, _settings = store(conf)
    conf.unlink()
    assert cache.read() is None


def test_a_changed_variable(conf, monkeypatch):
    """$(CACHE_TEST) has another value, or none."""
    _cache, _settings = store(conf)
    monkeypatch.setenv("CACHE_TEST", "there")
    assert cache_of(conf).read() is None
    monkeypatch.delenv("CACHE_TEST")
    assert cache_of(conf).read() is None


def test_a_changed_component(conf):
    """The code and the schema that check are among the inputs, ZConfig too."""
    loader = loader_of()
    loader.load(str(conf))
    files = loader.inputs.files
    for ending in ("echo/component.xml", "config/schema.xml", "config/datatypes.py", "ZConfig/__init__.py"):
        assert any(one.endswith(ending) for one in files), ending


def test_other_surroundings(conf, monkeypatch):
    """`workers auto` depends on the processors, a relative path on the folder."""
    store(conf)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(77)))
    assert cache_of(conf).read() is None


def read_young(conf):
    """Reads a file that has just been written; returns what it depends on, and a clock to set."""
    now = [time.time()]
    conf.write_text(TEXT)
    inputs = Inputs(clock=lambda: now[0])
    inputs.file(str(conf))
    return inputs, now


def test_a_young_file_is_not_kept_at_once(conf):
    """It may change again within one tick of the clock of the file system."""
    inputs, now = read_young(conf)
    assert not inputs.settled()
    now[0] += 3
    assert inputs.settled()


def test_a_young_file_that_changed_again_unseen(conf):
    """The time stamp and the size are the same, what it holds is not."""
    inputs, now = read_young(conf)
    before = conf.stat()
    conf.write_text(TEXT.replace("8080", "8081"))
    os.utime(conf, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert inputs.files[str(conf)] == identity(str(conf))
    now[0] += 3
    assert not inputs.settled()


def test_a_young_file_that_has_gone(conf):
    """No crash, and nothing kept."""
    inputs, now = read_young(conf)
    conf.unlink()
    now[0] += 3
    assert not inputs.settled()


def test_root_has_no_cache(conf):
    """Others may be able to write where it would lie."""
    assert SettingsCache(str(conf), {"CACHE_DIRECTORY": str(conf.parent)}, 0).file == ""
    assert SettingsCache(str(conf), {"CACHE_DIRECTORY": str(conf.parent)}, 0).read() is None


def test_without_a_folder_there_is_none(conf):
    """A run without systemd."""
    assert SettingsCache(str(conf), {}, USER).file == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else(conf):
    """Whoever can write to the folder does not choose what the service runs."""
    cache, _settings = store(conf)
    os.chown(cache.file, USER - 1, -1)
    assert cache.read() is None


def test_a_file_that_others_may_write(conf):
    """The mode counts too."""
    cache, _settings = store(conf)
    os.chmod(cache.file, 0o620)
    assert cache.read() is None


def test_links_and_fifos(conf):
    """Neither followed nor waited for."""
    cache, _settings = store(conf)
    os.rename(cache.file, f"{cache.file}.real")
    os.symlink(f"{cache.file}.real", cache.file)
    assert cache.read() is None
    os.unlink(cache.file)
    os.mkfifo(cache.file)
    os.chown(cache.file, USER, -1)
    assert cache.read() is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", '{"surroundings": 1}', "[" * 100000, '{"a": NaN', '["settings"]'],
    ids=lambda text: text[:20],
)
def test_rubbish_is_read_past(conf, text):
    """A damaged file costs the time to parse, and nothing else."""
    cache, _settings = store(conf)
    Path(cache.file).write_text(text)
    os.chmod(cache.file, 0o600)
    assert cache.read() is None


@pytest.mark.parametrize(
    "settings", [["settings"], ["place", "x"], ["tuple"], ["dict", 1], ["what"], ["address", *range(30)], [], 5]
)
def test_rubbish_within_is_read_past(conf, settings):
    """All is in order but the settings."""
    cache, _settings = store(conf)
    kept = json.loads(Path(cache.file).read_text())
    Path(cache.file).write_text(json.dumps({**kept, "settings": settings}))
    assert cache.read() is None


def test_what_is_not_plain_is_not_kept(conf):
    """A data type of a server type may give an object of its own."""
    loader = loader_of()
    settings = loader.load(str(conf))
    settings.values["threads"] = object()
    assert not cache_of(conf).write(settings, loader.inputs)
    assert os.listdir(conf.parent / "cache") == []
    with pytest.raises(NotPlain, match="object"):
        encode(settings)


def test_a_server_type_of_another_package(conf, tmp_path, monkeypatch):
    """Its data types may depend on anything."""
    package = tmp_path / "elsewhere"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "component.xml").write_text("<component><sectiontype name='away' implements='appd.server'/></component>")
    monkeypatch.syspath_prepend(str(tmp_path))
    loader = loader_of()
    settings = loader.load(str(conf))
    assert loader.inputs.own
    loader.add_server_type(Registration("away", "elsewhere:server_type", "elsewhere"))
    assert not cache_of(conf).write(settings, loader.inputs)


def test_a_folder_that_takes_nothing(conf):
    """A full disk or a folder without permission is no error of the start."""
    loader = loader_of()
    settings = loader.load(str(conf))
    (conf.parent / "cache").rmdir()
    assert not cache_of(conf).write(settings, loader.inputs)
