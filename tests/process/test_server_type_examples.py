"""The examples of docs/server-types are good: `appd check` reads and makes each of them, with what it names beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from support.authority import Authority, write_secret
from support.running import APPD

EXAMPLES = Path(__file__).parents[2] / "docs" / "server-types" / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the examples beside a certificate, a host key, users and the folders that they name."""
    made = tmp_path_factory.mktemp("examples") / "copy"
    shutil.copytree(EXAMPLES, made)
    authority = Authority("Root")
    authority.issue("shop.example.org").write(made / "web.pem")
    authority.write(made / "ca.pem")
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    write_secret(made / "host.key", key)
    subprocess.run(
        [APPD, "passwd", made / "staff.passwd", "alice", "--bcrypt"], input=b"secret\n", check=True, timeout=60
    )
    for name in ("keys", "files", "mail"):
        (made / name).mkdir()
    return made


def check(path):
    command = [APPD, "check", path]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=path.parent)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.conf")))
def test_it_is_good(folder, name):
    """Nothing is wrong with it, and it has a section of the type that it is an example of."""
    done = check(folder / name)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^<{name.removesuffix('.conf')}[ >]", (folder / name).read_text(), re.M)


BUILT = """
import sys
from appd.worker.assembly import build
from appd.config import load
from twisted.internet import reactor
built = build(load(sys.argv[1]), None, {}, reactor)
for one in built.plan.servers:
    print(one.settings.section_type, built.services[one.name].processes, one.settings.processes, one.server_type.processes)
"""


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.conf")))
def test_where_it_runs(folder, name):
    """The page says what `processes` is where the file does not say, and so it is."""
    made = subprocess.run(
        [sys.executable, "-c", BUILT, name], capture_output=True, text=True, timeout=120, check=True, cwd=folder
    )
    rows = [line.split() for line in made.stdout.splitlines()]
    assert rows
    for type_name, processes, written, usual in rows:
        page = (EXAMPLES.parent / f"{type_name}.md").read_text()
        assert f"`processes`, where the file does not say: {usual} (" in page
        # The notes of the pages: an SSH server with a manhole, and what `type HTTPS` names.
        usual = {"ssh.conf": "one", "sslserver.conf": "all"}.get(name, usual)
        assert processes == (usual if written == "None" else written)


def test_what_is_wrong_with_one_is_found(folder):
    """So that the test above can fail: a key that there is not, and a callable that is not there."""
    for old, new in (("most  1000", "most  many"), ("hosted:Squares", "hosted:Cubes"), ("connections", "conections")):
        text = (folder / "amp.conf").read_text()
        assert old in text
        (folder / "wrong.conf").write_text(text.replace(old, new))
        assert check(folder / "wrong.conf").returncode == 78, new
