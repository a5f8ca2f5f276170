"""Sections <http> → records, or every problem with its line: tests/golden/http."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appd.config import load
from appd.errors import ConfigurationError
from appd.servers.http.mounts import Mount, read_site

GOLDEN = Path(__file__).parents[1] / "golden" / "http"


def shown(mount: Mount) -> str:
    headers = "; ".join(f"{name.decode()}: {value.decode()}" for name, value in mount.headers)
    return f"{mount.text} [{mount.access_log}] {headers}".rstrip()


def outcome(file: Path) -> str:
    try:
        (settings,) = load(str(file)).servers
        site = read_site(settings)
    except ConfigurationError as error:
        return "\n".join(str(one) for one in error.problems)
    return "\n".join([f"access-log {site.access_log}, one of {site.sample}", *map(shown, site.mounts)])


@pytest.mark.parametrize("name", sorted(one.stem for one in GOLDEN.glob("*.conf")))
def test_golden(name: str) -> None:
    """What is expected lies beside the file."""
    said = outcome(GOLDEN / f"{name}.conf").replace(f"{GOLDEN}/", "")
    # Where the standard library lies is the host's affair.
    said = re.sub(r"\(/[^)]*/", "(", said)
    assert said + "\n" == (GOLDEN / f"{name}.txt").read_text()
