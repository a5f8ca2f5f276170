"""The way of the data: imports go one way, modules stay small, and what must not be imported early is not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "appd"

# From what everybody may import to what nobody may. A module imports from earlier layers only, or from its own package.
LAYERS = [
    {"startup"},
    {"errors", "messages", "signals"},
    {"address", "dates", "sealed"},
    {"access", "control", "ending", "journal", "pending", "portion", "seldom", "troubles"},
    {"systemd"},
    {"supervisor"},
    {"http.core"},
    {"http.log"},
    {"http"},
    {"http.h2", "http.static"},
    {"http.lane"},
    {"http.loop"},
    {"http.proxy"},
    {"lending"},
    {"interfaces"},
    {"declaring"},
    {"registry"},
    {"config"},
    {"tls"},
    {"limits"},
    {"listening"},
    {"hosting"},
    {"auth"},
    {"service"},
    {"servers"},
    {"servers.*", "page"},
    {"servers.server"},
    {"worker"},
    {"commands", "tap"},
    {"cli"},
    {"__main__"},
]
# Packages whose folders are layers of their own.
DIVIDED = ("http", "servers")
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Before the descriptors are taken over, Twisted may not be imported: these run then.
BEFORE_TWISTED = [
    "__main__",
    "address",
    "cli",
    "config",
    "errors",
    "http.lane.server",
    "journal",
    "signals",
    "systemd.activation",
    "systemd.notify",
    "worker.worker",
]

# conch and twisted.protocols.ftp import the reactor by themselves: what is built on them is imported when a server is
# made, in a process that has one.
ON_A_REACTOR = [
    f"appd.servers.{name}"
    for name in (
        "ftp.data",
        "ftp.factory",
        "ftp.session",
        "ftp.shell",
        "ftp.transfers",
        "smtp.delivery",
        "smtp.factory",
        "smtp.letters",
        "smtp.lines",
        "smtp.protocol",
        "smtp.wording",
        "ssh.extensions",
        "ssh.session",
        "ssh.sftp",
        "ssh.shell",
        "ssh.transport",
    )
]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The name that LAYERS has for a file."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] in DIVIDED:
        return parts[0] if len(parts) == 2 else f"{parts[0]}.{parts[1]}"
    return parts[0] if parts[0] != "__init__" else ""


def imported(path: Path) -> set[str]:
    """The appd modules that a file imports, wherever in it, type checking aside."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found: set[str] = set()
    package = ("appd", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found.add(module)
            found |= {f"{module}.{name.name}" for name in node.names}
    return {name.removeprefix("appd.") for name in found if name.startswith("appd.")}


def known(name: str) -> str | None:
    """What an imported name belongs to: an entry of LAYERS, or a folder of a server type."""
    parts = name.split(".")
    if parts[0] in DIVIDED and len(parts) > 1 and (PACKAGE / parts[0] / parts[1]).is_dir():
        return f"{parts[0]}.{parts[1]}"
    return parts[0] if parts[0] in RANK else None


def rank(name: str) -> int:
    """The layer of a unit; the folders of server types share one, and do not import each other."""
    return RANK[name] if name in RANK or not name.startswith("servers.") else RANK["servers.*"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_arrow(path):
    """No back edge."""
    here = unit(path)
    if not here:
        assert imported(path) == set(), "appd/__init__.py imports nothing"
        return
    assert here in RANK or here.startswith("servers."), (
        f"{path.name} has no layer: give it one in this test and in docs/architecture.md"
    )
    for name in imported(path):
        target = known(name)
        if target is not None and target != here:
            assert rank(target) < rank(here), f"{here} imports {name}, which is not before it"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_stay_small(path):
    """None over 400 lines, no function over 60."""
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is long: is there a second noun in it?"


def test_half_of_the_modules_are_under_200_lines():
    """The median of those that are more than a docstring."""
    lengths = sorted(length for path in modules() if (length := path.read_text().count("\n")) > 10)
    assert lengths[len(lengths) // 2] < 200


def test_only_the_command_line_exits():
    """sys.argv, sys.exit and os._exit belong to cli, __main__, the signals that end, twistd's plugin, and a program."""
    for path in modules():
        if unit(path) in ("cli", "__main__", "ending", "signals", "supervisor", "tap") or path.name == "launch.py":
            continue
        attributes = {
            ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
        }
        assert not attributes & {"sys.argv", "sys.exit", "os._exit"}, path


@pytest.mark.parametrize("name", BEFORE_TWISTED)
def test_the_start_does_not_import_twisted(name):
    """What runs before the descriptors are taken over."""
    code = f"import sys, appd.{name}; print([m for m in sys.modules if m.split('.')[0] in ('twisted', 'OpenSSL', 'asyncio')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_supervisor_imports_neither_twisted_nor_zconfig():
    """Nor does it start a thread: it forks."""
    names = [f"appd.supervisor.{path.stem}" for path in sorted((PACKAGE / "supervisor").glob("*.py"))]
    code = (
        f"import importlib, sys, threading\nfor name in {names!r}:\n    importlib.import_module(name.removesuffix('.__init__'))\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('twisted', 'ZConfig', 'zope', 'OpenSSL', 'asyncio')])\n"
        "assert threading.active_count() == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_what_runs_before_the_first_worker_is_forked_is_little():
    """Each of these costs milliseconds of every start and memory of the supervisor, and the loop needs none."""
    needless = {
        "argparse",
        "bz2",
        "dataclasses",
        "email",
        "importlib.metadata",
        "inspect",
        "json",
        "logging",
        "lzma",
        "pathlib",
        "shutil",
        "systemd",
        "typing",
        "urllib",
    }
    code = (
        "import sys\nimport appd.__main__, appd.cli, appd.supervisor.beginning\n"
        "assert appd.cli.plain_run(['run', 'x'])\n"
        f"print(sorted(sys.modules.keys() & {needless!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_importing_has_no_effect():
    """Importing everything takes no descriptor, starts no thread, leaves signals and environment alone."""
    names = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for path in modules()
    ]
    code = (
        "import importlib, os, signal, sys, threading\n"
        "before = dict(os.environ), [signal.getsignal(n) for n in range(1, 32)]\n"
        f"for name in {names!r}:\n    if name not in {ON_A_REACTOR!r}:\n        importlib.import_module(name)\n"
        "assert 'twisted.internet.reactor' not in sys.modules, 'a reactor was chosen by an import'\n"
        f"for name in {ON_A_REACTOR!r}:\n    importlib.import_module(name)\n"
        "after = dict(os.environ), [signal.getsignal(n) for n in range(1, 32)]\n"
        "before[0].pop('LISTEN_PID'); before[0].pop('LISTEN_FDS'); after[0].pop('LISTEN_PID', 0); after[0].pop('LISTEN_FDS', 0)\n"
        "assert before == after and threading.active_count() == 1\n"
    )
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True, env=environ)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_names(path):
    """Each module says what it exports, and exports what it says."""
    tree = ast.parse(path.read_text())
    # What type checkers see, and what there is in its place.
    tree.body = [
        node for top in tree.body for node in ((*top.body, *top.orelse) if isinstance(top, ast.If) else (top,))
    ]
    exported = next(
        (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ),
        None,
    )
    defined = {
        node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    if exported is None:
        assert not {name for name in defined if not name.startswith("_")}, "public names without __all__"
        return
    assert len(exported) == len(set(exported))
    names = {ast.unparse(target) for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
    names |= {ast.unparse(node.target) for node in tree.body if isinstance(node, ast.AnnAssign)}
    names |= {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert set(exported) <= defined | names
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name in exported:
            assert ast.get_docstring(node), f"{node.name} is public and says nothing of itself"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_possessive_quantifier_of_a_group(path):
    """Python before 3.11.5, Debian 12's among it, takes too much for a match there: gh-106052."""
    strings = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    # In a class of characters they are characters.
    bare = [re.sub(r"\[(?:\\.|[^\]\\])*\]", "C", one) for one in strings if isinstance(one, str)]
    assert [one for one in bare if re.search(r"(?<![\\(])\)(?:[*+?]|\{[0-9,]+\})\+", one)] == []
