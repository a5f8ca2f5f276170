"""`appd explain`: descriptor → name → unit → server → factory, one line for each socket."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from appd.commands.unitfiles import service_of
from appd.config import load
from appd.systemd.activation import Inheritance, inherit
from appd.systemd.units import SocketUnit, find_units, sockets_of

__all__ = ["Row", "explain", "rows", "service_of"]


class Row(NamedTuple):
    """One socket of one server, each column as text; "-" where there is nothing."""

    descriptor: str
    name: str
    kind: str
    where: str
    unit: str
    server: str
    factory: str


def explain(path: str, *, as_json: bool = False) -> str:
    """Explains a configuration file.

    With descriptors passed (`systemd-socket-activate appd explain FILE`) it shows these; without, the .socket units of
    this host say what systemd would pass.

    Args:
        path: The configuration file.
        as_json: A JSON array of objects in place of a table.

    Returns:
        The text.

    Raises:
        ConfigurationError: The file is wrong.
    """
    inheritance = inherit()
    from appd.worker.assembly import build

    # Hosted code is imported: no bytecode beside it, and what it prints is no part of the table.
    sys.dont_write_bytecode = True
    with contextlib.redirect_stdout(sys.stderr):
        settings = load(path)
        from twisted.internet import reactor

        built = build(settings, inheritance if inheritance.sockets else None, {}, reactor)
    found = rows(built, inheritance, find_units(service_of(path)))
    if as_json:
        import json

        return json.dumps([one._asdict() for one in found], indent=2) + "\n"
    return _table(found)


def rows(built: Any, inheritance: Inheritance, units: Iterable[SocketUnit]) -> list[Row]:
    """The rows of the table.

    Args:
        built: What `appd.worker.assembly.build` made.
        inheritance: What systemd passed.
        units: The .socket units of the service.
    """
    units = list(units)
    found: list[Row] = []
    for server in built.plan.servers:
        factory = (
            getattr(built.services[server.name], "description", "") or type(built.services[server.name]).__qualname__
        )
        for listener in server.listeners:
            passed = getattr(listener, "socket", None)
            if passed is not None:
                unit = ", ".join(one.name for one in units if one.fd_name == passed.name)
                found.append(
                    Row(
                        str(passed.fd),
                        passed.name or "-",
                        _kind(listener, passed.kind),
                        passed.where,
                        unit or "-",
                        server.name,
                        factory,
                    )
                )
            elif listener.address.name and (listener.inherited or sockets_of(listener.address, units)):
                found += _from_units(listener, units, server.name, factory)
            else:
                name = listener.address.name or "-"
                found.append(
                    Row(
                        "-",
                        name,
                        _kind(listener, listener.kind),
                        listener.where,
                        "made by appd" if listener.kind else "-",
                        server.name,
                        factory,
                    )
                )
    found += [
        Row(
            str(one.fd),
            one.name or "-",
            one.kind,
            one.where,
            _unit_of(one.name, units),
            "nobody claims it",
            one.refusal or "-",
        )
        for one in inheritance.unclaimed()
    ]
    return found


def _from_units(listener: Any, units: list[SocketUnit], server: str, factory: str) -> list[Row]:
    found = sockets_of(listener.address, units)
    if not found:
        return [
            Row(
                "-",
                listener.address.name,
                _kind(listener, ""),
                "passed by systemd",
                "no .socket unit found",
                server,
                factory,
            )
        ]
    return [
        Row("-", listener.address.name, _kind(listener, kind), text, unit.name, server, factory)
        for unit, kind, text in found
    ]


def _kind(listener: Any, kind: str) -> str:
    """The kind of a socket, and what is spoken on it."""
    return f"{kind or '-'}{', TLS' if listener.tls is not None else ''}"


def _unit_of(name: str, units: list[SocketUnit]) -> str:
    return ", ".join(one.name for one in units if one.fd_name == name) or "-"


def _table(found: list[Row]) -> str:
    heads = tuple(field.upper() for field in Row._fields)
    widths = [max(len(row[column]) for row in (heads, *found)) for column in range(len(heads))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heads, *found)
    )
    return "".join(f"{line}\n" for line in lines)
