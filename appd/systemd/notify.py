"""The words of sd_notify(3): built, sent, parsed.

Without NOTIFY_SOCKET in the environment everything here is silent.
"""

from __future__ import annotations

import errno as errno_
import os
import time

from appd.startup.bare import partial, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from appd.errors import AppdError

__all__ = ["MARK", "Notifier", "compose", "parse"]

# What a worker puts into each message for its supervisor. Hosted code may speak sd_notify(3) too, and for itself: a
# READY=1 or WATCHDOG=1 without it is not the worker's.
MARK = "X_APPD=1"

# systemd takes messages up to this size, less would do: a STATUS= is one line for people.
_MAX_STATUS = 1024


def compose(
    *,
    ready: bool = False,
    reloading: bool = False,
    stopping: bool = False,
    status: str | None = None,
    errno: int | None = None,
    watchdog: bool = False,
    extend_timeout: float | None = None,
    also: Mapping[str, str] | None = None,
    clock: Any = time.monotonic_ns,
) -> str:
    """Builds one message.

    Args:
        ready: READY=1: start-up is finished, or a reload is.
        reloading: RELOADING=1, with the MONOTONIC_USEC= that must go with it.
        stopping: STOPPING=1.
        status: STATUS=, one line for people; line ends become blanks.
        errno: ERRNO=, why it failed, an errno(3).
        watchdog: WATCHDOG=1: still alive.
        extend_timeout: EXTEND_TIMEOUT_USEC=: it takes at most so many seconds more.
        also: Further assignments: FDSTORE=1 and FDNAME=, or what a worker tells its supervisor (X_APPD_…).
        clock: CLOCK_MONOTONIC in nanoseconds.

    Returns:
        The message; "" when there is nothing to say.
    """
    lines = []
    if reloading:
        lines += ["RELOADING=1", f"MONOTONIC_USEC={clock() // 1000}"]
    if ready:
        lines.append("READY=1")
    if stopping:
        lines.append("STOPPING=1")
    if status is not None:
        lines.append(f"STATUS={' '.join(status.split())[:_MAX_STATUS]}")
    if errno is not None:
        lines.append(f"ERRNO={errno}")
    if watchdog:
        lines.append("WATCHDOG=1")
    if extend_timeout is not None:
        lines.append(f"EXTEND_TIMEOUT_USEC={int(extend_timeout * 1_000_000)}")
    lines += [f"{key}={' '.join(value.split())}" for key, value in (also or {}).items()]
    return "\n".join(lines)


def parse(message: bytes) -> dict[str, str]:
    """Reads a message: variable → value. Lines without `=` are passed over, the last of several wins, as in systemd."""
    text = message.decode("utf-8", "replace")
    return dict(line.split("=", 1) for line in text.split("\n") if "=" in line)


class Notifier:
    """Sends messages to the service manager, and knows what it expects.

    sd_notify(3) waits while the queue of the manager's socket is full, which is as long as the manager hangs. Here what
    cannot be sent waits in the process, and the caller never does.

    Args:
        environ: Holds NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
        send: What sends one message with its descriptors; it raises BlockingIOError when it would have to wait.

    Attributes:
        watchdog_interval: How often to say WATCHDOG=1, in seconds; None when nobody waits for it.
        when_blocked: Called when something waits, once until `flush` is called: to call that in a moment.
        mark: A line for the end of each message: `MARK` when a supervisor reads them.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ, send: Any = None) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._send: Callable[[str, Sequence[int]], object] = send or partial(_send, path)
        self._wanted = bool(path)
        self._waiting: list[tuple[str, Sequence[int]]] = []
        self._blocked = False
        self.watchdog_interval = _watchdog_interval(environ)
        self.when_blocked: Callable[[], object] = lambda: None
        self.mark = ""

    def tell(self, fds: Sequence[int] = (), **words: Any) -> None:
        """Sends one message. A manager that cannot be reached is no reason to stop.

        Args:
            fds: Descriptors to pass with it, for FDSTORE=1; they stay the caller's, and open.
            words: As for `compose`.
        """
        # A path in a message need not be UTF-8, and the message must be.
        message = compose(**words).encode("utf-8", "backslashreplace").decode()
        if not self._wanted or not message:
            return
        if self.mark:
            message += f"\n{self.mark}"
        if self._waiting and _is_news(message):
            # What is only of the moment takes the place of what was.
            self._waiting = [one for one in self._waiting if not _is_news(one[0])]
        self._waiting.append((message, fds))
        self._send_waiting()

    def keep(self) -> list[tuple[str, list[int]]]:
        """What has not been sent yet: each message and its descriptors."""
        return [(message, list(fds)) for message, fds in self._waiting]

    def go_on(self, known: Sequence[tuple[str, Sequence[int]]]) -> None:
        """Sends what another has not: what its `keep` said."""
        self._waiting = [(message, fds) for message, fds in known]
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as far as the manager takes it."""
        self._blocked = False
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting:
            try:
                self._send(*self._waiting[0])
            except OSError as error:
                if error.errno in _PASSING:
                    # One flush is due at a time, or each message of an hour's wait would bring its own.
                    if not self._blocked:
                        self._blocked = True
                        self.when_blocked()
                    return
                # The manager restarts, or has gone with its namespace; its time-outs tell it what it missed.
            del self._waiting[0]

    def tell_failure(self, error: AppdError) -> None:
        """Tells why there will be no READY=1: the first problem, and how many more there are."""
        first = str(error.problems[0]) if error.problems else "unknown"
        more = f" (and {len(error.problems) - 1} more, see the journal)" if len(error.problems) > 1 else ""
        exit_code = {"X_APPD_EXIT": str(error.exit_code)} if self.mark else None
        self.tell(status=f"cannot start: {first}{more}", errno=error.errno, also=exit_code)


# Another time it will do: the manager is busy, too many descriptors are on their way (unix(7)), or there is no
# descriptor or memory just now.
_PASSING = (errno_.EAGAIN, errno_.ETOOMANYREFS, errno_.EMFILE, errno_.ENFILE, errno_.ENOBUFS, errno_.ENOMEM)

# The words that a later message of the same kind makes worthless.
_NEWS = frozenset(
    [
        *("STATUS", "WATCHDOG", "EXTEND_TIMEOUT_USEC", "X_APPD", "X_APPD_CONNECTIONS", "X_APPD_REQUESTS"),
        *("X_APPD_DROPPED", "X_APPD_RUNNING", "X_APPD_QUEUED", "X_APPD_THREADS", "X_APPD_PENDING"),
    ]
)


def _is_news(message: str) -> bool:
    return {line.partition("=")[0] for line in message.split("\n")} <= _NEWS


def _send(path: str, message: str, fds: Sequence[int]) -> None:
    """One datagram, with a socket of its own, so that no fork inherits one."""
    address = "\0" + path[1:] if path.startswith("@") else path
    rights = []
    if fds:
        from array import array

        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))]
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sender.sendmsg([message.encode()], rights, socket.MSG_NOSIGNAL, address)
    finally:
        sender.close()


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    # sd_watchdog_enabled(3): half of the time, and only for the process that is meant.
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000
