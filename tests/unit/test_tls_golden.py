"""Sections <tls> → what serves, or every problem with its line and file: tests/golden/tls."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from support.authority import Authority, write_secret

from appd.config import load
from appd.errors import ConfigurationError
from appd.registry import Registry
from appd.worker.plan import Plan, make_plan

GOLDEN = Path(__file__).parents[1] / "golden" / "tls"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the golden configurations name."""
    folder = tmp_path_factory.mktemp("tls")
    root = Authority("Root")
    sub = Authority("Sub", by=root)
    good, below = root.issue("good.example"), sub.issue("sub.example")
    good.write(folder / "good.pem")
    (folder / "good.crt").write_bytes(good.certificate_pem)
    good.write(folder / "good.key", good.key_pem())
    good.write(folder / "encrypted.key", good.key_pem(b"swordfish"))
    good.write(folder / "encrypted.pem", good.certificate_pem + good.key_pem(b"swordfish"))
    write_secret(folder / "passphrase", b"swordfish\n")
    root.issue("expired.example", days=-1).write(folder / "expired.pem")
    root.issue("later.example", start=5).write(folder / "later.pem")
    good.write(folder / "no-key.pem", good.certificate_pem)
    good.write(folder / "wrong-key.pem", good.certificate_pem + below.key_pem())
    below.write(folder / "order.pem", below.chain_pem + below.certificate_pem + below.key_pem())
    (folder / "site.der").write_bytes(good.der)
    (folder / "ca.pem").write_bytes(root.pem)
    (folder / "crl.pem").write_bytes(root.revoke())
    (folder / "empty").mkdir()
    write_secret(folder / "open.pem", root.issue("open.example").pem, 0o644)
    (folder / "dangling.pem").symlink_to("gone.pem")
    os.mkfifo(folder / "fifo")
    for name, issued in (("folder", good), ("pairs", below)):
        (folder / name).mkdir()
        issued.write(folder / name / "a.pem")
        (folder / name / "README").write_text("nothing to see")
    (folder / "folder" / "b.pem").write_bytes(good.certificate_pem)
    root.issue("z.example", kind="rsa").write(folder / "pairs" / "z.pem")
    return folder


def planned(folder: Path, name: str) -> Plan:
    file = folder / f"{name}.conf"
    file.write_bytes((GOLDEN / file.name).read_bytes())
    return make_plan(load(str(file)), Registry(), None, {})


def in_general(text: str, folder: Path) -> str:
    """Without what differs from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d UTC)?", "DATE", text.replace(f"{folder}/", ""))
    return re.sub(r"(OpenSSL|AWS-LC|BoringSSL|LibreSSL) \S+ has", "OpenSSL VERSION has", text)


@pytest.mark.parametrize("name", sorted(one.stem for one in GOLDEN.glob("*.errors")))
def test_errors(folder, name):
    """Every error at once, each with the line of its key and the file it is about, and no secret."""
    with pytest.raises(ConfigurationError) as caught:
        planned(folder, name)
    assert in_general(str(caught.value), folder) == (GOLDEN / f"{name}.errors").read_text().rstrip("\n")
    assert "swordfish" not in str(caught.value)


def test_good(folder, monkeypatch):
    """What each server will serve, and what cannot be checked here."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    plan = planned(folder, "good")
    one, apart, clients, credentials = plan.servers
    assert [bool(listener.tls) for listener in one.listeners] == [False, True]
    assert one.tls.policy.minimum_version == "1.2"
    assert one.tls.policy.client_verify == "none"
    assert [pair.names for pair in apart.tls.material.pairs] == [("good.example",)]
    assert apart.tls.material.pairs[0].chain.count(b"BEGIN") == 2
    assert apart.tls.policy.minimum_version == "1.3"
    assert [pair.title for pair in clients.tls.material.pairs] == ["sub.example", "z.example", "open.example"]
    assert clients.tls.policy.client_verify == "required"
    assert clients.tls.policy.client_names == (
        ("dns", "*.clients.example"),
        ("uri", "spiffe://prod/*"),
        ("email", "*@example.org"),
    )
    assert clients.tls.material.trust.count(b"BEGIN") == 2
    assert credentials.tls.material is None
    assert [in_general(str(warning), folder) for warning in plan.warnings] == [
        "good.conf:38: certificate credential:site.pem is not checkable here: "
        "this process has no credentials (CREDENTIALS_DIRECTORY is not set; see LoadCredential=)"
    ]


def test_credentials(folder, monkeypatch):
    """In the service they are files like others, and one that is missing is an error."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder / "credentials"))
    (folder / "credentials").mkdir()
    (folder / "credentials" / "site.pem").write_bytes((folder / "good.pem").read_bytes())  # systemd's own modes
    plan = planned(folder, "good")
    assert [pair.where for pair in plan.servers[3].tls.material.pairs] == ["credential:site.pem"]
    (folder / "credentials" / "site.pem").unlink()
    with pytest.raises(
        ConfigurationError, match="the service has no such credential \\(LoadCredential= of the unit\\)"
    ):
        planned(folder, "good")
    (folder / "credentials").rmdir()
