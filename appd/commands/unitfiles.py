"""The units that a configuration file asks for, as text.

A `<socket>` section says what a .socket unit would. Here it becomes one, named after the service that the file belongs
to, so that a port stands in one place:

    /etc/appd/appd.conf   <socket http>  ─▶ appd.socket          any other <socket NAME> ─▶ appd-NAME.socket
    /etc/appd/shop.conf   <socket http>  ─▶ appd@shop.socket     any other <socket NAME> ─▶ appd-NAME@shop.socket

`http` is what the shipped units pass, so that its unit takes the place of the shipped one, which the shipped service
requires; a file that has no use for that one gets a drop-in that keeps it from being started. The service gets a
drop-in that ties it to the sockets of the file, and one that loads each `credential:NAME` of it. What a credential is
loaded from is in no file of ours, so that the unit has it: a conventional path at first, and from then on what an
administrator made of it. Follows systemd.socket(5), systemd.unit(5), systemd.exec(5) and systemd.syntax(7).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from appd.address import Address
from appd.config.settings import Settings
from appd.errors import AppdError, ConfigurationError, Problem
from appd.registry import Registry
from appd.systemd.units import NEVER, credential_lines, line_that_loads
from appd.tls.values import CREDENTIAL
from appd.worker.plan import every_address, mentioned

__all__ = [
    "UnitFile",
    "credentials_of",
    "drop_ins_of",
    "listen_lines",
    "mark",
    "place_of",
    "service_of",
    "shipped_socket_of",
    "socket_lines",
    "unit_files",
]

# The FileDescriptorName= of the shipped .socket units.
_SHIPPED_NAME = "http"
# The same as in the shipped units.
_BACKLOG = 4096
_MAX_UNIT_NAME = 255
_SOCKETS, _CREDENTIALS, _UNUSED = "50-appd-sockets.conf", "50-appd-credentials.conf", "50-appd-unused.conf"
_MADE = "# Made by `appd units` from "
# Where a credential is loaded from until an administrator says otherwise: a folder that only root needs to read.
_SOURCES = "/etc/appd/credentials"
# What systemd takes as the name of a credential, and what its syntax would not change: systemd.exec(5).
_CREDENTIAL_NAME = re.compile(r"[!-9;-\[\]-~]+")


class UnitFile(NamedTuple):
    """One file.

    Attributes:
        path: Its path below a folder of units.
        text: What is in it.
    """

    path: str
    text: str


def service_of(path: str) -> str:
    """The service that a configuration file belongs to: `appd.service`, or `appd@NAME.service` for NAME.conf."""
    stem = os.path.basename(path).removesuffix(".conf")
    return "appd.service" if stem == "appd" else f"appd@{_escaped(stem)}.service"


def shipped_socket_of(service: str) -> str:
    """The .socket unit that the shipped service requires."""
    return f"{service.removesuffix('.service')}.socket"


def drop_ins_of(service: str) -> tuple[str, ...]:
    """The paths, below a folder of units, of all the drop-ins that are made for a service."""
    return (
        f"{service}.d/{_SOCKETS}",
        f"{service}.d/{_CREDENTIALS}",
        f"{shipped_socket_of(service)}.d/{_UNUSED}",
    )


def mark(path: str) -> str:
    """How the first line of each unit ends that was made from that file."""
    return f"{path}: change it there.\n"


def unit_files(settings: Settings, path: str, texts: Iterable[str] = ()) -> list[UnitFile]:
    """Makes the units of a file.

    Args:
        settings: The settings of the file.
        path: The file.
        texts: The service as it is: the text of its unit, then those of its drop-ins. What it loads credentials from
            stays as it is there.

    Returns:
        A .socket unit for each `<socket>`, a drop-in of the service for them, one for the credentials that nothing else
        loads, and one of the shipped .socket unit when no server has a use for it; nothing when the file asks for none.

    Raises:
        ConfigurationError: A section says what no unit can, every problem at once.
    """
    service = service_of(path)
    problems: list[Problem] = []
    units: list[UnitFile] = []
    for section in settings.sockets:
        name = _unit_name(service, section.name)
        if len(name) > _MAX_UNIT_NAME:
            problems.append(section.problem(f"<socket {section.name}>: its unit would be called {name}: too long"))
        try:
            units.append(UnitFile(name, _socket_unit(section, service, path)))
        except ConfigurationError as error:
            problems += error.problems
    credentials = credentials_of(settings)
    for credential, (section, attribute, number) in credentials.items():
        if not _CREDENTIAL_NAME.fullmatch(credential):
            message = f"{CREDENTIAL}{credential}: a unit takes ASCII without blank, colon and backslash as its name"
            problems.append(section.problem(message, attribute, number))
    if problems:
        raise ConfigurationError(*problems)
    sockets_drop_in, credentials_drop_in, unused_drop_in = drop_ins_of(service)
    if units:
        units.append(UnitFile(sockets_drop_in, _drop_in([one.path for one in units], path)))
    lines = _loading(credentials, service, list(texts))
    if lines:
        units.append(UnitFile(credentials_drop_in, _credentials_drop_in(lines, path)))
    if not _uses_shipped_socket(settings):
        units.append(UnitFile(unused_drop_in, _unused_drop_in(path)))
    return units


def _uses_shipped_socket(settings: Settings) -> bool:
    """Whether a server claims what it passes, or may, or a `<socket>` takes its place."""
    registry = Registry()
    for one in settings.servers:
        if _SHIPPED_NAME in mentioned(one):
            return True
        if any(at.name == _SHIPPED_NAME or at.index is not None for _key, _number, at in every_address(one)):
            return True
        try:
            found = registry.find(one.section_type)
            if found is None or getattr(found.load(), "claims_later", False):
                return True
        except AppdError:
            return True
    return any(one.name == _SHIPPED_NAME for one in settings.sockets)


def _unused_drop_in(path: str) -> str:
    return (
        f"{_MADE}{mark(path)}"
        "[Unit]\n"
        "# No server of the file asks for this socket: it is never started, and the service, which requires it,\n"
        f"# starts without it. systemctl says of the condition that it is not met.\n{NEVER}\n"
    )


def credentials_of(settings: Settings) -> dict[str, tuple[Settings, str, int]]:
    """The credentials that a file names: name → section, attribute and number of the value that names it first."""
    found: dict[str, tuple[Settings, str, int]] = {}
    for section, attribute, number, value in _values(settings):
        if isinstance(value, str) and value.startswith(CREDENTIAL):
            found.setdefault(value.removeprefix(CREDENTIAL), (section, attribute, number))
    return found


def _values(section: Settings) -> Iterator[tuple[Settings, str, int, object]]:
    """Every value of a section and of those in it."""
    for attribute, values in section.values.items():
        for number, value in enumerate(values if isinstance(values, list | tuple) else [values]):
            if isinstance(value, Settings):
                yield from _values(value)
            else:
                yield section, attribute, number, value


def _loading(credentials: Iterable[str], service: str, texts: list[str]) -> list[str]:
    """The lines of our drop-in: none for what other texts load, and what is in ours already as it is."""
    others = credential_lines([one for one in texts if not one.startswith(_MADE)], service)
    ours = credential_lines([one for one in texts if one.startswith(_MADE)], service)
    lines: dict[str, None] = {}
    for name in credentials:
        if not line_that_loads(name, others):
            default = f"LoadCredential={_literal(name)}:{_literal(f'{_SOURCES}/{name}')}"
            lines[line_that_loads(name, ours) or default] = None
    return list(lines)


def _credentials_drop_in(lines: list[str], path: str) -> str:
    return (
        f"{_MADE}{mark(path)}"
        "[Service]\n"
        "# Only what each is loaded from, or set to, is changed here; that stays when this is made anew.\n"
        + "".join(f"{one}\n" for one in lines)
    )


def _unit_name(service: str, socket: str) -> str:
    stem = service.removesuffix(".service")
    if socket == _SHIPPED_NAME:
        return f"{stem}.socket"
    # Escaped, a name has no @, so that no two are called the same. Not a colon after the instance: to systemd-analyze
    # verify that is FILE:ALIAS.
    program, at, instance = stem.partition("@")
    return f"{program}-{_escaped(socket)}{at}{instance}.socket"


def _escaped(name: str) -> str:
    """What a unit name cannot hold as `\\xHH`: systemd-escape(1), but for the hyphen, which it may."""
    return re.sub(r"[^A-Za-z0-9:_.-]", lambda match: "".join(f"\\x{one:02x}" for one in match[0].encode()), name)


def _literal(text: str) -> str:
    """A value in which nothing is a specifier, nor a continued line."""
    return text.replace("%", "%%")


def _socket_unit(section: Settings, service: str, path: str) -> str:
    said = listen_lines(section) + socket_lines(section)
    lines = [f"{directive}={_literal(value)}" for directive, value in said]
    if any(address.path.startswith("/") for address in section.listen):
        lines.append("# The path goes with the socket unit.\nRemoveOnStop=yes")
    return "\n".join(
        [
            f"{_MADE}<socket {section.name}> of {mark(path)}".rstrip("\n"),
            "[Unit]",
            f"Description=Socket {_literal(str(section.name))} of {service}",
            "Documentation=man:systemd.socket(5)",
            "",
            "[Socket]",
            *lines,
            f"Service={service}",
            "",
            "[Install]",
            "WantedBy=sockets.target",
            "",
        ]
    )


def socket_lines(section: Settings) -> list[tuple[str, str]]:
    """Directive and value of what a `<socket>` says beside its addresses.

    Raises:
        ConfigurationError: Its addresses have options that differ: a unit has one of each.
    """
    modes = {one.mode for one in section.listen if one.mode is not None} | {section.mode} - {None}
    backlogs = {one.backlog for one in section.listen if one.backlog is not None} | {section.backlog} - {None}
    for key, found in (("mode", modes), ("backlog", backlogs)):
        if len(found) > 1:
            raise ConfigurationError(
                section.problem(f"<socket {section.name}>: a unit has one {key}: make it a <socket> for each", "listen")
            )
    lines: list[tuple[str, str]] = [("FileDescriptorName", str(section.name))]
    if not all(one.is_datagram for one in section.listen):
        lines.append(("Backlog", str(next(iter(backlogs), _BACKLOG))))
    if modes:
        lines.append(("SocketMode", f"{next(iter(modes)):04o}"))
    others = {
        "SocketUser": section.user,
        "SocketGroup": section.group,
        "BindIPv6Only": section.bind_ipv6_only,
        "ReusePort": "yes" if section.reuse_port else None,
    }
    lines += [(directive, str(value)) for directive, value in others.items() if value is not None]
    return lines


def listen_lines(section: Settings) -> list[tuple[str, str]]:
    """Directive and value of each address of a `<socket>`, in order.

    Raises:
        ConfigurationError: An address is none that a unit can have; every one at once.
    """
    problems: list[Problem] = []
    lines: list[tuple[str, str]] = []
    for number, address in enumerate(section.listen):
        try:
            lines.append(("ListenDatagram" if address.is_datagram else "ListenStream", place_of(address)))
        except ValueError as error:
            problems.append(section.problem(f"<socket {section.name}>: {address}: {error}", "listen", number))
    if problems:
        raise ConfigurationError(*problems)
    return lines


def place_of(address: Address) -> str:
    """An address as systemd.socket(5) writes it.

    Raises:
        ValueError: A unit cannot have it.
    """
    if address.path:
        return address.path
    if not address.port:
        raise ValueError("a .socket unit needs a port: write its number in place of 0")
    if not address.host:
        return str(address.port)
    if ":" in address.host:
        return f"[{address.host}]:{address.port}"
    if not address.host.replace(".", "").isdecimal():
        raise ValueError("a .socket unit takes no host name: write its IP address")
    return f"{address.host}:{address.port}"


def _drop_in(names: list[str], path: str) -> str:
    listed = " ".join(names)
    return (
        f"{_MADE}{mark(path)}"
        "[Unit]\n"
        "# The sockets stay when the service stops, so that no client is refused meanwhile.\n"
        f"Requires={listed}\nAfter={listed}\n\n"
        "[Service]\n"
        f"Sockets={listed}\n"
    )
