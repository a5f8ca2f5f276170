"""`appd units`: the units that a file asks for, shown, compared with those that are there, or written."""

from __future__ import annotations

import os
import shlex
from typing import TextIO

from appd.commands.unitfiles import UnitFile, drop_ins_of, mark, service_of, shipped_socket_of, unit_files
from appd.config import load
from appd.errors import EX_CONFIG, EX_OK, HostError
from appd.systemd.units import folders_with, read_unit_texts
from appd.tls.credentials import origins

__all__ = ["UNIT_FOLDER", "units"]

# Where an administrator's units lie: systemd.unit(5).
UNIT_FOLDER = "/etc/systemd/system"


def units(path: str, output: str | None, diff: bool, out: TextIO) -> int:
    """Shows, compares or writes units.

    Args:
        path: The configuration file.
        output: The folder of units; None shows, and compares with `UNIT_FOLDER`.
        diff: Whether to compare in place of writing.
        out: Where all is shown.

    Returns:
        The exit code: 0, and 78 when `diff` has found a difference.

    Raises:
        ConfigurationError: The file is wrong, or says what no unit can.
        HostError: A unit cannot be read or written.
    """
    service = service_of(path)
    texts = read_unit_texts(service, folders_with(output or UNIT_FOLDER))
    made = unit_files(load(path), path, texts)
    left = _left_over(made, path, output or UNIT_FOLDER)
    if diff:
        differences = "".join(_difference(one, output or UNIT_FOLDER) for one in made)
        out.write(differences + left)
        return EX_CONFIG if differences or left else EX_OK
    if not made:
        out.write(f"{path} asks for the shipped units as they are: nothing to make for {service}\n{left}")
        return EX_OK
    if output is None:
        out.write("\n".join(f"# {UNIT_FOLDER}/{one.path}\n{one.text}" for one in made))
        return EX_OK
    for one in made:
        _write(one, output)
        out.write(f"{os.path.join(output, one.path)}\n")
    out.write(left)
    out.write(_missing_sources(made, service))
    out.write(f"next: {'; '.join(_next(made, service))}\n")
    return EX_OK


def _next(made: list[UnitFile], service: str) -> list[str]:
    """The commands that bring the units into force."""
    sockets = " ".join(shlex.quote(one.path) for one in made if one.path.endswith(".socket"))
    shipped = shlex.quote(shipped_socket_of(service))
    unused = any(one.path.startswith(f"{shipped_socket_of(service)}.d/") for one in made)
    service = shlex.quote(service)
    if not sockets and not unused:
        return ["systemctl daemon-reload", f"systemctl restart {service}"]
    return [
        "systemctl daemon-reload",
        # A socket unit does not start while its service runs.
        f"systemctl stop {service}",
        *([f"systemctl disable --now {shipped}"] if unused else []),
        *([f"systemctl enable {sockets}", f"systemctl restart {sockets}"] if sockets else []),
        f"systemctl start {service}",
    ]


def _missing_sources(made: list[UnitFile], service: str) -> str:
    """A line for each file that a credential is loaded from and that is not there: the service would not start."""
    sources = origins([one.text for one in made if one.path.endswith(".conf")], service)
    lines: list[str] = []
    for name, source in sources.items():
        try:
            os.stat(source)
        except (FileNotFoundError, NotADirectoryError):
            lines.append(
                f"credential {name}: there is no {source}; put it there, or name another file in the drop-in\n"
            )
        except OSError:
            continue  # cannot be known
    return "".join(lines)


def _left_over(made: list[UnitFile], path: str, folder: str) -> str:
    """A line for each unit that was made from this file and is not asked for any more."""
    wanted = {one.path for one in made}
    lines: list[str] = []
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".socket"))
    except OSError:
        return ""
    # A drop-in that stays would have the service require a socket that is gone.
    for name in [*names, *drop_ins_of(service_of(path))]:
        if name in wanted:
            continue
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                ours = file.readline().endswith(mark(path))
        except OSError:
            continue
        if ours:
            what = "disable and remove it" if name.endswith(".socket") else "remove it"
            lines.append(f"{os.path.join(folder, name)}: {path} does not ask for it any more: {what}\n")
    return "".join(lines)


def _difference(unit: UnitFile, folder: str) -> str:
    import difflib

    path = os.path.join(folder, unit.path)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            there = file.read()
    except FileNotFoundError:
        there = ""
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}", number=error.errno) from None
    lines = there.splitlines(True), unit.text.splitlines(True)
    return "".join(difflib.unified_diff(*lines, fromfile=path, tofile=f"{unit.path} as the file has it"))


def _write(unit: UnitFile, folder: str) -> None:
    path = os.path.join(folder, unit.path)
    part = f"{path}.appd-{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(part, "x", encoding="utf-8") as file:
            file.write(unit.text)
        os.rename(part, path)
    except OSError as error:
        raise HostError(f"{path} cannot be written: {error.strerror}", number=error.errno) from None
