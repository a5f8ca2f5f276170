"""`appd check`: everything that is wrong with a file, without sockets, as any user, writing nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from appd import units as unit_files
from appd.config import load
from appd.errors import EX_OK, ConfigurationError, Problem
from appd.plan import Plan

__all__ = ["check", "disagreements"]


def check(path: str, unit_folder: str | None, out: TextIO) -> int:
    """Checks a file as `appd run` would before READY=1, hosted code imported, nothing bound.

    Args:
        path: The configuration file.
        unit_folder: A folder of .socket units to compare with; None for none.
        out: Where the verdict goes.

    Returns:
        The exit code 0.

    Raises:
        ConfigurationError: Every problem at once.
    """
    settings = load(path)
    from twisted.internet import reactor

    from appd.worker import build

    built = build(settings, None, {}, reactor)
    problems = disagreements(built.plan, unit_files.read_folder(unit_folder)) if unit_folder is not None else []
    if problems:
        raise ConfigurationError(*problems)
    for warning in built.plan.warnings:
        out.write(f"warning: {warning}\n")
    count = len(built.services)
    out.write(f"{path}: good, {count} server{'s' * (count != 1)}: {', '.join(built.services)}\n")
    return EX_OK


def disagreements(plan: Plan, units: Iterable[unit_files.SocketUnit]) -> list[Problem]:
    """Where the file and the .socket units say different things.

    Args:
        plan: The servers and their addresses.
        units: The .socket units.

    Returns:
        A problem for each name that no unit passes, each socket of a kind that its server does not take, and each unit
        whose sockets no server claims.
    """
    units = list(units)
    problems: list[Problem] = []
    wanted: set[str] = set()
    for server in plan.servers:
        settings, kinds = server.settings, server.server_type.kinds
        for number, address in enumerate(settings.address):
            if address.kind != "systemd" or not address.name:
                continue
            wanted.add(address.name)
            found = unit_files.sockets_of(address, units)
            if not found:
                names = ", ".join(sorted({unit.fd_name for unit in units})) or "nothing"
                problems.append(
                    settings.problem(
                        f"{address}: no .socket unit has such a socket (FileDescriptorName=), they pass {names}",
                        "address",
                        number,
                    )
                )
            problems += [
                settings.problem(
                    f"{address}: {unit.name} passes a {kind} socket ({text}), "
                    f"but server {server.name!r} takes {' or '.join(sorted(kinds))}",
                    "address",
                    number,
                )
                for unit, kind, text in found
                if kind not in kinds
            ]
    by_index = any(address.index is not None for server in plan.servers for address in server.settings.address)
    if not by_index:
        problems += [
            Problem(f"{unit.name} passes {unit.fd_name!r}, which no server claims")
            for unit in units
            if unit.fd_name not in wanted
        ]
    return problems
