"""Why a file or folder cannot be used, as the service sees it."""

from __future__ import annotations

import os
import pwd

import pytest

from appd.access import folder_refusal, unreadable

UNIT = {"INVOCATION_ID": "0" * 32}


def test_a_folder_that_may_be_read(tmp_path):
    """Nothing to say."""
    assert folder_refusal(str(tmp_path), UNIT) == ""


def test_no_folder(tmp_path):
    """What is there in its place, or that nothing is."""
    (tmp_path / "file").touch()
    assert folder_refusal(str(tmp_path / "file"), {}) == "it is no folder"
    assert folder_refusal(str(tmp_path / "gone"), {}) == "there is no such folder"


@pytest.mark.parametrize(
    ("path", "directive"),
    [("/home/nobody/app", "ProtectHome="), ("/tmp/no/app", "PrivateTmp="), ("/homeless/app", ""), ("/srv/no/app", "")],
)
def test_what_the_unit_may_hide(path, directive):
    """Only under a unit; who looks from outside would see it."""
    more = f", or {directive} of the unit hides it" if directive else ""
    assert folder_refusal(path, UNIT) == f"there is no such folder{more}"
    assert folder_refusal(path, {}) == "there is no such folder"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody who may not")
def test_who_may_not(tmp_path):
    """By name; a folder in one that is closed cannot be reached."""
    nobody = pwd.getpwnam("nobody")
    (tmp_path / "closed" / "inner").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    for one in (tmp_path, *tmp_path.parents[:-2]):
        one.chmod(one.stat().st_mode | 0o755)
    os.seteuid(nobody.pw_uid)
    try:
        assert folder_refusal(str(tmp_path / "closed"), {}) == "user nobody may not read it"
        assert folder_refusal(str(tmp_path / "closed" / "inner"), {}) == "user nobody may not reach it"
        assert unreadable({}) == "user nobody may not read it"
        assert unreadable(UNIT).startswith("user nobody may not read it: let its group do so (chgrp, chmod 640), or")
    finally:
        os.seteuid(0)
