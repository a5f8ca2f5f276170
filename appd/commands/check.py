"""`appd check`: everything that is wrong with a file, without sockets, as any user, writing nothing."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from appd.address import parse
from appd.commands.unitfiles import credentials_of, listen_lines, place_of, service_of, shipped_socket_of, socket_lines
from appd.config import Settings, load
from appd.dates import day
from appd.errors import EX_OK, ConfigurationError, HostError, Problem
from appd.systemd import units as unit_files
from appd.systemd.confinement import forbids_outgoing, is_outgoing, mend
from appd.worker.plan import Plan, PlannedServer, every_address, mentioned

__all__ = ["check", "credential_disagreements", "disagreements", "socket_disagreements", "tie_disagreements"]

# How long whoever is connected to may take, in seconds.
_CONNECT = 5.0


def check(path: str, unit_folder: str | None, out: TextIO, *, connect: bool = False) -> int:
    """Checks a file as `appd run` would before READY=1, hosted code imported, nothing bound.

    Args:
        path: The configuration file.
        unit_folder: A folder of .socket units to compare with; None for none.
        out: Where the verdict goes.
        connect: Whether to connect to what its servers connect to.

    Returns:
        The exit code 0.

    Raises:
        ConfigurationError: Every problem at once.
        HostError: Somebody that they connect to is not there, or not to be trusted.
    """
    from appd.worker.assembly import build

    # Hosted code is imported: no bytecode beside it, and what it prints is no part of the verdict.
    sys.dont_write_bytecode = True
    with contextlib.redirect_stdout(sys.stderr):
        settings = load(path)
        # Before working-directory is applied: the folder is meant from where the command was given.
        service, units, unmade, confined = service_of(path), None, list[Problem](), False
        folders: tuple[str, ...] = ()
        if unit_folder is not None:
            folders = unit_files.folders_with(unit_folder)
            units = unit_files.sockets_for(service, unit_folder)
            confined = forbids_outgoing(unit_files.read_unit_texts(service, folders))
            unmade = credential_disagreements(settings, service, folders)
            unmade += tie_disagreements(settings, service, folders, units)
        from twisted.internet import reactor

        built = build(settings, None, {}, reactor)
    from appd.service import ServerService

    serves = {name: one.kinds for name, one in built.services.items() if isinstance(one, ServerService)}
    problems = disagreements(built.plan, units, serves, service) if units is not None else []
    problems += [problem for one in settings.sockets for problem in socket_disagreements(one, units or ())]
    problems += unmade
    problems += [
        one.settings.problem(f"server {one.name!r}: {mend(service)}", "")
        for one in built.plan.servers
        if confined and is_outgoing(one.server_type, built.services[one.name])
    ]
    if problems:
        raise ConfigurationError(*problems)
    for warning in built.plan.warnings:
        out.write(f"warning: {warning}\n")
    for line in _too_many(built.plan, service, folders):
        out.write(f"warning: {line}\n")
    for line in _certificates(built.plan):
        out.write(f"{line}\n")
    if connect:
        _connect(built.services, out)
    count = len(built.services)
    out.write(f"{path}: good, {count} server{'s' * (count != 1)}: {', '.join(built.services)}\n")
    if os.geteuid() == 0 and os.path.abspath(path).startswith("/etc/appd/"):
        out.write(f"as root, who may read everything; as the service: `runuser -u appd -- appd check {path}`\n")
    return EX_OK


def _too_many(plan: Plan, service: str, folders: Sequence[str]) -> list[str]:
    """Whether a restart loses sockets that appd binds itself: what to warn of. What hosted code binds nobody knows."""
    from appd.listening.listeners import BoundListener

    listeners = [listener for server in plan.servers for listener in server.listeners]
    # Those of a <socket> are passed by a unit.
    bound = [one for one in listeners if isinstance(one, BoundListener) and one.address.kind != "systemd"]
    texts = unit_files.read_unit_texts(service, folders)
    limit = unit_files.store_limit(texts)
    if not texts or len(bound) <= limit:
        return []
    return [
        f"of the sockets that appd binds systemd keeps {limit} of {len(bound)} over a restart "
        f"(FileDescriptorStoreMax={limit} of {service}): who connects during one is refused at the others"
    ]


def _connect(services: Mapping[str, object], out: TextIO) -> None:
    """Connects to what each server connects to, and tells who is there."""
    from appd.tls.verdict import judge

    problems: list[Problem] = []
    for name, service in services.items():
        for target in getattr(service, "connects", ()):
            good, words = judge(target, _CONNECT)
            if good:
                out.write(f"server {name!r}: {target} {words}\n")
            else:
                problems.append(Problem(f"server {name!r}: {target} {words}"))
    if problems:
        raise HostError(*problems)


def _certificates(plan: Plan) -> list[str]:
    """When each certificate expires, and a warning for those that do soon."""
    lines: list[str] = []
    for server in plan.servers:
        if server.tls is None or server.tls.material is None:
            continue
        from appd.tls.expiry import Warnings

        pairs, authorities = server.tls.material.pairs, server.tls.material.authorities
        soon = Warnings().due([*pairs, *authorities], time.time())
        lines += [f"warning: server {server.name!r}: {one.where}: {one.title} {words}" for one, words in soon]
        lines += [f"certificate {one.where}: {one.title} expires {day(one.expires)}" for one in pairs]
        lines += [f"client-ca {one.where}: {one.title} expires {day(one.expires)}" for one in authorities]
        lines += [f"crl {where}: expires {day(until)}" for where, until in server.tls.material.lists]
    return lines


def disagreements(
    plan: Plan,
    units: Iterable[unit_files.SocketUnit],
    serves: Mapping[str, Iterable[str]],
    service: str = "appd.service",
) -> list[Problem]:
    """Where the file and the .socket units say different things.

    Args:
        plan: The servers and their addresses.
        units: The .socket units.
        serves: Server name → what the finished server serves, of `stream` and `datagram`; its type decides without.
        service: The service of the file.

    Returns:
        A problem for each name that no unit passes, each socket of a kind that its server does not take, and each unit
        whose sockets no server claims.
    """
    units = list(units)
    problems: list[Problem] = []
    wanted: set[str] = set()
    # What is claimed by its index may be any socket: which descriptor comes first is not in the units.
    by_index: dict[int, frozenset[str]] = {}
    for server in plan.servers:
        wanted |= mentioned(server.settings)
        kinds = frozenset(serves.get(server.name, server.server_type.kinds))
        for attribute, number, address in every_address(server.settings):
            if address.index is not None:
                by_index[address.index] = kinds
            elif address.kind == "systemd":
                wanted.add(address.name)
                problems += _of_address(server, kinds, (attribute, number), units)
    unclaimed = [unit for unit in units if unit.fd_name not in wanted]
    return problems + _unclaimed(unclaimed, list(by_index.values()), service)


def socket_disagreements(section: Settings, units: Iterable[unit_files.SocketUnit]) -> list[Problem]:
    """Where a `<socket>` and the units that pass sockets of its name say different things.

    Args:
        section: The `<socket>`.
        units: The .socket units.

    Returns:
        A problem for each address that only one of them has and each setting that differs; none without such a unit.
    """
    those = [one for one in units if one.fd_name == section.name]
    # A template's specifiers mean something only in an instance.
    if not those or any("%" in text.replace("%%", "") for unit in those for _kind, text in unit.listen):
        return []
    names = ", ".join(unit.name for unit in those)
    mend = "`appd units` makes the unit anew"
    wanted = {(_KINDS[directive], text) for directive, text in listen_lines(section)}
    there = {(kind, _as_written(text)) for unit in those for kind, text in unit.listen}
    problems = [
        section.problem(f"<socket {section.name}>: {names} does not listen on {text} ({kind}); {mend}", "listen")
        for kind, text in sorted(wanted - there)
    ]
    problems += [
        section.problem(f"<socket {section.name}>: {names} listens on {text} ({kind}), which is not here; {mend}")
        for kind, text in sorted(there - wanted)
    ]
    said = {key for key in ("backlog", "mode") if any(getattr(one, key) is not None for one in section.listen)}
    said |= {key for key in _KEYS.values() if section.values.get(key) is not None}
    for directive, value in socket_lines(section):
        for unit in those if _KEYS.get(directive, "") in said else ():
            found = unit.single.get(directive.lower(), "")
            if directive == "ReusePort" and found.lower() in ("1", "true", "on"):
                found = "yes"
            if found.lstrip("0").lower() != value.lstrip("0").lower():
                message = f"<socket {section.name}>: {unit.name} has {directive}={found}, here it is {value}; {mend}"
                problems.append(section.problem(message, _KEYS[directive]))
    return problems


def tie_disagreements(
    settings: Settings, service: str, folders: Sequence[str], units: Iterable[unit_files.SocketUnit]
) -> list[Problem]:
    """Where a start of the service would not start the sockets of the file, or could not.

    Args:
        settings: The settings of the file.
        service: Its service.
        folders: The folders of units, the first wins.
        units: The .socket units for the service.

    Returns:
        A problem for each required unit that is not there, and each unit of a `<socket>` that is not started; none
        where the folders have nothing of the service.
    """
    texts = unit_files.read_unit_texts(service, folders)
    required = unit_files.required_sockets(texts, service)
    template = re.sub("@.*", "@.service", service)
    is_there = any(os.path.isfile(os.path.join(one, name)) for one in folders for name in (service, template))
    problems = [
        Problem(
            f"{service} requires {name}, and there is no such unit, or it is masked: `appd units` makes what the file "
            "asks for"
        )
        for name, needed in required.items()
        if needed and is_there and not unit_files.read_unit_texts(name, folders)
    ]
    instance = service.removesuffix(".service").partition("@")[2]
    for section in settings.sockets:
        names = [one.name.replace("@.", f"@{instance}.") for one in units if one.fd_name == section.name]
        problems += [
            section.problem(
                f"<socket {section.name}>: {service} starts without {name}, which neither Requires= nor Sockets= has; "
                "`appd units` makes the drop-in"
            )
            for name in names
            if texts and name not in required
        ]
    return problems


def credential_disagreements(settings: Settings, service: str, folders: Sequence[str]) -> list[Problem]:
    """The credentials that a file names and its service has not.

    Args:
        settings: The settings of the file.
        service: Its service.
        folders: The folders of units, the first wins.

    Returns:
        A problem for each.
    """
    texts = unit_files.read_unit_texts(service, folders)
    lines = unit_files.credential_lines(texts, service)
    return [
        section.problem(
            f"credential:{name}: {service} does not load it (LoadCredential=); `appd units` makes the drop-in",
            attribute,
            number,
        )
        for name, (section, attribute, number) in credentials_of(settings).items()
        if not unit_files.line_that_loads(name, lines)
    ]


_KINDS = {"ListenStream": "stream", "ListenDatagram": "datagram"}
# What is compared when the section says it; the rest are defaults.
_KEYS = {
    "Backlog": "backlog",
    "SocketMode": "mode",
    "SocketUser": "user",
    "SocketGroup": "group",
    "BindIPv6Only": "bind_ipv6_only",
    "ReusePort": "reuse_port",
}


def _as_written(text: str) -> str:
    """The address of a unit as `appd units` would write it."""
    try:
        return place_of(parse(text.replace("%%", "%")))
    except ValueError:
        return text


def _of_address(
    server: PlannedServer, kinds: frozenset[str], where: tuple[str, int], units: list[unit_files.SocketUnit]
) -> list[Problem]:
    """What the units say against one `systemd:name=` address."""
    settings = server.settings
    address = settings.values[where[0]][where[1]]
    found = unit_files.sockets_of(address, units)
    if not found:
        names = ", ".join(sorted({unit.fd_name for unit in units})) or "nothing"
        message = f"{address}: no .socket unit has such a socket (FileDescriptorName=), they pass {names}"
        return [settings.problem(message, *where)]
    takes = f"but server {server.name!r} takes {' or '.join(sorted(kinds))}"
    problems: list[Problem] = []
    for unit, kind, text in found:
        if _served(kind) in kinds:
            continue
        passes = f"a {kind} socket ({text})"
        if kind == "connection":
            passes = f"accepted connections ({text}) to instances of {unit.service}, as Accept=yes has it"
        problems.append(settings.problem(f"{address}: {unit.name} passes {passes}, {takes}", *where))
    return problems


def _unclaimed(units: list[unit_files.SocketUnit], by_index: list[frozenset[str]], service: str) -> list[Problem]:
    """The units whose sockets nobody claims, as far as addresses with index= leave that certain.

    Args:
        units: The units that no name claims.
        by_index: For each index that is claimed, what its server serves.
        service: Their service.
    """
    shipped = shipped_socket_of(service)
    problems: list[Problem] = []
    open_question: list[unit_files.SocketUnit] = []
    for unit in units:
        passed = {_served("connection" if unit.accept else kind) for kind, _text in unit.listen}
        if any(passed & kinds for kinds in by_index):
            open_question.append(unit)
        else:
            aside = "; `appd units` sets it aside" if unit.name in (shipped, re.sub("@.*", "@.socket", shipped)) else ""
            problems.append(Problem(f"{unit.name} passes {unit.fd_name!r}, which no server claims{aside}"))
    count = sum(len(unit.listen) for unit in open_question)
    if count > len(by_index):
        names = ", ".join(unit.name for unit in open_question)
        than = f"more than the file has index= addresses ({len(by_index)})"
        problems.append(Problem(f"{names}: {count} sockets that no name claims, {than}"))
    return problems


def _served(kind: str) -> str:
    """Whoever serves streams takes a connection too."""
    return "stream" if kind == "connection" else kind
