"""Hosted code is found, gets what the file says, and what it prints and logs arrives."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from support.running import APPD, ask, listening

ECHO = "<echo e>\n  address systemd:name=e\n</echo>\n"


def test_surroundings(start, tmp_path):
    """python-path (the first wins), working-directory, <environment>: all in place when hosted code is imported."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hosted.py").write_text(
            f"import os, sys\ndef make():\n    print('found', {name!r}, os.getcwd(), os.environ['Mixed_Case'], os.environ['EMPTY'] == '')\n"
        )
    (tmp_path / "work").mkdir()
    text = f"""
python-path {tmp_path}/one
python-path {tmp_path}/two
working-directory {tmp_path}/work
application-object hosted:make
<environment>
  Mixed_Case  a b $$5
  EMPTY
</environment>
{ECHO}"""
    running = start(text, ("e", listening())).wait_ready()
    assert running.wait_said("found").endswith(f"found one {tmp_path}/work a b $5 True")


def test_relative_paths_are_relative_to_the_file(start, tmp_path):
    """A file that is included from another folder has its own paths."""
    (tmp_path / "inner" / "lib").mkdir(parents=True)
    (tmp_path / "inner" / "lib" / "hosted.py").write_text("def make():\n    print('found it')\n")
    (tmp_path / "inner" / "more.conf").write_text("python-path lib\napplication-object hosted:make\n")
    running = start(f"%include {tmp_path}/inner/more.conf\n{ECHO}", ("e", listening())).wait_ready()
    running.wait_said("found it")


def test_virtualenv(start, tmp_path):
    """Packages of a virtual environment are importable, those of its .pth files too."""
    made = tmp_path / "env"
    venv.create(made, with_pip=False)
    packages = next((made / "lib").glob("python*/site-packages"))
    (packages / "theirs.py").write_text("import linked\ndef make():\n    print('from', __file__, linked.WORD)\n")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "linked.py").write_text("WORD = 'linked'\n")
    (packages / "their.pth").write_text(f"{tmp_path}/link\n")
    running = start(f"virtualenv {made}\napplication-object theirs:make\n{ECHO}", ("e", listening())).wait_ready()
    assert running.wait_said("from").endswith("site-packages/theirs.py linked")


def test_virtualenv_of_another_python(tmp_path):
    """One of another minor version is refused, with what is needed."""
    (tmp_path / "env" / "lib" / "python3.7" / "site-packages").mkdir(parents=True)
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    file = tmp_path / "appd.conf"
    file.write_text(f"virtualenv env\n{ECHO}")
    done = subprocess.run([APPD, "check", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    assert f"it is of python3.7, but appd runs on python3.{sys.version_info.minor}" in done.stderr


FACTORY = """
from pathlib import Path
from twisted.internet.protocol import Factory, Protocol

class Says(Protocol):
    def connectionMade(self):
        self.transport.write(repr(self.factory.given).encode())
        self.transport.loseConnection()

class SaysFactory(Factory):
    protocol = Says
    def __init__(self, motd, number: int = 0, share: float = 0.5, on: bool = False, where: "Path | None" = None):
        self.given = (motd, number, share, on, where)

import functools

def plain(word: str, on: "bool | None" = None, number: int = 1):
    factory = Factory.forProtocol(Says)
    factory.given = (word, on, number)
    return factory

partial = functools.partial(plain, word="x")

class Instance:
    def __call__(self, number: int):
        return plain("instance", None, number)

instance = Instance()

def free(**options):
    factory = Factory.forProtocol(Says)
    factory.given = options
    return factory

def no_factory():
    return 5
"""


def server(tmp_path, type_, options=""):
    (tmp_path / "mine.py").write_text(FACTORY)
    return f"python-path {tmp_path}\n<server s>\n type {type_}\n address systemd:name=s\n <options>\n{options} </options>\n</server>\n"


def test_dotted_factory_with_options(start, tmp_path):
    """<options> become keyword arguments, converted by the annotations."""
    passed = listening()
    options = "  motd come in\n  number 7\n  share 0.25\n  on yes\n  where /tmp\n"
    start(server(tmp_path, "mine:SaysFactory", options), ("s", passed)).wait_ready()
    assert ask(passed, b"") == b"('come in', 7, 0.25, True, PosixPath('/tmp'))"


def test_dotted_factory_with_free_options(start, tmp_path):
    """A callable that takes **kwargs gets any name, its case kept."""
    passed = listening()
    start(server(tmp_path, "mine:free", "  Any_Name x\n"), ("s", passed)).wait_ready()
    assert ask(passed, b"") == b"{'Any_Name': 'x'}"


def test_options_that_are_wrong(start, tmp_path):
    """Unknown, unconvertible and missing options: each with its line."""
    wrong = {
        "mine:SaysFactory": ("  motd x\n  nmber 7\n  number many\n", ["appd.conf:7: mine:SaysFactory has no option 'nmber'", "appd.conf:8: number: 'many' is not of type int"]),
        "mine:SaysFactory.__call__": ("", ["mine:SaysFactory.__call__"]),
        "mine:no_factory": ("", ["mine:no_factory made 5, which is no Twisted protocol factory"]),
    }  # fmt: skip
    for type_, (options, reasons) in wrong.items():
        running = start(server(tmp_path, type_, options), ("s", listening()))
        assert running.wait_exit() == 78
        assert all(reason in running.errors for reason in reasons), running.errors
    running = start(server(tmp_path, "mine:SaysFactory"), ("s", listening()))
    assert running.wait_exit() == 78 and "mine:SaysFactory needs <options> motd" in running.errors


def test_server_of_an_installed_type(start):
    """<server> with the name of a server type, in any case, serves what its own section would."""
    passed = listening()
    running = start("<server>\n type ECHO\n address systemd:name=s\n</server>\n", ("s", passed)).wait_ready()
    assert ask(passed, b"x") == b"x"
    running.wait_said("-- ECHO:systemd:name=s Server started.")


def test_server_names_of_the_past(start):
    """TYPE:HOST:PORT, an empty host as localhost, in the start-up record."""
    running = start("<server>\n type echo\n address 0\n</server>\n").wait_ready()
    running.wait_said("-- echo:localhost:0 Server started.")


def test_type_http_serves_the_application_object(start, tmp_path):
    """What application-object makes is served by WSGI, as zope.app.twisted served its database."""
    (tmp_path / "hosted.py").write_text(
        "def make():\n    def app(environ, start_response):\n        start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "        return [b'from the application object']\n    return app\n"
    )
    passed = listening()
    text = f"python-path {tmp_path}\napplication-object hosted:make\n<server>\n type HTTP\n address systemd:name=web\n</server>\n"
    start(text, ("web", passed)).wait_ready()
    answer = ask(passed, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") and b"from the application object" in answer


def test_what_hosted_code_says(start, tmp_path):
    """print, logging, warnings and an exception of Twisted's log, each with its level and its traceback in one entry."""
    (tmp_path / "hosted.py").write_text(
        "import logging, sys, warnings\n"
        "from twisted.logger import Logger\n"
        "def make():\n"
        "    print('one\\ntwo')\n"
        "    print('to stderr', file=sys.stderr)\n"
        "    logging.getLogger('their.module').error('it is %s', 'wrong', extra={'APPD_EXTRA': 'kept'})\n"
        "    logging.getLogger('their.module').debug('not shown')\n"
        "    try:\n        1 / 0\n    except ZeroDivisionError:\n        logging.getLogger('t').exception('while dividing')\n"
        "    warnings.warn('old way', DeprecationWarning, stacklevel=1)\n"
        "    warnings.warn('look out', UserWarning, stacklevel=1)\n"
        "    try:\n        {}['key']\n    except KeyError:\n        Logger(namespace='their.twisted').failure('lookup')\n"
    )
    text = f"python-path {tmp_path}\napplication-object hosted:make\n<log>\n format json\n</log>\n{ECHO}"
    running = start(text, ("e", listening())).wait_ready()
    running.wait_said("ready:")
    entries = [json.loads(line) for line in running.err]
    said = {one["MESSAGE"].splitlines()[0]: one for one in entries}
    assert (
        (said["one"]["LOGGER"], said["one"]["PRIORITY"])
        == (said["two"]["LOGGER"], said["two"]["PRIORITY"])
        == ("stdout", 6)
    )
    assert said["to stderr"]["LOGGER"] == "stderr"
    assert (said["it is wrong"]["LOGGER"], said["it is wrong"]["PRIORITY"]) == ("their.module", 3)
    assert said["it is wrong"]["APPD_EXTRA"] == "kept" and "not shown" not in said
    assert (
        said["while dividing"]["EXCEPTION_TYPE"] == "ZeroDivisionError" and "1 / 0" in said["while dividing"]["MESSAGE"]
    )
    assert any("look out" in one["MESSAGE"] and one["PRIORITY"] == 4 for one in entries)
    assert said["lookup"]["EXCEPTION_TYPE"] == "KeyError" and said["lookup"]["PRIORITY"] == 3


def test_levels_by_namespace(start, tmp_path):
    """<levels> shows what one logger has to say, and hides what another has."""
    (tmp_path / "hosted.py").write_text(
        "import logging\ndef make():\n    logging.getLogger('theirs.a').debug('shown')\n    logging.getLogger('loud').info('hidden')\n"
    )
    text = (
        f"python-path {tmp_path}\napplication-object hosted:make\n"
        f"<log>\n <levels>\n  theirs debug\n  loud error\n </levels>\n</log>\n{ECHO}"
    )
    running = start(text, ("e", listening())).wait_ready()
    running.wait_said("ready:")
    assert "shown" in running.errors and "hidden" not in running.errors


def test_example_configuration_serves_its_page(start):
    """The shipped example over --bind answers with its page."""
    example = Path(__file__).parents[2] / "etc/appd.conf"
    running = start("", command=[APPD, "run", str(example), "--bind", "http=127.0.0.1:0"]).wait_ready()
    line = running.wait_said("Address: ")
    port = int(line.split("127.0.0.1:")[1].split()[0])
    answer = ask(("127.0.0.1", port), b"GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n")
    assert b"200 OK" in answer and b"appd works." in answer and b"$" not in answer


@pytest.mark.parametrize(
    ("name", "options", "given"),
    [
        ("plain", "  word w\n  on off\n", b"('w', False, 1)"),
        ("partial", "  number 5\n", b"('x', None, 5)"),
        ("instance", "  number 6\n", b"('instance', None, 6)"),
    ],
)
def test_options_of_every_callable(start, tmp_path, name, options, given):
    """Functions, partials and callable instances: their annotations convert, `bool | None` too."""
    passed = listening()
    start(server(tmp_path, f"mine:{name}", options), ("s", passed)).wait_ready()
    assert ask(passed, b"") == given


def test_exceptions_of_every_kind_at_import(start, tmp_path):
    """KeyboardInterrupt and other BaseExceptions of hosted code are problems, not silence."""
    for raised in "KeyboardInterrupt", "GeneratorExit":
        (tmp_path / "hosted.py").write_text(f"raise {raised}\n")
        running = start(f"python-path {tmp_path}\napplication-object hosted:make\n{ECHO}", ("e", listening()))
        assert running.wait_exit() == 78
        assert f"hosted:make cannot be imported: {raised}" in running.errors


def test_tracebacks_of_packages_with_names_like_ours(start, tmp_path):
    """A package called appd_shop is not appd."""
    (tmp_path / "appd_shop_importlib.py").write_text("def inner():\n    raise RuntimeError('theirs')\ninner()\n")
    running = start(f"python-path {tmp_path}\napplication-object appd_shop_importlib:make\n{ECHO}", ("e", listening()))
    assert running.wait_exit() == 78
    assert "appd_shop_importlib.py" in running.errors and "in inner" in running.errors
