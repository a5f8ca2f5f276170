"""argv → command.

Only this module and `__main__` read sys.argv or exit. The exit codes are those of sysexits(3): 0 done, 64 usage, 69 the
host refuses, 70 our fault, 74 standard output cannot be written, 75 a later reload came first, 78 a person must edit
something.
"""

from __future__ import annotations

import os
import sys

from appd import __version__
from appd.address import Address, parse_bind
from appd.errors import EX_IOERR, EX_OK, EX_SOFTWARE, EX_USAGE, AppdError, of_the_host
from appd.signals import RESUME, Stopped, StopSignals
from appd.startup.bare import signal
from appd.startup.records import NamedTuple
from appd.supervisor.spawn import CHANNEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from appd.systemd.activation import Inheritance

__all__ = ["RunOptions", "main", "parser", "plain_run"]


class RunOptions(NamedTuple):
    """The command line of `appd run`.

    Attributes:
        file: The configuration file.
        bind: Name → addresses.
        single: Whether there is no supervisor.
        control: Where the control socket goes; None for the usual place.
    """

    file: str
    bind: Mapping[str, Sequence[Address]] = {}  # nobody writes to it
    single: bool = False
    control: str | None = None


def plain_run(arguments: Sequence[str]) -> RunOptions | None:
    """Reads the usual form of `run`, as units have it: argparse takes its time, and nothing is to be asked of it.

    Args:
        arguments: The command line without the program.

    Returns:
        None where it is anything else, or anything is wrong with it.
    """
    if arguments[:1] != ["run"]:
        return None
    rest = list(arguments[:0:-1])
    files: list[str] = []
    binds: dict[str, list[Address]] = {}
    single, control = False, None
    while rest:
        one = rest.pop()
        if one == "--single":
            single = True
        elif one in ("--bind", "--control") and rest and not rest[-1].startswith("-"):
            value = rest.pop()
            if one == "--control":
                control = value
                continue
            try:
                name, address = parse_bind(value)
            except ValueError:
                return None
            binds.setdefault(name, []).append(address)
        elif one.startswith("-"):
            return None
        else:
            files.append(one)
    return RunOptions(files[0], binds, single, control) if len(files) == 1 else None


def parser() -> argparse.ArgumentParser:
    """The command line as argparse has it: also what the manual and the completions are made from."""
    from appd.commands import arguments

    return arguments.parser()


def _act(arguments: Sequence[str], signals: StopSignals) -> int:
    run = plain_run(arguments)
    if run is not None:
        return _run(run, signals)
    words = parser()
    options = words.parse_args(arguments)
    if options.command is None:
        words.print_help(sys.stderr)
        return EX_USAGE
    if options.command == "run":
        return _run(RunOptions(options.file, options.bind, options.single, options.control), signals)
    return _ACTS[options.command](options)


def main(arguments: Sequence[str], signals: StopSignals) -> int:
    """Runs a command.

    Args:
        arguments: The command line without the program.
        signals: The ending signals; for `run` they raise `Stopped` already.

    Returns:
        The exit code.
    """
    try:
        code = _act(arguments, signals)
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


def _run(options: RunOptions, signals: StopSignals) -> int:
    if RESUME in os.environ:
        from appd.supervisor.root import resume

        return resume(int(os.environ.pop(RESUME)))
    if not options.single and CHANNEL not in os.environ:
        from appd.supervisor.beginning import begin

        # Forked is only the very first worker.
        return begin(lambda inheritance: _work(options, StopSignals(), inheritance), signals, options.control)
    return _work(options, signals, cold=CHANNEL not in os.environ)


def _work(
    options: RunOptions, signals: StopSignals, inheritance: Inheritance | None = None, *, cold: bool = True
) -> int:
    """Runs one worker in this process.

    Args:
        options: What the command line says.
        signals: The ending signals.
        inheritance: What systemd passed; without it it is looked up in the environment.
        cold: Whether nobody else serves.
    """
    from appd.journal import Log
    from appd.worker import worker

    signals.raise_when_told()
    log = Log()
    log.fields.update({key: os.environ[key] for key in ("APPD_GENERATION", "APPD_WORKER") if key in os.environ})
    try:
        log.start()
    except RuntimeError as error:
        raise of_the_host(error) or error from None
    try:
        code = worker.run(options.file, options.bind, log, signals, inheritance, cold=cold)
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


def _check(options: argparse.Namespace) -> int:
    from appd.commands.check import check

    return check(options.file, options.units, sys.stdout, connect=options.connect)


def _units(options: argparse.Namespace) -> int:
    from appd.commands.unitwriter import units

    return units(options.file, options.output, options.diff, sys.stdout)


def _types(options: argparse.Namespace) -> int:
    from appd.commands.typelist import describe

    sys.stdout.write(describe(options.name))
    return EX_OK


def _explain(options: argparse.Namespace) -> int:
    from appd.commands.explain import explain

    sys.stdout.write(explain(options.file, as_json=options.json))
    return EX_OK


def _call(options: argparse.Namespace, method: str, **parameters: Any) -> Any:
    from appd.commands import remote

    return remote.call(remote.find_socket(options.socket, options.instance), method, parameters)


def _passwd(options: argparse.Namespace) -> int:
    from appd.auth.editing import passwd

    print(passwd(options.file, options.user, "bcrypt" if options.bcrypt else "argon2", options.delete))
    return EX_OK


def _new_type(options: argparse.Namespace) -> int:
    from appd.commands.newtype import new_type

    print(new_type(options.name))
    return EX_OK


def _status(options: argparse.Namespace) -> int:
    report = _call(options, "Status")
    if options.json:
        import json

        print(json.dumps(report, indent=2))
    else:
        from appd.commands.remote import format_status

        sys.stdout.write(format_status(report))
    return EX_OK


def _reload(options: argparse.Namespace) -> int:
    answer = _call(options, "Reload")
    print(f"generation {answer['generation']} serves")
    return EX_OK


def _log_level(options: argparse.Namespace) -> int:
    _call(
        options, "SetLogLevel", level=options.level, **({"namespace": options.namespace} if options.namespace else {})
    )
    return EX_OK


def _resumable(options: argparse.Namespace) -> int:
    from appd.supervisor.renewal import StateError, read_state

    parser().parse_args(options.arguments)
    try:
        read_state(int(os.environ.pop(RESUME, "-1")))
    except StateError as error:
        print(error, file=sys.stderr)
        return EX_SOFTWARE
    return EX_OK


def _version(_options: argparse.Namespace) -> int:
    print(f"appd {__version__}")
    return EX_OK


_ACTS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "check": _check,
    "explain": _explain,
    "log-level": _log_level,
    "new-type": _new_type,
    "passwd": _passwd,
    "reload": _reload,
    "resumable": _resumable,
    "status": _status,
    "types": _types,
    "units": _units,
    "version": _version,
}
