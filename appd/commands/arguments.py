"""The words of the command line, for argparse."""

from __future__ import annotations

import argparse
import os
from typing import Any, NoReturn

from appd.address import Address, parse_bind
from appd.errors import EX_USAGE

__all__ = ["parser"]


class _Formatter(argparse.HelpFormatter):
    """Finds the width of the terminal without shutil, which imports bz2 and lzma: 4 ms and 0.5 MB of each start."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
        except (OSError, ValueError):
            columns = 80
        super().__init__(prog, width=max(columns - 2, 20))


class _Parser(argparse.ArgumentParser):
    """Exits with 64 for wrong usage, where argparse has 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(EX_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _BindAction(argparse.Action):
    """Collects --bind NAME=ADDRESS; a name may have several addresses."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        try:
            name, address = parse_bind(values)
        except ValueError as error:
            parser.error(str(error))
        binds: dict[str, list[Address]] = getattr(namespace, self.dest)
        binds.setdefault(name, []).append(address)


def parser() -> argparse.ArgumentParser:
    """The command line: also what the manual and the completions are made from."""
    top = _Parser(prog="appd", description="An application server for Linux hosts that run systemd.")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="serve what a configuration file says")
    run.add_argument("file", metavar="FILE", help="the configuration file")
    run.add_argument(
        "--bind",
        metavar="NAME=ADDRESS",
        action=_BindAction,
        default={},
        help="make the socket that systemd:name=NAME means, when systemd passed none of that name; repeatable",
    )
    run.add_argument(
        "--single", action="store_true", help="one worker alone, without the supervisor: no reload, one process"
    )
    run.add_argument("--control", metavar="PATH", help="where the control socket goes")

    check = commands.add_parser("check", help="say everything that is wrong with a configuration file")
    check.add_argument("file", metavar="FILE", help="the configuration file")
    check.add_argument("--units", metavar="DIR", help="compare with the .socket units in this folder too")
    check.add_argument("--connect", action="store_true", help="connect to what the file connects to: who is there?")

    types = commands.add_parser("types", help="list the server types and their keys")
    types.add_argument("name", metavar="NAME", nargs="?", help="the server type to describe")

    explain = commands.add_parser("explain", help="show descriptor, name, unit, server and factory of each address")
    explain.add_argument("file", metavar="FILE", help="the configuration file")
    explain.add_argument("--json", action="store_true", help="as JSON")

    units = commands.add_parser("units", help="make the .socket units that the <socket> sections of a file ask for")
    units.add_argument("file", metavar="FILE", help="the configuration file")
    units.add_argument("--output", metavar="DIR", help="write them into this folder of units")
    units.add_argument("--diff", action="store_true", help="show how the folder differs, and write nothing")

    passwd = commands.add_parser("passwd", help="give a user of a file of passwords a new one")
    passwd.add_argument("file", metavar="FILE", help="the file that an <auth> names; it is made when it is not there")
    passwd.add_argument("user", metavar="USER", help="the user; the password is asked for, or read from standard input")
    passwd.add_argument(
        "--bcrypt", action="store_true", help="a bcrypt hash, where others read the file too, not argon2"
    )
    passwd.add_argument("--delete", action="store_true", help="take the user away")

    new_type = commands.add_parser("new-type", help="write the package of a new server type: keys, code and a test")
    new_type.add_argument("name", metavar="NAME", help="the server type; the package goes into a new folder NAME")

    _add_control(commands)

    # A supervisor asks this of a new version of the program: whether it takes these arguments, and could go on.
    resumable = commands.add_parser("resumable")
    resumable.add_argument("arguments", nargs=argparse.REMAINDER)

    commands.add_parser("version", help="print the version")
    return top


def _add_control(commands: Any) -> None:
    """The commands that ask a running service."""
    for name, what in (
        ("status", "show generation, workers, servers and the last reload"),
        ("reload", "read the file and the code anew, and return when that serves or the old was kept"),
        ("log-level", "change the level of the log at run time"),
    ):
        control = commands.add_parser(name, help=what)
        which = control.add_mutually_exclusive_group()
        which.add_argument("--socket", metavar="PATH", help="the control socket")
        which.add_argument("--instance", metavar="NAME", help="the instance appd@NAME")
        if name == "status":
            control.add_argument("--json", action="store_true", help="as JSON")
        if name == "log-level":
            control.add_argument("level", metavar="LEVEL", choices=["debug", "info", "warning", "error", "critical"])
            control.add_argument("namespace", metavar="NAMESPACE", nargs="?", help="of one logger and those below it")
