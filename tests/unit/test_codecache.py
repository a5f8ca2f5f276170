"""The code of a start that is kept for the next one: what is taken from it, and when it is read past."""

from __future__ import annotations

import marshal
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appd.startup import codecache, patterns
from appd.startup.codecache import CodeCache

# Whoever runs the tests as root cannot be the owner of a cache; the files belong to somebody else then.
USER = os.geteuid() or 1000
# In a process of its own: what is imported from the cache, and what it looks like then.
PROGRAM = """
import os, sys
sys.path.insert(0, {folder!r})
from appd.startup import codecache, patterns
codecache._PACKAGE = {folder!r} + os.sep
cache = codecache.CodeCache({environ!r}, {uid})
cache.install()
found = cache in sys.meta_path
"""


@pytest.fixture
def kept(tmp_path):
    """Writes a module, keeps its code, and says how to import it: a program gets what `kept` returns in front."""
    folder, cache = tmp_path / "lib", tmp_path / "cache"
    folder.mkdir()
    cache.mkdir()
    (folder / "sample.py").write_text("def who():\n    return __file__, __name__\nVALUE = 1\n")
    environ = {"CACHE_DIRECTORY": str(cache)}
    start = PROGRAM.format(folder=str(folder), environ=environ, uid=USER)

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-B", "-c", start + code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run("import sample\nprint(cache.write(['sys', 'sample'], [r'(?a)x(?P<n>[0-9]+)']))") == "True"
    [file] = cache.iterdir()
    os.chown(file, USER, -1)
    assert file.stat().st_mode & 0o777 == 0o600
    return run, folder, file


def test_a_module_is_taken_from_it(kept):
    """As it would be found without: the source is not read, and all that names it is there."""
    run, folder, _file = kept
    said = run(
        "import builtins, io\n"
        "opened = []\nsys.addaudithook(lambda event, args: event == 'open' and opened.append(str(args[0])))\n"
        "import sample, inspect\n"
        "print([one for one in opened if 'sample' in one], sample.who(), sample.__spec__.origin,\n"
        " sample.__spec__.has_location, sample.__cached__, inspect.getsource(sample.who).count('\\n'))\n"
    )
    source = str(folder / "sample.py")
    assert said.startswith(f"[] ('{source}', 'sample') {source} True {folder}/__pycache__/sample.")
    assert said.endswith(" 2")


def test_what_is_kept_already_is_not_written_again(kept):
    run, _folder, file = kept
    before = file.stat().st_ino
    assert run("import sample\nprint(cache.write(['sys', 'sample'], [r'(?a)x(?P<n>[0-9]+)']))") == "False"
    assert file.stat().st_ino == before


def test_more_is_added(kept):
    """Two services may share the folder."""
    run, folder, file = kept
    (folder / "other.py").write_text("VALUE = 3\n")
    assert run("import other\nprint(cache.write(['other']))") == "True"
    os.chown(file, USER, -1)
    loaders = "print(type(sample.__loader__).__module__, type(other.__loader__).__module__)"
    assert run(f"import sample, other\n{loaders}") == "appd.startup.codecache appd.startup.codecache"


@pytest.mark.parametrize("how", ["text", "time", "gone"])
def test_a_module_that_has_changed_is_found_where_it_lies(kept, how):
    """Of another size, of another time; and one that is there no more is not there."""
    run, folder, _file = kept
    source = folder / "sample.py"
    if how == "text":
        source.write_text("VALUE = 22\n")
    elif how == "time":
        source.write_text(source.read_text().replace("VALUE = 1", "VALUE = 2"))
        os.utime(source, (time.time() + 10,) * 2)
    else:
        source.unlink()
        assert run("try:\n import sample\nexcept ImportError:\n print('gone')") == "gone"
        return
    assert run("import sample\nprint(sample.VALUE, type(sample.__loader__).__name__)") in (
        "22 SourceFileLoader",
        "2 SourceFileLoader",
    )


def test_an_expression_is_taken_from_it(kept):
    """Without re; and it does what re would have it do, by name and by number."""
    run, _folder, _file = kept
    said = run(
        "expression = patterns.compiled(r'(?a)x(?P<n>[0-9]+)')\n"
        "match = expression.fullmatch('x42')\n"
        "print('re' in sys.modules, match['n'], match[1], expression.fullmatch('y') is None, expression.pattern)"
    )
    assert said == "False 42 42 True (?a)x(?P<n>[0-9]+)"


@pytest.mark.parametrize("how", ["others", "writable", "link", "fifo", "empty", "short", "rubbish", "another"])
def test_whatever_is_wrong_is_read_past(kept, how):
    run, _folder, file = kept
    data = file.read_bytes()
    if how == "others":
        os.chown(file, USER + 1, -1) if os.geteuid() == 0 else pytest.skip("only root gives files away")
    elif how == "writable":
        file.chmod(0o620)
    else:
        file.unlink()
        if how == "link":
            file.with_suffix(".real").write_bytes(data)
            file.symlink_to(file.with_suffix(".real"))
        elif how == "fifo":
            os.mkfifo(file, 0o600)
        else:
            head = data[8:].replace(codecache.MAGIC_NUMBER, b"\0" * len(codecache.MAGIC_NUMBER), 1)
            contents = {"empty": b"", "short": data[:100], "rubbish": os.urandom(2) * 2000, "another": data[:8] + head}
            file.write_bytes(contents[how])
            file.chmod(0o600)
        os.chown(file, USER, -1, follow_symlinks=False)
    assert run("import sample\nprint(found, type(sample.__loader__).__name__)") == "False SourceFileLoader"


@pytest.mark.parametrize("how", ["cut", "zeros", "no code"])
def test_code_that_is_damaged_is_read_past(kept, how):
    """A file system may lose what lies behind the index."""
    run, _folder, file = kept
    data = file.read_bytes()
    length = len(data) - 8 - int.from_bytes(data[:8], "little")
    ends = {"cut": b"", "zeros": b"\0" * length, "no code": marshal.dumps("x" * length)[:length]}
    file.write_bytes(data[:-length] + ends[how])
    assert run("import sample\nprint(sample.VALUE, sample.who()[1])") == "1 sample"


@pytest.mark.parametrize("form", ["module", "package", "part of a package"])
def test_what_lies_in_front_goes_before(kept, form, tmp_path):
    """`python-path` and hosted code put folders in front, and what lies there is found as it is without a cache."""
    run, folder, file = kept
    front = tmp_path / "front"
    front.mkdir()
    for where, value in ((folder, 5), (front, 6)):
        (where / "parts").mkdir()
        (where / "parts" / "__init__.py").touch()
        (where / "parts" / "inner.py").write_text(f"VALUE = {value}\n")
    assert run("import parts.inner\nprint(cache.write(['sample', 'parts', 'parts.inner']))") == "True"
    os.chown(file, USER, -1)
    if form == "module":
        (front / "sample.py").write_text("VALUE = 6\n")
    elif form == "package":
        (front / "sample").mkdir()
        (front / "sample" / "__init__.py").write_text("VALUE = 6\n")
    else:
        (front / "sample").mkdir()  # which hides nothing, as a folder alone is no package
    name = "parts.inner" if form == "part of a package" else "sample"
    said = run(
        f"sys.path.insert(0, {str(front)!r})\nimport {name} as it\nprint(found, it.VALUE)\nimport sample\nprint(sample.VALUE)"
    )
    assert said == ("True 6\n1" if form == "part of a package" else "True 6\n6")


@pytest.mark.parametrize(
    ("environ", "uid"), [({}, 1000), ({"CACHE_DIRECTORY": ""}, 1000), ({"CACHE_DIRECTORY": "/x"}, 0)]
)
def test_there_may_be_none(environ, uid):
    """Without a folder, and for root."""
    cache = CodeCache(environ, uid)
    cache.install()
    assert not cache.file and cache not in sys.meta_path
    assert not cache.write(["os"])


def test_a_folder_that_takes_nothing(tmp_path):
    """No error of the cache is one of the start."""
    assert not CodeCache({"CACHE_DIRECTORY": str(tmp_path / "missing")}, 1000).write(["appd.errors"])


def test_hosted_code_is_not_kept(tmp_path, monkeypatch):
    """Neither what lies elsewhere, nor what is installed beside."""
    (tmp_path / "kept_nowhere.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    import kept_nowhere  # noqa: F401  # of this test

    assert codecache._loader_of("kept_nowhere") is None
    assert codecache._loader_of("pytest") is None
    assert codecache._loader_of("builtins") is None
    assert codecache._loader_of("appd.startup.records") is not None
    monkeypatch.delitem(sys.modules, "kept_nowhere")


@pytest.mark.parametrize(
    "text",
    [r"[a-z]++\Z", rb"[/\\]", r"(?ia)(?:(x)|(?P<last>[^y]))*?(?P=last)", r"(?s)(a)?(?(1)b|c).", r"(?m)^\w+\b(?!,)$"],
)
def test_an_expression_taken_apart(text):
    """It is the expression that re makes."""
    [(kept_text, parts)] = patterns.keep([text]).items()
    from _sre import compile

    made, wanted = compile(*parts), re.compile(text)
    assert kept_text == text
    assert made == wanted and made.groupindex == wanted.groupindex and made.flags == wanted.flags


def test_every_expression_of_ours_can_be_kept():
    """Whichever is used before the first answer."""
    package = Path(codecache.__file__).parents[1]
    modules = [one for one in package.rglob("*.py") if "patterns import" in one.read_text()]
    assert len(modules) > 10
    code = (
        "import importlib\nfrom appd.startup import patterns\n"
        "for name in {names!r}:\n    found = vars(importlib.import_module(name))\n"
        "    for one in found.values():\n        getattr(one, 'pattern', None)\n"
        "print(len(patterns.used), len(patterns.keep(patterns.used)))"
    )
    names = ["appd." + ".".join(one.relative_to(package).with_suffix("").parts) for one in modules]
    done = subprocess.run(
        [sys.executable, "-c", code.format(names=[one for one in names if "patterns" not in one])],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    used, taken = map(int, done.stdout.split())
    assert used == taken > 20
