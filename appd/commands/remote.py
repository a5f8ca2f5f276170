"""`appd reload`, `status` and `log-level`: the other end of the control socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from appd.control import INTERFACE, ControlError, Framing, control_path, decode_reply, encode_call
from appd.dates import day, minute
from appd.errors import AppdError, HostError, UsageError
from appd.troubles import Trouble, sentence

__all__ = ["ReloadFailed", "call", "find_socket", "format_status"]

# The status of a service with very many servers and workers, in bytes.
_DENIED = "permission denied: it takes root, the user of the service, or its group"
_MAX_ANSWER = 1 << 26

# The folders of the shipped units, when nothing says which is meant.
_SERVICE = "/run/appd/main/control"
_INSTANCE = "/run/appd/i-{}/control"


class ReloadFailed(AppdError):
    """The generation before was kept."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


def find_socket(path: str | None, instance: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The control socket that is meant.

    Args:
        path: `--socket`.
        instance: `--instance`.
        environ: RUNTIME_DIRECTORY and XDG_RUNTIME_DIR.
    """
    if path is not None:
        return path
    if instance is not None:
        return _INSTANCE.format(instance)
    if environ.get("RUNTIME_DIRECTORY"):
        return control_path(environ) or _SERVICE
    own = control_path(environ)
    return own if own is not None and os.path.exists(own) and not os.path.exists(_SERVICE) else _SERVICE


def call(path: str, method: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Calls a method and waits for its answer, however long that takes.

    Args:
        path: The control socket.
        method: Its name without the interface.
        parameters: Its parameters.

    Returns:
        What it answers.

    Raises:
        HostError: Nobody is there, or access is denied.
        ReloadFailed: The reload did not happen; its exit code is to be this process's.
        UsageError: The parameters are wrong.
    """
    framing = Framing(_MAX_ANSWER)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(path)
            connection.sendall(encode_call(f"{INTERFACE}.{method}", parameters))
            messages: list[bytes] = []
            while not messages:
                data = connection.recv(65536)
                if not data:
                    raise ConnectionResetError
                messages = framing.feed(data)
        except ControlError as error:
            raise HostError(f"{path}: {error}") from None
        except (ConnectionResetError, BrokenPipeError) as error:
            raise HostError(f"{path}: the service hung up without an answer", number=error.errno) from None
        except PermissionError as error:
            raise HostError(f"{path}: {_DENIED}", number=error.errno) from None
        except OSError as error:
            alone = "with --single and twistd there is none: reload needs the supervisor"
            others = f"--instance NAME and --socket PATH name others, `appd run --control PATH` makes one, {alone}"
            message = f"{path}: nobody is at the control socket: {error.strerror} (does the service run? {others})"
            raise HostError(message, number=error.errno) from None
    try:
        error_name, answer = decode_reply(messages[0])
    except ControlError as error:
        raise HostError(f"{path}: {error}") from None
    if error_name is None:
        return answer
    if error_name == f"{INTERFACE}.ReloadFailed":
        raise ReloadFailed(str(answer.get("reason")), int(answer.get("exit", 70)))
    if error_name == "org.varlink.service.PermissionDenied":
        raise HostError(f"{path}: {_DENIED}")
    raise UsageError(f"{path}: {error_name} {dict(answer)}")


def format_status(report: Mapping[str, Any]) -> str:
    """Writes what Status answered for people.

    Args:
        report: The answer.
    """
    workers = report["workers"]
    lines = [
        f"appd {report['version']}, PID {report['pid']}: {report['status']}",
        f"generation {report['generation']}, {report['restarts']} workers replaced, {report['recycled']} recycled, "
        f"{report['dropped']} log entries dropped",
    ]
    reload = report.get("reload")
    if reload:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(reload["at"]))
        lines.append(f"last reload {at}: {'done' if not reload['exit'] else 'failed'}, {reload['reason']}")
    for title in ("servers", "sockets"):
        lines.append(f"{title}: {', '.join(report[title]) or 'none'}")
    lines.append("")
    for one in report.get("certificates", ()):
        said = f"expires {day(one['expires'])}"
        if one.get("begins"):
            said = f"is not valid before {minute(one['begins'])}, {said}"
        lines.insert(-1, f"certificate of {one['name']} ({one['server']}, {one['path']}) {said}")
    lines[-1:-1] = [sentence(Trouble(**one)) for one in report.get("troubles", ())]
    if report["listening"]:
        lines += [*_table(("SERVER", "TYPE", "ADDRESS"), "<<<", _addresses(report["listening"])), ""]
    calls = ("SERVER", "MOUNT", "RUNNING", "QUEUED", "THREADS", "REFUSED", "CANCELLED")
    if report.get("calls"):
        lines += _table(calls, "<<>>>>>", [[one[title.lower()] for title in calls] for one in report["calls"]])
        lines.append("")
    titles = (
        *("WORKER", "PID", "GENERATION", "STATE", "AGE", "CONNECTIONS", "REQUESTS"),
        *("RUNNING", "QUEUED", "THREADS", "RSS", "RESTARTS", "RECYCLED"),
    )
    # A service of an earlier version says less.
    rows = [[one.get(title.lower(), 0) for title in ("NUMBER", *titles[1:])] for one in workers]
    for row in rows:
        row[4], row[10] = f"{row[4]:.0f} s", f"{row[10] // 1024} KB"
    lines += _table(titles, "<>><>>>>>>>>>", rows)
    return "\n".join(lines) + "\n"


def _addresses(listening: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """A row for each address; a server is named in its first."""
    return [
        ("", "", address) if number else (one["server"], one["type"], address)
        for one in listening
        for number, address in enumerate(one["addresses"] or ("none",))
    ]


def _table(titles: Sequence[str], sides: str, rows: Sequence[Sequence[Any]]) -> list[str]:
    """Columns as wide as they need to be.

    Args:
        titles: What is above each.
        sides: For each, `<` when it stands on the left, `>` on the right.
        rows: What is in them.
    """
    texts = [list(map(str, row)) for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  ".join(f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in texts
    ]
