"""Sections <http> → records, or every problem with its line: tests/golden/http."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appd.config import load
from appd.errors import ConfigurationError
from appd.http.core.limits import Limits
from appd.http.site import Mount, Site
from appd.interfaces import Host
from appd.servers.http.mounts import read_site

GOLDEN = Path(__file__).parents[1] / "golden" / "http"


def shown(mount: Mount) -> str:
    headers = "; ".join(f"{name}: {value}" for name, value in mount.headers)
    usual = type(mount.serves)._field_defaults
    keys = [f" {key}={value}" for key, value in mount.serves._asdict().items() if usual.get(key, value) != value]
    return f"{mount.text}{''.join(keys)} [{mount.access_log}] {headers}".rstrip()


def shown_site(site: Site) -> str:
    more = [f"; {key} {value}" for key in ("trusted", "proxy_protocol", "debug") if (value := getattr(site, key))]
    usual = Limits()._asdict()
    more += [f"; {key} {value}" for key, value in site.limits._asdict().items() if usual[key] != value]
    return f"access-log {site.access_log}, one of {site.sample}{''.join(more)}"


def outcome(file: Path) -> str:
    try:
        (settings,) = load(str(file)).servers
        site = read_site(settings, "web", Host(None, None, settings))
    except ConfigurationError as error:
        return "\n".join(str(one) for one in error.problems)
    return "\n".join([shown_site(site), *map(shown, site.mounts)])


@pytest.mark.parametrize("name", sorted(one.stem for one in GOLDEN.glob("*.conf")))
def test_golden(name: str) -> None:
    """What is expected lies beside the file."""
    said = outcome(GOLDEN / f"{name}.conf").replace(f"{GOLDEN}/", "")
    # Where the standard library lies is the host's affair.
    said = re.sub(r"\(/[^)]*/", "(", said)
    assert said + "\n" == (GOLDEN / f"{name}.txt").read_text()
