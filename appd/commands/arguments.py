"""The words of the command line, for argparse."""

from __future__ import annotations

import argparse
import os
from typing import Any, NoReturn

from appd import __version__
from appd.address import Address, parse_bind
from appd.errors import EX_USAGE

__all__ = ["parser"]

# What a supervisor asks of a new version of the program; no command for people.
_RESUMABLE = "resumable"

_EXIT_STATUS = (
    "Exit status: 0 done; 64 wrong usage; 69 the host refuses (an address in use, a permission, nobody at the control "
    "socket); 70 a fault of appd's own; 74 the output cannot be written; 75 a later reload has taken the place of this "
    "one; 78 a person must edit something: the file, a unit, an application that does not import. "
    "More: `appd COMMAND --help`, appd(8), appd.conf(5)."
)


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

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Says which word was meant, and of the commands names only those for people."""
        if action.choices is not None and value not in action.choices:
            import difflib

            offered = [one for one in action.choices if one != _RESUMABLE]
            near = difflib.get_close_matches(value, offered, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(offered)}"
            raise argparse.ArgumentError(None, f"{action.metavar} {value!r} is unknown: {hint}")


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
    top = _Parser(
        prog="appd", description="An application server for Linux hosts that run systemd.", epilog=_EXIT_STATUS
    )
    top.add_argument("--version", action="version", version=f"appd {__version__}", help="print the version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    _add_run(commands)
    _add_file_commands(commands)

    types = _command(
        commands,
        "types",
        "list the server types and their keys",
        "Without NAME: every server type that is installed, and the keys of the file itself. Each key is shown with "
        "what it takes, its unit and its default. A size without a unit is in bytes.",
    )
    types.add_argument("name", metavar="NAME", nargs="?", help="the server type whose keys are shown")

    passwd = _command(
        commands,
        "passwd",
        "give a user of a file of passwords a new one",
        "The service reads the file again when it has changed.",
    )
    passwd.add_argument("file", metavar="FILE", help="the file that an <auth> names; it is made when it is not there")
    passwd.add_argument("user", metavar="USER", help="the user; the password is asked for, or read from standard input")
    passwd.add_argument(
        "--bcrypt", action="store_true", help="a bcrypt hash, where others read the file too, not argon2"
    )
    passwd.add_argument("--delete", action="store_true", help="take the user away")

    new_type = _command(commands, "new-type", "write the package of a new server type: keys, code and a test")
    new_type.add_argument("name", metavar="NAME", help="the server type; the package goes into a new folder NAME")

    _add_control(commands)
    commands.add_parser(_RESUMABLE).add_argument("arguments", nargs=argparse.REMAINDER)
    _command(commands, "version", "print the version")
    return top


def _command(commands: Any, name: str, what: str, more: str = "") -> Any:
    """A command, with its line in the list of all, and what else its own help and the manual say."""
    return commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}. {more}".strip())


def _add_run(commands: Any) -> None:
    run = _command(
        commands,
        "run",
        "serve what a configuration file says",
        "It stays in the foreground; SIGTERM or Ctrl-C ends it when what is in flight is done, SIGHUP reloads.",
    )
    run.add_argument("file", metavar="FILE", help="the configuration file")
    run.add_argument(
        "--bind",
        metavar="NAME=ADDRESS",
        action=_BindAction,
        default={},
        help="make the socket that systemd:name=NAME means, when systemd passed none of that name, like "
        "http=127.0.0.1:8080; repeatable",
    )
    run.add_argument(
        "--single", action="store_true", help="one worker alone, without the supervisor: no reload, one process"
    )
    run.add_argument(
        "--control",
        metavar="PATH",
        help="where the control socket goes; else it is `control` in $RUNTIME_DIRECTORY or in $XDG_RUNTIME_DIR/appd",
    )


def _add_file_commands(commands: Any) -> None:
    """The commands that read a file and serve nothing."""
    check = _command(
        commands,
        "check",
        "say everything that is wrong with a configuration file",
        "It needs no sockets and no rights, and writes nothing; hosted code is imported. 78 when something is wrong.",
    )
    check.add_argument("file", metavar="FILE", help="the configuration file")
    check.add_argument("--units", metavar="DIR", help="compare with the .socket units in this folder too")
    check.add_argument("--connect", action="store_true", help="connect to what the file connects to: say who is there")

    explain = _command(commands, "explain", "show descriptor, name, unit, server and factory of each address")
    explain.add_argument("file", metavar="FILE", help="the configuration file")
    explain.add_argument("--json", action="store_true", help="as JSON")

    units = _command(
        commands,
        "units",
        "make the .socket units that the <socket> sections of a file ask for",
        "Without an option they are printed.",
    )
    units.add_argument("file", metavar="FILE", help="the configuration file")
    units.add_argument(
        "--output",
        metavar="DIR",
        help="write them into this folder, like /etc/systemd/system, and say what comes next",
    )
    units.add_argument("--diff", action="store_true", help="show how the folder differs, and write nothing")


def _add_control(commands: Any) -> None:
    """The commands that ask a running service."""
    for name, what, more in (
        ("status", "show generation, workers, servers and the last reload", ""),
        (
            "reload",
            "read the file and the code anew, and return when that serves or the old was kept",
            "78 or 69 when the old was kept; the reason is printed.",
        ),
        ("log-level", "change the level of the log at run time", "It holds until the next start."),
    ):
        control = _command(commands, name, what, more)
        which = control.add_mutually_exclusive_group()
        which.add_argument(
            "--socket",
            metavar="PATH",
            help="the control socket; else that of appd.service, or of your `appd run`",
        )
        which.add_argument("--instance", metavar="NAME", help="the instance appd@NAME")
        if name == "status":
            control.add_argument("--json", action="store_true", help="as JSON")
        if name == "log-level":
            levels = ["debug", "info", "warning", "error", "critical"]
            control.add_argument("level", metavar="LEVEL", choices=levels, help=f"the least level: {', '.join(levels)}")
            control.add_argument("namespace", metavar="NAMESPACE", nargs="?", help="of one logger and those below it")
