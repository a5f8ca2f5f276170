"""The composition root of the supervisor: what it is made of, once the first worker is there."""

from __future__ import annotations

import gc
import os
import socket

from appd import __version__
from appd.errors import EX_SOFTWARE
from appd.messages import SUPERVISOR_RENEWED
from appd.startup.bare import partial
from appd.supervisor.beginning import work_and_leave
from appd.supervisor.directlog import DirectLog
from appd.supervisor.idle import WAKE
from appd.supervisor.mailbox import Mailbox
from appd.supervisor.operator import Operator
from appd.supervisor.places import remove_folder
from appd.supervisor.poller import Poller
from appd.supervisor.renewal import Renewal, kept_descriptors, own_files, read_state, take_signals
from appd.supervisor.supervisor import Supervisor
from appd.systemd.notify import Notifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appd.signals import StopSignals
    from appd.supervisor.beginning import Beginning
    from appd.systemd.activation import Inheritance

__all__ = ["resume", "supervise"]


def supervise(
    beginning: Beginning, work: Callable[[Inheritance | None], int], signals: StopSignals, notifier: Notifier
) -> int:
    """Runs the supervisor until the last worker has gone.

    Args:
        beginning: What there is already; see `appd.supervisor.beginning`.
        work: What a forked worker does; its result is the exit code.
        signals: The ending signals, which are noted by now.
        notifier: What tells systemd.

    Returns:
        The exit code.
    """
    log, poller = DirectLog(os.environ), Poller()
    try:
        go_on = partial(work_and_leave, work)
        supervisor = Supervisor(beginning.passed, go_on, beginning.mailbox, log, notifier, poller)
        listener = socket.socket(fileno=beginning.listener.detach())
        operator = Operator(supervisor, poller, beginning.control, listener)

        def begin() -> None:
            supervisor.rollout.start(beginning.first)
            # What came before anybody took signals.
            for number in signals.noted:
                poller.take_signal(number)
            supervisor.reap()

        return _supervise(supervisor, operator, notifier, begin)
    finally:
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
        workers = supervisor.rollout.workers()
        for one in workers:
            one.tell(WAKE)
        text = f"the supervisor goes on as appd {__version__}, with its {len(workers)} workers"
        log.write(text, MESSAGE_ID=SUPERVISOR_RENEWED)
        notifier.go_on(state["notifier"])
        supervisor.rollout.confirm()
        operator.go_on(control)
        # A worker that died meanwhile has not been told of by any signal of this program.
        take_signals(state["mask"], supervisor.reap)

    try:
        return _supervise(supervisor, operator, notifier, begin)
    finally:
        remove_folder(state["folder"])
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
