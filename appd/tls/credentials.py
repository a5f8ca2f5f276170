"""Whether a credential is still what its source is, where a process can know that.

systemd reads the files of LoadCredential= when the service starts and never again. Which file that was the unit says,
and this process may look at the unit and, where the folders let it, at the date of the file; more it cannot.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from appd.systemd.units import read_unit_texts
from appd.tls.policy import Source

__all__ = ["origins", "outdated", "unit_origins"]

_SETTING = re.compile(r"^\s*LoadCredential(?:Encrypted)?\s*=\s*(.*)$")


def origins(texts: Iterable[str], unit: str) -> dict[str, str]:
    """Credential → the file it was read from, as a unit says.

    Args:
        texts: The text of the unit, then those of its drop-ins.
        unit: Its name, for the specifiers %i and %n.
    """
    found: dict[str, str] = {}
    instance = unit.removesuffix(".service").partition("@")[2]
    for text in texts:
        for line in text.splitlines():
            match = _SETTING.match(line)
            if match is None:
                continue
            if not match[1]:  # an empty assignment takes back the ones before
                found.clear()
                continue
            name, _, path = match[1].strip().partition(":")
            path = path.replace("%i", instance).replace("%n", unit)
            if path.startswith("/") and "%" not in path:
                found[name] = path
    return found


def outdated(sources: Iterable[Source], files: Mapping[str, str]) -> dict[str, str]:
    """The credentials whose source was written after systemd read it, with the path of that.

    Args:
        sources: What a policy names.
        files: Credential → the file it was read from.
    """
    found = {}
    for one in sources:
        path = files.get(one.credential)
        if not path or not one.path:
            continue
        try:
            # systemd writes credentials anew at each start, so that theirs is its time.
            if os.stat(path).st_mtime > os.stat(one.path).st_mtime:
                found[one.credential] = path
        except OSError:
            continue  # cannot be known
    return found


def unit_origins(unit: str) -> dict[str, str]:
    """As `origins`, from the units of this host; nothing where they cannot be read."""
    return origins(read_unit_texts(unit), unit) if unit else {}
