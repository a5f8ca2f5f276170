"""The words of sd_notify(3): built, sent, parsed.

Without NOTIFY_SOCKET in the environment everything here is silent.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appd.errors import AppdError

__all__ = ["Notifier", "compose", "parse"]

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

    Args:
        environ: Holds NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
        send: What sends one message: sd_notify(3).
    """

    def __init__(self, environ: Mapping[str, str] = os.environ, send: Any = None) -> None:
        self._wanted = "NOTIFY_SOCKET" in environ
        self._send = send or _sd_notify
        self.watchdog_interval = _watchdog_interval(environ)
        """How often to say WATCHDOG=1, in seconds; None when nobody waits for it."""

    def tell(self, fds: Sequence[int] = (), **words: Any) -> None:
        """Sends one message. A manager that cannot be reached is no reason to stop.

        Args:
            fds: Descriptors to pass with it, for FDSTORE=1; they stay the caller's.
            words: As for `compose`.
        """
        # A path in a message need not be UTF-8, and the message must be.
        message = compose(**words).encode("utf-8", "backslashreplace").decode()
        if self._wanted and message:
            try:
                self._send(message, fds)
            except OSError:
                # The manager restarts, or has gone with its namespace; its time-outs tell it what it missed.
                return

    def tell_failure(self, error: AppdError) -> None:
        """Tells why there will be no READY=1: the first problem, and how many more there are."""
        first = str(error.problems[0]) if error.problems else "unknown"
        more = f" (and {len(error.problems) - 1} more, see the journal)" if len(error.problems) > 1 else ""
        self.tell(status=f"cannot start: {first}{more}", errno=error.errno)


def _sd_notify(message: str, fds: Sequence[int] = ()) -> None:
    from systemd import daemon

    if fds:
        daemon.notify(message, fds=list(fds))
    else:
        daemon.notify(message)


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    # sd_watchdog_enabled(3): half of the time, and only for the process that is meant.
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000
