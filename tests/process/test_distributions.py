"""The wheel and the sdist: what the tests run is what users get, and a wheel that comes of the sdist is the same."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
UNITS = {one.name for one in (CHECKOUT / "units").iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with the sdist of the checkout and the wheel that was built of that."""
    folder = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "appd"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=CHECKOUT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no checkout of git")
    for name in listed.stdout.decode().split("\0"):
        if name and (CHECKOUT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((CHECKOUT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_twine_has_no_complaint(made):
    """As PyPI would look at them."""
    files = sorted(map(str, made.iterdir()))
    assert [Path(one).suffix for one in files] == [".whl", ".gz"]
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout


def test_the_wheel_has_what_an_administrator_needs(made):
    """Units, the example, the licence; every component; twistd's plugin; nothing of the tests."""
    [wheel] = made.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    version = wheel.name.split("-")[1]
    data = f"appd-{version}.data/data/share/appd"
    assert {f"{data}/units/{one}" for one in UNITS} | {f"{data}/etc/appd.conf", f"{data}/appd.catalog"} <= names
    assert f"appd-{version}.dist-info/licenses/LICENSE" in names
    assert "twisted/plugins/appd.py" in names and "twisted/plugins/__init__.py" not in names
    for path in (CHECKOUT / "appd").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert str(path.relative_to(CHECKOUT)) in names
    assert not [one for one in names if one.startswith(("tests/", "bench/", "packaging/"))]


def test_what_is_tested_is_the_wheel(made):
    """File by file: the environment that the tests run in has what the wheel has."""
    [wheel] = made.glob("*.whl")
    import appd

    installed = Path(appd.__file__).parents[1]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(("appd/", "twisted/")):
                assert (installed / name).read_bytes() == archive.read(name), name
    for name in UNITS:
        assert (Path(sys.prefix) / "share/appd/units" / name).read_bytes() == (CHECKOUT / "units" / name).read_bytes()


def test_the_sdist_has_what_packages_are_made_of(made):
    """And the tests, so that distributions may run them."""
    [sdist] = made.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()}
    for folder in ("units", "etc", "packaging", "tests", "docs"):
        for path in (CHECKOUT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert str(path.relative_to(CHECKOUT)) in names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml"} <= names
