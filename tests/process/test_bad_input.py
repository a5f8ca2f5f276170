"""Every wrong thing gets one clear line and its exit code, never a traceback of appd's and never silence."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from support.running import APPD, ask, listening

SERVER = "<echo e>\n  address 127.0.0.1:0\n</echo>\n"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs appd to its end."""
    return subprocess.run([APPD, *arguments], capture_output=True, text=True, timeout=60, check=False)


def web(mounts: str) -> str:
    return f"<http web>\n  address 127.0.0.1:0\n{mounts}</http>\n"


FILES = {
    "not UTF-8": (b"threads 4\n# \xff\n", "it is not UTF-8: byte 0xff in line 2"),
    "NUL": (b"threads 4\n\n\0", "it contains a NUL byte in line 3"),
    "BOM": (b"\xef\xbb\xbfthreads 4\n", "it starts with a byte order mark"),
    "UTF-16": ("threads 4\n".encode("utf-16"), "it starts with a byte order mark"),
    "empty": (b"", "the file has no server"),
    "unclosed section": (b"<echo e>\n  address 127.0.0.1:0\n", ":1: <echo> is not closed"),
    "unknown section": (
        b"<ehco e>\n</ehco>\n" + SERVER.encode(),
        ":1: no server type or section is called <ehco>: did you mean <echo>? `appd types`",
    ),
    "unknown key": (
        b"thread 4\n" + SERVER.encode(),
        ":1: the top of the file has no key 'thread': did you mean threads? `appd types`",
    ),
    "unknown key of a type": (
        b"<echo e>\n adress 80\n</echo>\n",
        ":2: <echo> has no key 'adress': did you mean address or tls-address? `appd types echo`",
    ),
    "unknown type": (
        b"<server s>\n type nope\n address 127.0.0.1:0\n</server>\n",
        ":2: no server type is called 'nope'",
    ),
    "missing include": (b"%include there/is/none.conf\n" + SERVER.encode(), ":1: %include "),
    "include of a URL": (b"%include http://127.0.0.1/x\n" + SERVER.encode(), ":1: %include reads local files only"),
    "undefined name": (b"threads $many\n" + SERVER.encode(), ":1: $many is not defined"),
    "undefined environment": (
        b"threads $(NO_SUCH_VARIABLE)\n" + SERVER.encode(),
        "$(NO_SUCH_VARIABLE) is not defined: the environment has no variable",
    ),
    "comment at the end": (b"threads 4 # why\n" + SERVER.encode(), ":1: a comment needs a line of its own"),
    "two of one name": (
        SERVER.encode() + SERVER.replace("e>", "E>", 1).encode(),
        ":4: a second server is called 'E'; the first is at",
    ),
    "two without a name": (
        b"<server>\n type echo\n address 127.0.0.1:0\n</server>\n" * 2,
        "a second server is called 'echo:127.0.0.1:0'",
    ),
    "address twice": (
        SERVER.replace(":0", ":1").encode() + SERVER.replace("e>", "f>", 1).replace(":0", ":1").encode(),
        ":5: address 127.0.0.1:1 is there twice; the first is at",
    ),
    "port out of range": (
        b"<echo e>\n address 127.0.0.1:65536\n</echo>\n",
        ":2: address: '127.0.0.1:65536' is not an address: port 65536 is out of the range",
    ),
    "misspelt prefix": (
        b"<echo e>\n address sytemd:name=web\n</echo>\n",
        ":2: server 'e': sytemd:name=web: no kind of address begins with 'sytemd': did you mean systemd:?",
    ),
    "unknown kind of endpoint": (
        b"<echo e>\n address nosuch:kind:of=endpoint\n</echo>\n",
        ":2: server 'e': nosuch:kind:of=endpoint: no kind of address begins with 'nosuch' (allowed: ",
    ),
    "wrong endpoint": (
        b"<echo e>\n address haproxy:tcp:http\n</echo>\n",
        ":2: server 'e': haproxy:tcp:http: Twisted cannot read it: ValueError: ",
    ),
    "empty path": (
        b"<echo e>\n address unix:address=\n</echo>\n",
        ":2: address: 'unix:address=' is not an address: the path is empty",
    ),
    "empty label": (
        b"<echo e>\n address a..b:80\n</echo>\n",
        ":2: address: 'a..b:80' is not an address: 'a..b' is not a host name",
    ),
    "sockets twice": (
        b"<socket s>\n listen 81\n</socket>\n<socket t>\n listen 81\n</socket>\n" + SERVER.encode(),
        ":5: address 81 is there twice; the first is at",
    ),
    "socket of nobody": (
        b"<socket s>\n listen /run/x\n user no-such-user\n</socket>\n" + SERVER.encode(),
        ":3: <socket s>: there is no user 'no-such-user'",
    ),
    "mode without a path": (
        b"<socket s>\n listen 81\n mode 0660\n</socket>\n" + SERVER.encode(),
        ":3: <socket s>: mode is for UNIX paths",
    ),
    "no address": (b"<echo e>\n</echo>\n", ":1: server 'e' has no address"),
    "after nobody": (
        b"<echo e>\n address 127.0.0.1:0\n after f\n</echo>\n",
        ":3: after: there is no server 'f', only e",
    ),
    "after a circle": (
        b"<echo e>\n address 127.0.0.1:0\n after f\n</echo>\n<echo f>\n address 127.0.0.1:1\n after e\n</echo>\n",
        "after: servers wait for each other",
    ),
    "static root missing": (web("  <static>\n    root nowhere\n  </static>\n").encode(), ":4: "),
    "WSGI module missing": (
        web("  <wsgi>\n    application no.such:app\n  </wsgi>\n").encode(),
        ":4: no.such:app cannot be imported: ModuleNotFoundError",
    ),
    "WSGI name missing": (web("  <wsgi>\n    application json:nope\n  </wsgi>\n").encode(), ":4: json:nope: json ("),
    "WSGI not callable": (web("  <wsgi>\n    application json:__name__\n  </wsgi>\n").encode(), ":4: "),
    "type HTTP without application": (
        b"<server>\n type HTTP\n address 127.0.0.1:0\n</server>\n",
        ":2: type HTTP serves what application-object makes",
    ),
    "type of the past": (b"<server>\n type FTP\n address 127.0.0.1:0\n</server>\n", ":1: <ftp> needs 'root'"),
    "name not passed": (
        b"<echo e>\n address systemd:name=web\n</echo>\n",
        ":2: server 'e': systemd:name=web: no descriptor of that name, nothing was inherited",
    ),
    "python-path": (b"python-path nowhere\n" + SERVER.encode(), ":1: python-path "),
    "virtualenv": (b"virtualenv /\n" + SERVER.encode(), ":1: virtualenv /: it is no virtual environment"),
    "working-directory": (b"working-directory nowhere\n" + SERVER.encode(), ":1: working-directory "),
}


@pytest.mark.parametrize("wrong", FILES)
def test_wrong_files(start, tmp_path, wrong):
    """78, the reason with its line, no READY=1, STATUS= and ERRNO= for the manager, nothing but lines on standard error."""
    text, reason = FILES[wrong]
    file = tmp_path / "appd.conf"
    file.write_bytes(text)
    running = start("", command=[APPD, "run", str(file)])
    assert running.wait_exit() == 78
    assert reason in running.errors
    assert "Traceback" not in running.errors
    assert all(line.startswith("<3>") for line in running.err)
    # A start that takes longer than a second, on a busy machine, asks for more time first.
    (message,) = [one for one in running.manager.read_all() if "STATUS" in one]
    assert message["STATUS"].startswith("cannot start: ") and message["ERRNO"] == "22"


@pytest.mark.parametrize("wrong", sorted(set(FILES) - {"name not passed"}))
def test_check_finds_the_same(tmp_path, wrong):
    """`appd check` says what `run` would, in plain lines."""
    text, reason = FILES[wrong]
    file = tmp_path / "appd.conf"
    file.write_bytes(text)
    done = run("check", str(file))
    assert done.returncode == 78 and reason in done.stderr and "Traceback" not in done.stderr


def test_no_such_file(tmp_path):
    """A file that is not there, a folder in its place."""
    for path, reason in (tmp_path / "none.conf", "No such file"), (tmp_path, "it is a directory, not a file"):
        done = run("run", str(path))
        assert (done.returncode, len(done.stderr.splitlines())) == (78, 1)
        assert str(path) in done.stderr and reason in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody who may not read the file")
def test_unreadable_file(tmp_path):
    """A file without permission."""
    file = tmp_path / "appd.conf"
    file.write_text(SERVER)
    file.chmod(0)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", APPD, "check", str(file)]
    for parent in tmp_path.parents:
        if parent.name.startswith("pytest"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78 and "Permission denied" in done.stderr


def test_include_loop(tmp_path):
    """Two files that include each other."""
    (tmp_path / "a.conf").write_text("%include b.conf\n" + SERVER)
    (tmp_path / "b.conf").write_text("threads 3\n%include a.conf\n")
    done = run("check", str(tmp_path / "a.conf"))
    assert done.returncode == 78
    assert f"{tmp_path}/b.conf:2: %include goes round in a circle" in done.stderr


@pytest.mark.parametrize("what", ["stream", "udp", "unix"])
def test_address_in_use(start, tmp_path, what):
    """69 and a line that says so; nothing of the servers before it is left."""
    taken = listening()
    port = taken.getsockname()[1]
    if what == "unix":
        taken = listening(socket.AF_UNIX, str(tmp_path / "taken.sock"))
        address = str(tmp_path / "taken.sock")
    elif what == "udp":
        taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        taken.bind(("127.0.0.1", 0))
        address = f"udp:127.0.0.1:{taken.getsockname()[1]}"
    else:
        address = f"127.0.0.1:{port}"
    first = tmp_path / "first.sock"
    running = start(f"<echo a>\n address {first}\n</echo>\n<echo b>\n address {address}\n</echo>\n")
    assert running.wait_exit() == 69
    assert f"appd.conf:5: server 'b': cannot listen on {address}: the address is in use" in running.errors
    assert "Traceback" not in running.errors
    assert not first.exists()
    messages = running.manager.read_all()
    assert all("READY" not in one for one in messages) and any(one.get("ERRNO") == "98" for one in messages)
    taken.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give up root")
def test_port_below_1024(tmp_path):
    """69, and what to do about it."""
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("this host lets anybody bind port 81")
    file = tmp_path / "appd.conf"
    file.write_text("<echo e>\n address 127.0.0.1:81\n</echo>\n")
    for parent in (tmp_path, *tmp_path.parents):
        if "pytest" in str(parent):
            parent.chmod(0o755)
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        APPD,
        "run",
        str(file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 69 and "let a .socket unit bind ports below 1024" in done.stderr


HOSTED = {
    "raises": (
        "import missing_module_of_theirs\n",
        "ModuleNotFoundError: No module named 'missing_module_of_theirs'",
        True,
    ),
    "exits": ("import sys\nsys.exit('no thanks')\n", "it called sys.exit('no thanks')", True),
    "syntax": ("def app(:\n", "SyntaxError", True),
    "not callable": ("app = 5\n", "is not callable", False),
}


@pytest.mark.parametrize("wrong", HOSTED)
def test_applications_that_do_not_import(start, tmp_path, wrong):
    """Our line first, with file and line; then their own traceback, without a frame of appd's; before READY=1."""
    source, reason, traced = HOSTED[wrong]
    (tmp_path / "hosted.py").write_text(source)
    running = start(f"python-path {tmp_path}\n" + web("  <wsgi>\n    application hosted:app\n  </wsgi>\n"))
    assert running.wait_exit() == 78
    assert "appd.conf:5: " in running.err[0] and "hosted:app" in running.err[0] and reason in running.errors
    assert ("Traceback" in running.errors or "SyntaxError" in running.errors) == traced
    assert "site-packages/appd/" not in "\n".join(running.err[1:])
    assert all("READY" not in message for message in running.manager.read_all())


def test_application_object_that_fails(start, tmp_path):
    """The callable of application-object raises: its traceback under our line."""
    (tmp_path / "hosted.py").write_text("def make():\n    raise RuntimeError('no database')\n")
    running = start(f"python-path {tmp_path}\napplication-object hosted:make\n{SERVER}")
    assert running.wait_exit() == 78
    assert "appd.conf:2: hosted:make failed: RuntimeError: no database" in running.err[0]
    assert "hosted.py" in running.errors and "/appd/worker/worker.py" not in running.errors


USAGE = [
    (["serve"], "COMMAND 'serve' is unknown"),
    (["run"], "required: FILE"),
    (["run", "x", "--bind", "web"], "write NAME=ADDRESS"),
    (["run", "x", "--bind", "web=nonsense"], "is not an address"),
    (["run", "x", "--bind", "web=systemd:name=x"], "no address to bind"),
    (["types", "ehco"], "there is no server type 'ehco': did you mean echo?"),
]


@pytest.mark.parametrize(("arguments", "reason"), USAGE)
def test_wrong_usage(arguments, reason):
    """64 and one line."""
    done = run(*arguments)
    assert done.returncode == 64 and reason in done.stderr
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr


def test_a_stale_unix_path_is_replaced(start, tmp_path):
    """What a killed process left behind is removed; a file that is no socket is not."""
    path = tmp_path / "e.sock"
    listening(socket.AF_UNIX, str(path)).close()
    running = start(f"<echo e>\n address unix:{path}:mode=600\n</echo>\n").wait_ready()
    assert ask(str(path), b"x", socket.AF_UNIX) == b"x"
    assert path.stat().st_mode & 0o777 == 0o600
    assert running.stop() == 0
    assert not path.exists()
    path.write_text("precious")
    running = start(f"<echo e>\n address {path}\n</echo>\n")
    assert running.wait_exit() == 69 and "is no socket" in running.errors
    assert path.read_text() == "precious"


def test_output_that_nobody_reads(tmp_path):
    """A closed pipe ends a listing without a traceback."""
    done = subprocess.run(f"{APPD} types | true", shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
