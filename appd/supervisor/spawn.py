"""A child process that finds what systemd would have given it.

The first generation is forked and goes on in this process image: no second interpreter start. A later worker is forked
and executed anew, because a fork that imports a changed module beside an old one in memory dies. Either way the child
has the sockets on 3 and up, LISTEN_* and NOTIFY_SOCKET of its own, its end of the channel, and nothing else of the
supervisor's.

Only what is safe in a process without threads is done between fork(2) and execve(2).
"""

from __future__ import annotations

import os
import sys
import time

from appd.errors import EX_SOFTWARE, AppdError, HostError
from appd.startup.bare import signal, socket
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

__all__ = [
    "ASKS",
    "CHANNEL",
    "INSISTS",
    "MATERIAL",
    "READING",
    "STACKS",
    "Spawned",
    "end_with_parent",
    "spawn",
    "spawn_worker",
    "worker_environ",
]

# The variable that tells a process that it is a worker, and which descriptor its supervisor is behind.
CHANNEL = "APPD_CHANNEL"

# The variable that tells a worker which descriptor has what the file said that its generation was made of.
READING = "APPD_READING"

# The variables that tell a worker which descriptors have the certificates and keys that the first worker had last, and
# one of the others.
MATERIAL = ("APPD_MATERIAL", "APPD_MATERIAL_OF_OTHERS")

# The variable that tells a worker where its stacks go when it is killed for not answering.
STACKS = "APPD_STACKS"

# The signals that ask a worker where its threads are: Python, and faulthandler. Hosted code has no use for these.
ASKS = signal.SIGRTMIN + 3
INSISTS = signal.SIGRTMIN + 4

_LISTEN_FDS_START = 3
_PR_SET_PDEATHSIG = 1


class Spawned(NamedTuple):
    """A worker that was started.

    Attributes:
        pid: Its process ID.
        channel: The supervisor's end of its channel, which does not block.
        stacks: A memfd that its stacks are written to when it is aborted.
        started: When that was, in monotonic seconds.

    Resource handling: whoever gets it closes both.
    """

    pid: int
    channel: socket.socket
    stacks: int
    started: float


def worker_environ(mailbox: str, generation: int, number: int) -> dict[str, str]:
    """The variables that a worker gets.

    Args:
        mailbox: Where its supervisor hears it.
        generation: Its generation.
        number: Its place there, from 1.
    """
    return {"NOTIFY_SOCKET": mailbox, "APPD_GENERATION": str(generation), "APPD_WORKER": str(number)}


def spawn_worker(
    passed: Sequence[tuple[str, int]],
    environ: Mapping[str, str],
    go_on: Callable[[], object] | None,
    detach: Callable[[], None],
    others: Sequence[tuple[str, int]] = (),
) -> Spawned:
    """Starts a worker with a channel to it.

    Args:
        passed: As for `spawn`, like the others.
        environ: See there.
        go_on: See there.
        detach: See there.
        others: See there; beside its channel and where its stacks go.

    Raises:
        OSError: There can be no further process, or no descriptor.
    """
    stacks = os.memfd_create("stacks", os.MFD_CLOEXEC)
    try:
        ours, theirs = socket.socketpair()
    except OSError:
        os.close(stacks)
        raise
    ours.setblocking(False)

    def forget() -> None:
        ours.detach()
        theirs.detach()
        detach()

    try:
        pid = spawn(passed, ((CHANNEL, theirs.fileno()), (STACKS, stacks), *others), environ, go_on, forget)
    except OSError:
        os.close(stacks)
        ours.close()
        raise
    finally:
        theirs.close()
    return Spawned(pid, ours, stacks, time.monotonic())


def spawn(
    passed: Sequence[tuple[str, int]],
    others: Sequence[tuple[str, int]],
    environ: Mapping[str, str],
    go_on: Callable[[], object] | None,
    detach: Callable[[], None],
    arguments: Sequence[str] | None = None,
) -> int:
    """Starts a worker.

    Args:
        passed: Name and descriptor of each socket, in the order of LISTEN_FDS.
        others: Variable and descriptor of what else the child gets; the variable says its number.
        environ: Variables to set, beside LISTEN_* and those.
        go_on: What the child does in this process image, and does not return from. None executes the program anew.
        detach: Called in the child: makes the supervisor's objects forget their descriptors.
        arguments: The command line of what is executed, without the interpreter; that of this process without it.

    Returns:
        The process ID.

    Raises:
        OSError: There can be no further process.
    """
    # No signal may meet the supervisor's handlers in the child.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            command = [sys.executable, *(sys.orig_argv[1:] if arguments is None else arguments)]
            _child(passed, others, environ, go_on, detach, blocked, command)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _child(
    passed: Sequence[tuple[str, int]],
    others: Sequence[tuple[str, int]],
    environ: Mapping[str, str],
    go_on: Callable[[], object] | None,
    detach: Callable[[], None],
    mask: set[int | signal.Signals],
    command: list[str],
) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # Until it has handlers of its own. `systemctl kill` sends SIGHUP to every process, and a reload is not to end a
        # worker that it has just begun.
        for one in (signal.SIGHUP, ASKS, INSISTS):
            signal.signal(one, signal.SIG_IGN)
        detach()
        _arrange([fd for _name, fd in (*passed, *others)])
        os.environ.update(environ)
        for key in ("WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            if key not in environ:
                os.environ.pop(key, None)
        numbers = [_LISTEN_FDS_START + len(passed) + number for number in range(len(others))]
        os.environ.update({key: str(number) for (key, _fd), number in zip(others, numbers, strict=True)})
        if passed:
            os.environ["LISTEN_PID"] = str(os.getpid())
            os.environ["LISTEN_FDS"] = str(len(passed))
            os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _fd in passed)
        if go_on is None:
            end_with_parent()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execv(command[0], command)
        for fd in numbers:
            os.set_inheritable(fd, False)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        go_on()
    except Exception as error:
        if isinstance(error, OSError) and go_on is None:
            error = HostError(f"{command[0]} cannot be executed: {error.strerror}", number=error.errno)
        _complain(error, environ)
        os._exit(error.exit_code if isinstance(error, AppdError) else EX_SOFTWARE)
    finally:
        os._exit(EX_SOFTWARE)


def _complain(error: Exception, environ: Mapping[str, str]) -> None:
    """In a child that cannot go on: says why, for people and for the supervisor."""
    from appd.supervisor.directlog import DirectLog
    from appd.systemd.notify import MARK, Notifier

    if not isinstance(error, AppdError):
        error = AppdError(f"{type(error).__name__}: {error}")
    DirectLog(os.environ).write(str(error), 3)
    notifier = Notifier(environ)
    notifier.mark = MARK
    notifier.tell_failure(error)


def _arrange(wanted: Sequence[int]) -> None:
    """Puts descriptors on 3 and up, and closes everything else."""
    end = _LISTEN_FDS_START + len(wanted)
    high = [_above(fd, end) for fd in wanted]
    for place, fd in enumerate(high, _LISTEN_FDS_START):
        os.dup2(fd, place)
    for name in os.listdir("/proc/self/fd"):
        if int(name) >= end:
            try:
                os.close(int(name))
            except OSError:
                continue  # the listing's own


def _above(fd: int, end: int) -> int:
    """A duplicate with a number from `end` on. What it takes below lies where a descriptor is put next."""
    while (found := os.dup(fd)) < end:
        pass
    return found


def end_with_parent() -> None:
    """SIGTERM when the supervisor dies, whatever this process is doing then: prctl(2).

    One that has died before this process could ask who it is is found out by the end of the channel. A worker that was
    forked calls this itself, after it has begun to serve: ctypes takes longer to import than an answer takes.
    """
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
