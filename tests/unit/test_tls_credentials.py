"""Credentials and the files that they were read from."""

from __future__ import annotations

import os

from appd.errors import Place
from appd.systemd.units import own_unit, read_unit_texts
from appd.tls.credentials import origins, outdated
from appd.tls.policy import Source


def test_own_unit(tmp_path):
    """From the control group, whichever version; nothing outside of a service."""
    file = tmp_path / "cgroup"
    for text, unit in (
        ("0::/system.slice/appd.service\n", "appd.service"),
        ("12:pids:/system.slice/system-appd.slice/appd@shop.service\n0::/x\n", "appd@shop.service"),
        ("0::/system.slice/appd.service/inner\n", "appd.service"),
        ("0::/user.slice/session-1.scope\n", ""),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/appd.service\n", ""),
    ):
        file.write_text(text)
        assert own_unit(str(file)) == unit
    assert own_unit(str(tmp_path / "none")) == ""


def test_origins():
    """LoadCredential= lines, later ones win, an empty one takes back; other specifiers than %i and %n are not guessed."""
    unit = "[Service]\nLoadCredential=a.pem:/etc/a.pem\nLoadCredential=b:/x/%i.pem\nSetCredential=c:text\n"
    assert origins([unit], "appd@shop.service") == {"a.pem": "/etc/a.pem", "b": "/x/shop.pem"}
    assert origins([unit, "LoadCredential=\nLoadCredentialEncrypted=d:/d.cred\n"], "appd.service") == {"d": "/d.cred"}
    assert origins(["LoadCredential=a:%d/x\nLoadCredential=b\nLoadCredential=c:name\n"], "appd.service") == {}


def test_outdated(tmp_path):
    """What was written after the service started; what cannot be looked at is not known."""
    credential, file = tmp_path / "credential", tmp_path / "file"
    credential.write_text("")
    file.write_text("")
    source = Source("certificate", str(credential), Place("appd.conf", 1), "shop.pem")
    os.utime(credential, (1000, 1000))
    os.utime(file, (900, 900))
    assert outdated([source], {"shop.pem": str(file)}) == {}
    os.utime(file, (1001, 1001))
    assert outdated([source], {"shop.pem": str(file)}) == {"shop.pem": str(file)}
    assert outdated([source], {"shop.pem": str(tmp_path / "none"), "other": str(file)}) == {}


def test_unit_texts(tmp_path):
    """A template, its drop-ins and those of the instance."""
    low, high = tmp_path / "low", tmp_path / "high"
    for folder, name, text in (
        (low, "appd@.service", "template"),
        (low, "appd@.service.d/a.conf", "of all"),
        (high, "appd@shop.service.d/b.conf", "of one"),
        (high, "appd@other.service.d/b.conf", "of another"),
    ):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert read_unit_texts("appd@shop.service", (str(high), str(low))) == ["template", "of all", "of one"]
    assert read_unit_texts("none.service", (str(high), str(low))) == []
