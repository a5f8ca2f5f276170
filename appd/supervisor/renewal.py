"""A supervisor whose own code has changed becomes the new one, in the same process, with the same workers.

After a reload that brought new workers, the files of the modules that this process has imported are compared with what
they were. If they differ, a child tries whether the new program can read the state of this one; only then is the new
one executed (execve(2) keeps process ID, children, descriptors, blocked and pending signals). It finds its state in a
memfd. The new code may be broken, or so old or so new that it does not know this format: then nothing has happened, but
one journal entry.
"""

from __future__ import annotations

import os
import signal
import sys

from appd.signals import RESUME
from appd.startup.bare import partial, suppress
from appd.supervisor.generation import Generation
from appd.supervisor.poller import describe_exit
from appd.supervisor.spawn import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from appd.supervisor.operator import Operator
    from appd.supervisor.supervisor import Supervisor
    from appd.systemd.notify import Notifier

__all__ = [
    "FORMAT",
    "Renewal",
    "StateError",
    "kept_descriptors",
    "own_files",
    "read_state",
    "take_signals",
    "write_state",
]

# Raised by one whenever a later version could not go on with what an earlier one wrote.
FORMAT = 1

# How long the new code may take to say that it can go on, in seconds.
_PATIENCE = 30.0


class StateError(ValueError):
    """This is no state that this version can go on with."""


def own_files() -> dict[str, tuple[int, int, int] | None]:
    """The files of the modules of appd that this process has imported, and what tells one from another in its place."""
    files = [
        file
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "appd" and (file := getattr(module, "__file__", None))
    ]
    return {file: _identity(file) for file in files}


def _identity(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def write_state(state: Mapping[str, Any]) -> int:
    """Writes a state into a memfd and returns its descriptor.

    Raises:
        OSError: There is no descriptor or no memory.
    """
    import json

    descriptor = os.memfd_create("state", os.MFD_CLOEXEC)
    with open(descriptor, "w", encoding="ascii", closefd=False) as file:
        json.dump(state, file)
    return descriptor


def read_state(descriptor: int) -> dict[str, Any]:
    """Reads what `write_state` wrote, and closes the descriptor.

    Raises:
        StateError: It is of another format, or what is needed is not in it.
    """
    import json

    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, encoding="ascii") as file:
        try:
            state: dict[str, Any] = json.load(file)
        except ValueError as error:
            raise StateError(f"the state cannot be read: {error}") from None
    found = state.get("format")
    if found != FORMAT:
        raise StateError(f"the state has format {found}, this version knows {FORMAT}")
    try:
        for one in (state["rollout"]["serving"], *state["rollout"]["draining"]):
            Generation.kept(one, lambda descriptor: descriptor)
        state["inherited"], state["folder"], state["mailbox"], state["control"], state["mask"]
    except (KeyError, TypeError, AttributeError) as error:
        raise StateError(f"the state cannot be used: {type(error).__name__} {error}") from None
    return state


class Renewal:
    """Decides when to become the new program, and does it.

    Args:
        supervisor: What is to go on.
        operator: Its control socket.
        notifier: What tells systemd; what still waits in it is sent by the new program.
        files: `own_files` of the start.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        operator: Operator,
        notifier: Notifier,
        files: Mapping[str, tuple[int, int, int] | None],
    ) -> None:
        self._supervisor = supervisor
        self._operator = operator
        self._notifier = notifier
        self._files = files
        self._generation = 0

    def begin(self) -> bool:
        """Has the new code tried when it is not the old one.

        Returns:
            Whether the end of that comes later; `Rollout.confirm` is called then.
        """
        rollout = self._supervisor.rollout
        if all(_identity(file) == identity for file, identity in self._files.items()) or rollout.serving is None:
            return False
        self._generation = rollout.serving.number
        try:
            self._try()
        except OSError as error:
            self._stay(f"it cannot be tried: {error.strerror}")
            return False
        return True

    def _try(self) -> None:
        report, state = os.memfd_create("report", os.MFD_CLOEXEC), -1
        try:
            state = write_state(self.state())

            def detach() -> None:
                self._supervisor.detach()
                for number in (1, 2):
                    os.dup2(report, number)

            # What comes before the command, as `python -I /usr/bin/`: sys.argv is what comes after the interpreter's.
            prefix = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
            command = [*prefix, "resumable", *sys.argv[1:]]
            pid = spawn([], [(RESUME, state)], {}, None, detach, command)
        except OSError:
            os.close(report)
            raise
        finally:
            if state >= 0:
                os.close(state)
        cancel = self._supervisor.poller.call_later(_PATIENCE, partial(_kill, pid))

        def ended(status: int) -> None:
            cancel()
            try:
                said = os.pread(report, 1 << 16, 0).decode("utf-8", "replace").strip()
            finally:
                os.close(report)
            self._tried(status, said)

        self._supervisor.children[pid] = ended

    def _tried(self, status: int, said: str) -> None:
        if status != 0:
            last = f": {said.splitlines()[-1]}" if said else ""
            self._stay(f"it {describe_exit(status)} when it was tried{last}")
            if self._is_current():
                self._supervisor.rollout.confirm()
        elif self._is_current():
            self._become()

    def _is_current(self) -> bool:
        """Whether the reload that this belongs to is the last: a later one brings the supervisor here again."""
        rollout = self._supervisor.rollout
        if rollout.coming is not None or rollout.stopping or rollout.serving is None:
            return False
        return rollout.serving.number == self._generation

    def _stay(self, reason: str) -> None:
        self._supervisor.log.write(f"appd itself has changed, but this supervisor stays as it was: {reason}", 4)

    def _become(self) -> None:
        try:
            self._execute()
        except OSError as error:
            self._stay(f"it cannot be executed: {error.strerror}")
            self._supervisor.rollout.confirm()

    def state(self) -> dict[str, Any]:
        """What the new program needs to go on."""
        supervisor = self._supervisor
        return {
            "format": FORMAT,
            "inherited": [*supervisor.inherited, *supervisor.store.items()],
            "folder": os.path.dirname(supervisor.mailbox.path),
            "mailbox": supervisor.mailbox.socket.fileno(),
            "control": self._operator.keep(),
            "dropped": supervisor.log.dropped,
            "notifier": self._notifier.keep(),
            "rollout": supervisor.rollout.keep(),
            "mask": [],
        }

    def _execute(self) -> None:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        descriptors: list[int] = []
        try:
            if self._supervisor.poller.signalled:
                # Taken from the kernel already, and known to this program alone: it is heard first.
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
                self._supervisor.poller.call_later(0.0, self._become)
                return
            state = self.state() | {"mask": sorted(int(one) for one in blocked)}
            descriptors = [*kept_descriptors(state), write_state(state)]
            for one in descriptors:
                os.set_inheritable(one, True)
            os.environ[RESUME] = str(descriptors[-1])
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        except OSError:
            for one in descriptors:
                os.set_inheritable(one, False)
            if descriptors:
                os.close(descriptors[-1])
            os.environ.pop(RESUME, None)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            raise


def kept_descriptors(state: Mapping[str, Any]) -> list[int]:
    """Every descriptor that a state names."""
    rollout, control = state["rollout"], state["control"]
    workers = [
        worker for one in (rollout["serving"], *rollout["draining"]) for worker in (*one["workers"], *one["beside"])
    ]
    generations = (rollout["serving"], *rollout["draining"])
    readings = [one.get("reading") for one in generations]
    return [
        *(one for one in readings if one is not None),
        *(fd for one in generations for fd in one.get("material", {}).values()),
        *(fd for _name, fd in state["inherited"]),
        *(state["mailbox"], control["listener"]),
        *(one["fd"] for one in control["connections"]),
        *(worker[key] for worker in workers for key in ("channel", "stacks")),
    ]


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def take_signals(mask: list[int], then: Callable[[], None]) -> None:
    """Unblocks the signals that were blocked over the execution.

    Args:
        mask: What was blocked before it.
        then: Called after it: for what no signal has told.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    then()
