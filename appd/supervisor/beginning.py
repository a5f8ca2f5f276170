"""`appd run` from its first line to its first worker.

A service that a connection has woken is waited for, and what answers is the worker. So it is forked as soon as there is
what it is given: the sockets and somebody who listens to it. What else the supervisor is made of is imported beside it,
a moment later, and what it has to copy of the memory of this process is little by now.
"""

from __future__ import annotations

import os
import select

from appd.control import control_path
from appd.ending import leave
from appd.errors import AppdError
from appd.signals import Stopped, StopSignals
from appd.startup.bare import partial
from appd.startup.codecache import forget
from appd.startup.records import NamedTuple
from appd.supervisor.mailbox import Mailbox
from appd.supervisor.places import control_listener, private_folder, remove_folder, who_answers
from appd.supervisor.spawn import Spawned, spawn_worker, worker_environ
from appd.systemd.activation import inherit
from appd.systemd.notify import Notifier
from appd.systemd.store import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from appd.systemd.activation import Inheritance

__all__ = ["Beginning", "begin"]

# So long, in milliseconds, the first worker has the processor for itself, unless it says something before.
_HEAD_START = 50


class Beginning(NamedTuple):
    """What there is when the supervisor is made.

    Attributes:
        passed: Name and descriptor of each socket that systemd passed, in its order.
        mailbox: The workers' NOTIFY_SOCKET.
        control: The path of the control socket.
        listener: That socket.
        first: The first worker; None where the host refused to start it, which is to be tried and told again.
    """

    passed: Sequence[tuple[str, int]]
    mailbox: Mailbox
    control: str
    listener: socket.socket
    first: Spawned | None


def begin(
    work: Callable[[Inheritance | None], int],
    signals: StopSignals,
    control: str | None,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Starts the first worker, and then runs the supervisor until the last worker has gone.

    Args:
        work: What a worker does, forked or alone with the descriptors that were passed; its result is the exit code.
        signals: The ending signals, raising `Stopped` until there is a worker.
        control: Where the control socket goes; None for the usual place.
        environ: What systemd says.

    Returns:
        The exit code.
    """
    notifier = Notifier(environ)
    folder = ""
    try:
        inheritance = inherit(environ)
        if any(one.kind == "connection" for one in inheritance.sockets):
            # Accept=yes: one connection, one process, which leaves with it.
            return work(inheritance)
        passed = [(one.name or "unknown", one.fd) for one in inheritance.sockets]
        folder = private_folder(environ)
        mailbox = Mailbox(folder)
        path = control or control_path(environ) or os.path.join(folder, "control")
        # What is run by hand may be one of several; what a unit says is meant, and others go by it.
        taken = not control and not environ.get("RUNTIME_DIRECTORY") and who_answers(path)
        if taken:
            own = os.path.join(folder, "control")
            _say(f"control socket {path}: {taken}: this one's is {own}", environ)
            path = own
        listener = control_listener(path)
        signals.note()
        signals.check()
        first = _start(passed, mailbox, listener, partial(work_and_leave, work))
        from appd.supervisor.root import supervise

        forget()

        return supervise(Beginning(passed, mailbox, path, listener, first), work, signals, notifier)
    except Stopped:
        notifier.tell(stopping=True, status="stopped before it served")
        return 0
    except AppdError as error:
        _complain(error, environ)
        notifier.tell(status=f"cannot start: {error.problems[0]}", errno=error.errno)
        return error.exit_code
    finally:
        remove_folder(folder)


def work_and_leave(work: Callable[[Inheritance | None], int]) -> None:
    """What a forked worker does, and does not return from."""
    leave(work(None), StopSignals())


def _start(
    passed: Sequence[tuple[str, int]], mailbox: Mailbox, listener: socket.socket, work: Callable[[], None]
) -> Spawned | None:
    # As the supervisor passes them to later ones: those of systemd's first, then those that appd bound.
    sockets = sorted(passed, key=lambda one: one[0].startswith(PREFIX))

    def detach() -> None:
        mailbox.socket.detach()
        listener.detach()

    try:
        first = spawn_worker(sockets, worker_environ(mailbox.path, 1, 1), work, detach)
    except OSError:
        return None
    heard = select.poll()
    heard.register(mailbox.socket, select.POLLIN)
    heard.register(first.channel, 0)  # the end of it is always told
    heard.poll(_HEAD_START)
    return first


def _say(warning: str, environ: Mapping[str, str]) -> None:
    from appd.supervisor.directlog import DirectLog

    log = DirectLog(environ)
    log.write(warning, 4)
    log.close()


def _complain(error: AppdError, environ: Mapping[str, str]) -> None:
    from appd.messages import CANNOT_START
    from appd.supervisor.directlog import DirectLog

    log = DirectLog(environ)
    for problem in error.problems:
        log.write(str(problem), 3, MESSAGE_ID=CANNOT_START)
    log.close()
