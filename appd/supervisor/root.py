"""`appd run`: the composition root of the supervisor."""

from __future__ import annotations

import gc
import os
import socket
from contextlib import suppress

from appd import __version__
from appd.activation import Inheritance, inherit
from appd.control import control_path
from appd.ending import leave
from appd.errors import EX_SOFTWARE, AppdError, HostError
from appd.messages import CANNOT_START, SUPERVISOR_RENEWED
from appd.notify import Notifier
from appd.signals import Stopped, StopSignals
from appd.supervisor.directlog import DirectLog
from appd.supervisor.idle import WAKE
from appd.supervisor.mailbox import Mailbox
from appd.supervisor.operator import Operator, listen_at
from appd.supervisor.poller import Poller
from appd.supervisor.renewal import Renewal, kept_descriptors, own_files, read_state, take_signals
from appd.supervisor.supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["private_folder", "resume", "supervise"]

# What fits into sun_path with its final NUL: unix(7).
_MAX_PATH = 107


def supervise(
    work: Callable[[Inheritance | None], int],
    signals: StopSignals,
    control: str | None,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Runs the supervisor until the last worker has gone.

    Args:
        work: What a worker does, forked or alone with the descriptors that were passed; its result is the exit code.
        signals: The ending signals, raising `Stopped` until the loop runs.
        control: Where the control socket goes; None for the usual place.
        environ: What systemd says.

    Returns:
        The exit code.
    """
    notifier = Notifier(environ)
    log = DirectLog(environ)
    folder = ""
    try:
        inheritance = inherit(environ)
        if any(one.kind == "connection" for one in inheritance.sockets):
            # Accept=yes: one connection, one process, which leaves with it.
            return work(inheritance)
        names = [(one.name or "unknown", one.fd) for one in inheritance.sockets]
        folder = private_folder(environ)
        signals.check()
        poller = Poller()
        supervisor = Supervisor(names, lambda: leave(work(None), StopSignals()), Mailbox(folder), log, notifier, poller)
        path = control or control_path(environ) or os.path.join(folder, "control")
        return _supervise(supervisor, Operator(supervisor, poller, path, _listener(path)), notifier)
    except Stopped:
        notifier.tell(stopping=True, status="stopped before it served")
        return 0
    except AppdError as error:
        for problem in error.problems:
            log.write(str(problem), 3, MESSAGE_ID=CANNOT_START)
        notifier.tell(status=f"cannot start: {error.problems[0]}", errno=error.errno)
        return error.exit_code
    finally:
        _remove(folder)
        log.close()


def resume(descriptor: int, environ: Mapping[str, str] = os.environ) -> int:
    """Goes on where an earlier version of the program stopped, which executed this one: see `renewal`.

    Args:
        descriptor: Where it left its state.
        environ: What systemd says.

    Returns:
        The exit code.
    """
    state = read_state(descriptor)
    for one in kept_descriptors(state):
        os.set_inheritable(one, False)
    notifier, log, poller = Notifier(environ), DirectLog(environ), Poller()
    log.dropped = state["dropped"]
    inherited = [(name, fd) for name, fd in state["inherited"]]
    mailbox = Mailbox(state["folder"], state["mailbox"])
    supervisor = Supervisor(inherited, lambda: None, mailbox, log, notifier, poller)
    control = state["control"]
    operator = Operator(supervisor, poller, control["path"], socket.socket(fileno=control["listener"]))

    def begin() -> None:
        supervisor.rollout.go_on(state["rollout"], _channel)
        supervisor.rollout.tell_workers(WAKE)
        text = f"the supervisor goes on as appd {__version__}, with its {len(supervisor.rollout.workers())} workers"
        log.write(text, MESSAGE_ID=SUPERVISOR_RENEWED)
        notifier.go_on(state["notifier"])
        supervisor.rollout.confirm()
        operator.go_on(control)
        # A worker that died meanwhile has not been told of by any signal of this program.
        take_signals(state["mask"], supervisor.reap)

    try:
        return _supervise(supervisor, operator, notifier, begin)
    finally:
        _remove(state["folder"])
        log.close()


def _supervise(
    supervisor: Supervisor, operator: Operator, notifier: Notifier, begin: Callable[[], None] | None = None
) -> int:
    supervisor.forked.append(operator.detach)
    supervisor.rollout.renew = Renewal(supervisor, operator, notifier, own_files()).begin
    try:
        gc.freeze()
        gc.enable()
        return supervisor.run(begin)
    except Exception as error:
        # The workers drain when this process has gone, and systemd starts it again.
        what = f"{type(error).__name__}: {error} ({_place(error)})"
        supervisor.log.write(f"the supervisor has failed, which is a fault of appd's own: {what}", 2)
        return EX_SOFTWARE
    finally:
        operator.close()


def _place(error: BaseException) -> str:
    """Where it was raised, for a report of the fault: users see no traceback of ours."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f"{os.path.basename(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}" if frame is not None else ""


def _channel(descriptor: int) -> socket.socket:
    made = socket.socket(fileno=descriptor)
    made.setblocking(False)
    return made


def _remove(folder: str) -> None:
    # Whoever removed it already has done what is done here.
    with suppress(OSError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def _listener(path: str) -> socket.socket:
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return listen_at(path)
    except OSError as error:
        raise HostError(f"control socket {path}: {error.strerror}", number=error.errno) from None


def private_folder(environ: Mapping[str, str]) -> str:
    """Makes a folder of mode 0700 for the sockets of this process; the caller removes it.

    Args:
        environ: RUNTIME_DIRECTORY (systemd.exec(5), the first of a list), else XDG_RUNTIME_DIR, else /tmp holds it.

    Raises:
        HostError: It cannot be made.
    """
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    base = runtime or environ.get("XDG_RUNTIME_DIR") or "/tmp"
    folder = os.path.join(base, f"appd-{os.getpid()}-{os.urandom(6).hex()}")
    if len(folder) + len("/control") > _MAX_PATH:
        raise HostError(f"{base}: its path is too long to hold a socket: set RUNTIME_DIRECTORY to a shorter one")
    try:
        os.mkdir(folder, 0o700)
    except OSError as error:
        hint = "RuntimeDirectory= of the unit makes one, XDG_RUNTIME_DIR names one"
        raise HostError(f"no folder for sockets in {base}: {error.strerror} ({hint})", number=error.errno) from None
    return folder
