""".socket units as far as appd must know them: what they listen on and what they call it.

The format is that of systemd.syntax(7) and systemd.socket(5). Only what names a socket is read; specifiers are left as
they are written.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from appd.address import Address
from appd.errors import ConfigurationError, Problem

__all__ = [
    "SocketUnit",
    "credential_lines",
    "find_units",
    "folders_with",
    "line_that_loads",
    "lines_of_service",
    "own_unit",
    "parse_unit",
    "read_unit_texts",
    "required_sockets",
    "sockets_for",
    "sockets_of",
    "store_limit",
]

# Where systemd looks for system units, the first wins: systemd.unit(5).
UNIT_PATH = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)

_KINDS = {
    "listenstream": "stream",
    "listendatagram": "datagram",
    "listensequentialpacket": "sequential packet",
    "listenfifo": "FIFO",
}


# What is required has to be there, what is wanted need not; Sockets= implies the latter: systemd.service(5).
_TIES = {"Requires": True, "BindsTo": True, "Requisite": True, "Wants": False, "Sockets": False}

NEVER = "ConditionPathExists=!/"
"""A condition of [Unit] that no host fulfils: the unit never starts, and who requires it does: systemd.unit(5)."""

# What gives a service credentials; those of one table share an empty assignment, which takes all of them back:
# systemd.exec(5).
_CREDENTIAL_TABLES = {
    "LoadCredential": "load",
    "LoadCredentialEncrypted": "load",
    "SetCredential": "set",
    "SetCredentialEncrypted": "set",
    "ImportCredential": "import",
}


class SocketUnit(NamedTuple):
    """One .socket unit.

    Attributes:
        name: Its file name, `appd.socket`.
        listen: Kind and address text of each Listen…= line, in order.
        fd_name: FileDescriptorName=, by default the name of the unit.
        service: Service=, by default the service of the same name; with Accept=yes its template.
        accept: Accept=: each connection is passed, accepted, to an instance of the service.
        single: Every other directive of [Socket] in lower case → its value.
        set_aside: It never starts, see `NEVER`.
    """

    name: str
    listen: tuple[tuple[str, str], ...]
    fd_name: str
    service: str
    accept: bool
    single: Mapping[str, str]
    set_aside: bool = False

    @property
    def stem(self) -> str:
        """The name without its suffix and instance."""
        return self.name.removesuffix(".socket").partition("@")[0]


def parse_unit(name: str, texts: Iterable[str]) -> SocketUnit:
    """Reads a .socket unit.

    Args:
        name: Its file name.
        texts: The text of the unit, then those of its drop-ins in the order of their names.
    """
    listen: list[tuple[str, str]] = []
    single: dict[str, str] = {}
    set_aside = False
    for text in texts:
        section = ""
        for line in re.sub(r"\\\n", " ", text).splitlines():
            line = line.strip()
            if line.startswith("[") and line.endswith("]"):
                section = line
            set_aside = set_aside or (section == "[Unit]" and line == NEVER)
            key, equals, value = (part.strip() for part in line.partition("="))
            if section != "[Socket]" or not equals or line[:1] in "#;":
                continue
            if key.lower() in _KINDS:
                if value:
                    listen.append((_KINDS[key.lower()], value))
                else:  # an empty assignment takes back the ones before
                    listen.clear()
            else:
                single[key.lower()] = value
    accept = single.get("accept", "no").lower() in ("yes", "true", "on", "1")
    # Accepted connections are called "connection" unless the unit names them: systemd.socket(5).
    default_name = "connection" if accept else name
    service = single.get("service") or f"{_template(name) if accept else name.removesuffix('.socket')}.service"
    fd_name = single.get("filedescriptorname", "").replace("%%", "%") or default_name
    return SocketUnit(name, tuple(listen), fd_name, service, accept, single, set_aside)


def _template(name: str) -> str:
    return name.removesuffix(".socket").partition("@")[0] + "@"


def sockets_for(service: str, folder: str) -> list[SocketUnit]:
    """The .socket units for a service in a folder, with their drop-ins; with one of systemd's all of those are meant.

    There every unit is another service's that is not for this one; elsewhere somebody may have forgotten Service=.

    Args:
        service: The service; of an instance what is for its template counts, too.
        folder: The folder of units.

    Returns:
        The units, by name; without those that are masked or set aside.

    Raises:
        ConfigurationError: The folder or a unit cannot be read.
    """
    folders = folders_with(folder)
    try:
        os.listdir(folder)
        return list(_units_for(service, folders, folders == UNIT_PATH, _read))
    except OSError as error:
        raise ConfigurationError(Problem(f"units in {error.filename}: {error.strerror}")) from None


def required_sockets(texts: Iterable[str], unit: str) -> dict[str, bool]:
    """The .socket units that a service starts with it.

    Args:
        texts: The text of the .service unit, then those of its drop-ins in the order of their names.
        unit: Its name, for the specifiers %i and %n.

    Returns:
        Name → whether it has to be there.
    """
    instance = unit.removesuffix(".service").partition("@")[2]
    meant = {"%%": "%", "%i": instance, "%n": unit}
    found: dict[str, bool] = {}
    for text in texts:
        for line in re.sub(r"\\\n", " ", text).splitlines():
            key, _equals, value = (part.strip() for part in line.partition("="))
            if key in _TIES:
                for one in value.split():
                    name = re.sub("%[%in]", lambda match: meant[match[0]], one)
                    if name.endswith(".socket"):
                        found[name] = found.get(name, False) or _TIES[key]
    return found


def _template_of(service: str) -> str:
    """The service, or the template that it is an instance of."""
    return re.sub(r"@.*", "@.service", service)


def find_units(service: str, path: Iterable[str] = UNIT_PATH) -> list[SocketUnit]:
    """The .socket units on this host that start a service.

    Args:
        service: The service, `appd.service`; of an instance what is for its template counts, too.
        path: The folders of units, the first wins.

    Returns:
        The units, by name. What cannot be read is passed over: other units are not ours to complain of.
    """
    return list(_units_for(service, tuple(path), True, _read_if_possible))


def _units_for(
    service: str, folders: tuple[str, ...], systems: bool, read: Callable[[str], str]
) -> Iterator[SocketUnit]:
    """The .socket units for a service, by name.

    Args:
        service: The service.
        folders: The folders of units, the first wins.
        systems: Whether every unit is another service's that is not for this one.
        read: Reads a file.
    """
    instance = service.removesuffix(".service").partition("@")[2]
    names = {name for folder in folders for name in _listed(folder) if name.endswith(".socket")}
    for name in sorted(names):
        # Drop-ins of one instance change what its template says.
        own = name.replace("@.", f"@{instance}.")
        texts = _texts(name, folders, read) + (_drop_ins(own, folders, read) if own != name else [])
        if own != name:
            texts = [re.sub("%[%i]", lambda match: {"%i": instance}.get(match[0], match[0]), one) for one in texts]
        unit = parse_unit(name, texts)
        starts = _template_of(unit.service)
        if starts == _template_of(service):
            # Of another instance; or of all of them, and this one has a unit of that name for itself.
            others = unit.service not in (service, starts) or (own != name and own in names)
        else:
            there = any(os.path.isfile(os.path.join(folder, starts)) for folder in folders)
            others = systems or "service" in unit.single or there
        if texts and not unit.set_aside and not others:
            yield unit


def _listed(folder: str) -> list[str]:
    """The names in a folder; nothing where there is none."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def read_unit_texts(unit: str, path: Iterable[str] = UNIT_PATH) -> list[str]:
    """The texts that make a unit: its own or its template's, then the drop-ins of both.

    Args:
        unit: The name of the unit.
        path: The folders of units, the first wins.

    Returns:
        The texts; nothing where they cannot be read.
    """
    stem, at, rest = unit.partition("@")
    names = [f"{stem}@.{rest.rpartition('.')[2]}", unit] if at else [unit]
    try:
        return [text for name in names for text in _texts(name, tuple(path), _read)]
    except OSError:
        return []


def folders_with(folder: str) -> tuple[str, ...]:
    """The folders that systemd reads with one of units: all of its own with one of those, any other alone."""
    return UNIT_PATH if os.path.abspath(folder) in UNIT_PATH else (folder,)


def own_unit(cgroup: str = "/proc/self/cgroup") -> str:
    """The service that this process is of, by its control group; "" when it is of none, or of a user's.

    Args:
        cgroup: What says so: cgroups(7).
    """
    try:
        with open(cgroup, encoding="utf-8") as file:
            paths = [line.rstrip("\n").partition(":")[2].partition(":")[2] for line in file]
    except OSError:
        return ""
    # Units of a user's manager are not among the host's, and may be called as one of those.
    parts = [reversed(path.split("/")) for path in paths if "/user@" not in path]
    return next((part for path in parts for part in path if part.endswith(".service")), "")


def store_limit(texts: Iterable[str]) -> int:
    """How many descriptors systemd keeps for a service: FileDescriptorStoreMax=, none by default.

    Args:
        texts: The text of the .service unit, then those of its drop-ins in the order of their names.
    """
    # What is no number is passed over, an empty value too.
    values = [value for key, value in lines_of_service(texts) if key == "FileDescriptorStoreMax" and value.isdecimal()]
    return int(values[-1]) if values else 0


def lines_of_service(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Key and value of each line in [Service]."""
    for text in texts:
        section = ""
        for line in re.sub(r"\\\n", " ", text).splitlines():
            line = line.strip()
            if line.startswith("["):
                section = line
            key, equals, value = (part.strip() for part in line.partition("="))
            if section == "[Service]" and equals:
                yield key, value


def credential_lines(texts: Iterable[str], unit: str) -> list[tuple[str, str]]:
    """What gives a service its credentials.

    Args:
        texts: The text of the .service unit, then those of its drop-ins in the order of their names.
        unit: Its name, for the specifiers %i and %n.

    Returns:
        Name of a credential and the line that gives it; of ImportCredential= the name is a pattern.
    """
    instance = unit.removesuffix(".service").partition("@")[2]
    meant = {"%%": "%", "%i": instance, "%n": unit}
    found: list[tuple[str, str]] = []
    for key, value in lines_of_service(texts):
        table = _CREDENTIAL_TABLES.get(key)
        if table is not None and value:
            name = re.sub("%[%in]", lambda match: meant[match[0]], value.partition(":")[0])
            found.append((name, f"{key}={value}"))
        elif table is not None:
            found = [one for one in found if _CREDENTIAL_TABLES[one[1].partition("=")[0]] != table]
    return found


def line_that_loads(credential: str, lines: Iterable[tuple[str, str]]) -> str:
    """The line that gives a service a credential, the last wins; "" when none does.

    Args:
        credential: The name of the credential.
        lines: As `credential_lines` gives them.
    """
    found = ""
    for name, line in lines:
        key, _, value = line.partition("=")
        if key == "ImportCredential":
            gives = fnmatch.fnmatchcase(credential, name)
        else:
            # LoadCredential=ID:FOLDER gives ID_FILE for each file in it.
            folder = value.partition(":")[2]
            gives = name == credential or (credential.startswith(f"{name}_") and os.path.isdir(folder))
        if gives:
            found = line
    return found


def _texts(name: str, folders: Iterable[str], read: Callable[[str], str]) -> list[str]:
    """The text of a unit from the first folder that has it, then its drop-ins from all of them; nothing of one that is
    masked."""
    folders = tuple(folders)
    paths = (os.path.join(folder, name) for folder in folders)
    path = next((one for one in paths if os.path.lexists(one)), None)
    if path is not None and os.path.realpath(path) == os.devnull:
        return []
    # A link that leads nowhere is no unit.
    texts = [read(path)] if path is not None and os.path.isfile(path) else []
    return texts + _drop_ins(name, folders, read)


def _drop_ins(name: str, folders: Iterable[str], read: Callable[[str], str]) -> list[str]:
    """The drop-ins of a unit, in the order of their names; of two of one name the higher folder's counts."""
    found: dict[str, str] = {}
    for folder in folders:
        for one in _listed(os.path.join(folder, f"{name}.d")):
            if one.endswith(".conf"):
                found.setdefault(one, os.path.join(folder, f"{name}.d", one))
    return [read(found[one]) for one in sorted(found)]


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _read_if_possible(path: str) -> str:
    try:
        return _read(path)
    except OSError:
        return ""


def sockets_of(address: Address, units: Iterable[SocketUnit]) -> list[tuple[SocketUnit, str, str]]:
    """The sockets that a `systemd:name=` address would mean: unit, kind, address text.

    Of a unit with Accept=yes they are connections, whatever it listens on: systemd.socket(5) has it for streams only.
    """
    those = [
        (unit, "connection" if unit.accept else kind, text)
        for unit in units
        if unit.fd_name == address.name
        for kind, text in unit.listen
    ]
    if address.position is None:
        return those
    return those[address.position : address.position + 1]
