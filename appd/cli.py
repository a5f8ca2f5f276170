"""argv → command.

Only this module and `__main__` read sys.argv or exit. The exit codes are those of sysexits(3): 0 done, 64 usage, 69 the
host refuses, 70 our fault, 78 a person must edit something.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from appd import __version__
from appd.address import Address, parse_bind
from appd.errors import EX_IOERR, EX_OK, EX_SOFTWARE, EX_USAGE, AppdError
from appd.signals import RESUME, Stopped, StopSignals
from appd.supervisor.spawn import CHANNEL

if TYPE_CHECKING:
    from appd.activation import Inheritance

__all__ = ["main", "parser"]


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
    run.set_defaults(act=_run)

    check = commands.add_parser("check", help="say everything that is wrong with a configuration file")
    check.add_argument("file", metavar="FILE", help="the configuration file")
    check.add_argument("--units", metavar="DIR", help="compare with the .socket units in this folder too")
    check.add_argument("--connect", action="store_true", help="connect to what the file connects to: who is there?")
    check.set_defaults(act=_check)

    types = commands.add_parser("types", help="list the server types and their keys")
    types.add_argument("name", metavar="NAME", nargs="?", help="the server type to describe")
    types.set_defaults(act=_types)

    explain = commands.add_parser("explain", help="show descriptor, name, unit, server and factory of each address")
    explain.add_argument("file", metavar="FILE", help="the configuration file")
    explain.add_argument("--json", action="store_true", help="as JSON")
    explain.set_defaults(act=_explain)

    units = commands.add_parser("units", help="make the .socket units that the <socket> sections of a file ask for")
    units.add_argument("file", metavar="FILE", help="the configuration file")
    units.add_argument("--output", metavar="DIR", help="write them into this folder of units")
    units.add_argument("--diff", action="store_true", help="show how the folder differs, and write nothing")
    units.set_defaults(act=_units)

    passwd = commands.add_parser("passwd", help="give a user of a file of passwords a new one")
    passwd.add_argument("file", metavar="FILE", help="the file that an <auth> names; it is made when it is not there")
    passwd.add_argument("user", metavar="USER", help="the user; the password is asked for, or read from standard input")
    passwd.add_argument(
        "--bcrypt", action="store_true", help="a bcrypt hash, where others read the file too, not argon2"
    )
    passwd.add_argument("--delete", action="store_true", help="take the user away")
    passwd.set_defaults(act=_passwd)

    _add_control(commands)

    # A supervisor asks this of a new version of the program: whether it takes these arguments, and could go on.
    resumable = commands.add_parser("resumable")
    resumable.add_argument("arguments", nargs=argparse.REMAINDER)
    resumable.set_defaults(act=_resumable)

    version = commands.add_parser("version", help="print the version")
    version.set_defaults(act=_version)
    return top


def _add_control(commands: Any) -> None:
    """The commands that ask a running service."""
    for name, act, what in (
        ("status", _status, "show generation, workers, servers and the last reload"),
        ("reload", _reload, "read the file and the code anew, and return when that serves or the old was kept"),
        ("log-level", _log_level, "change the level of the log at run time"),
    ):
        control = commands.add_parser(name, help=what)
        which = control.add_mutually_exclusive_group()
        which.add_argument("--socket", metavar="PATH", help="the control socket")
        which.add_argument("--instance", metavar="NAME", help="the instance appd@NAME")
        control.set_defaults(act=act)
        if name == "status":
            control.add_argument("--json", action="store_true", help="as JSON")
        if name == "log-level":
            control.add_argument("level", metavar="LEVEL", choices=["debug", "info", "warning", "error", "critical"])
            control.add_argument("namespace", metavar="NAMESPACE", nargs="?", help="of one logger and those below it")


def main(arguments: Sequence[str], signals: StopSignals) -> int:
    """Runs a command.

    Args:
        arguments: The command line without the program.
        signals: The ending signals; for `run` they raise `Stopped` already.

    Returns:
        The exit code.
    """
    try:
        options = parser().parse_args(arguments)
        code: int = options.act(options, signals)
    except AppdError as error:
        _complain(error)
        return error.exit_code
    except BrokenPipeError:
        # Nobody reads any more; what Python still holds goes nowhere at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_OK
    except OSError as error:
        # Of ours only the writing of a listing can fail so; everything else has its own words.
        print(f"appd: {error}", file=sys.stderr)
        return EX_IOERR
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def _complain(error: AppdError) -> None:
    for problem in error.problems:
        print(problem, file=sys.stderr)
        if problem.traceback:
            print(problem.traceback.rstrip(), file=sys.stderr)


def _run(options: argparse.Namespace, signals: StopSignals) -> int:
    if RESUME in os.environ:
        from appd.supervisor.root import resume

        return resume(int(os.environ.pop(RESUME)))
    if not options.single and CHANNEL not in os.environ:
        from appd.supervisor.root import supervise

        return supervise(lambda inheritance: _work(options, StopSignals(), inheritance), signals, options.control)
    return _work(options, signals)


def _work(options: argparse.Namespace, signals: StopSignals, inheritance: Inheritance | None = None) -> int:
    """Runs one worker in this process."""
    from appd import worker
    from appd.journal import Log

    signals.raise_when_told()
    log = Log()
    log.fields.update({key: os.environ[key] for key in ("APPD_GENERATION", "APPD_WORKER") if key in os.environ})
    log.start()
    try:
        code = worker.run(options.file, options.bind, log, signals, inheritance)
    except Stopped:
        code = EX_OK
    except Exception as error:
        log.write(f"appd has failed, which is a fault of its own: {type(error).__name__}: {error}", 2)
        _keep_traceback(log)
        code = EX_SOFTWARE
    log.close(5.0)
    return code


def _keep_traceback(log: Any) -> None:
    """For a report of the fault: at debug level, since users see no traceback of ours."""
    import traceback

    log.write(traceback.format_exc(), 7)


def _check(options: argparse.Namespace, _signals: StopSignals) -> int:
    from appd.check import check

    return check(options.file, options.units, sys.stdout, connect=options.connect)


def _units(options: argparse.Namespace, _signals: StopSignals) -> int:
    from appd.unitwriter import units

    return units(options.file, options.output, options.diff, sys.stdout)


def _types(options: argparse.Namespace, _signals: StopSignals) -> int:
    from appd.typelist import describe

    sys.stdout.write(describe(options.name))
    return EX_OK


def _explain(options: argparse.Namespace, _signals: StopSignals) -> int:
    from appd.explain import explain

    sys.stdout.write(explain(options.file, as_json=options.json))
    return EX_OK


def _call(options: argparse.Namespace, method: str, **parameters: Any) -> Any:
    from appd import remote

    return remote.call(remote.find_socket(options.socket, options.instance), method, parameters)


def _passwd(options: argparse.Namespace, _signals: StopSignals) -> int:
    from appd.auth.editing import passwd

    print(passwd(options.file, options.user, "bcrypt" if options.bcrypt else "argon2", options.delete))
    return EX_OK


def _status(options: argparse.Namespace, _signals: StopSignals) -> int:
    report = _call(options, "Status")
    if options.json:
        import json

        print(json.dumps(report, indent=2))
    else:
        from appd.remote import format_status

        sys.stdout.write(format_status(report))
    return EX_OK


def _reload(options: argparse.Namespace, _signals: StopSignals) -> int:
    answer = _call(options, "Reload")
    print(f"generation {answer['generation']} serves")
    return EX_OK


def _log_level(options: argparse.Namespace, _signals: StopSignals) -> int:
    _call(
        options, "SetLogLevel", level=options.level, **({"namespace": options.namespace} if options.namespace else {})
    )
    return EX_OK


def _resumable(options: argparse.Namespace, _signals: StopSignals) -> int:
    from appd.supervisor.renewal import StateError, read_state

    parser().parse_args(options.arguments)
    try:
        read_state(int(os.environ.pop(RESUME, "-1")))
    except StateError as error:
        print(error, file=sys.stderr)
        return EX_SOFTWARE
    return EX_OK


def _version(_options: argparse.Namespace, _signals: StopSignals) -> int:
    print(f"appd {__version__}")
    return EX_OK
