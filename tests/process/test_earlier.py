"""packaging/earlier: the package of an earlier commit needs the history, and says so where there is none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
COMMIT = (CHECKOUT / "packaging/previous").read_text().splitlines()[-1]


def git(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=60, check=False)


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the script of this checkout in another folder; in none of these does it come to building."""
    shutil.copytree(CHECKOUT / "packaging", folder / "packaging", dirs_exist_ok=True)
    return subprocess.run(
        [folder / "packaging/earlier", "deb", folder], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_commit_is_in_the_history():
    """It can be had from a clone of this repository."""
    if git("-C", CHECKOUT, "rev-parse", "--git-dir").returncode != 0:
        pytest.skip("this is no clone")
    if git("-C", CHECKOUT, "rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        pytest.skip("this clone is shallow")
    assert git("-C", CHECKOUT, "merge-base", "--is-ancestor", COMMIT, "HEAD").returncode == 0


def test_a_shallow_clone(tmp_path):
    """It is told what to fetch."""
    cloned = git("clone", "--quiet", "--depth=1", f"file://{CHECKOUT}", tmp_path / "clone")
    if cloned.returncode != 0:
        pytest.skip(f"this is no clone: {cloned.stderr}")
    done = build(tmp_path / "clone")
    assert done.returncode == 1
    assert done.stderr == f"packaging/earlier: this clone is shallow and has no {COMMIT}: git fetch --unshallow\n"


def test_no_clone(tmp_path):
    """An unpacked archive has no history."""
    done = build(tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path} is no clone of the repository, so that {COMMIT} cannot be built" in done.stderr
