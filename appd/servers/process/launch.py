"""A program that becomes another one: what stands between fork(2) and the child of a `<process>`.

usage: python -IS launch.py PARENT PROGRAM [ARGUMENT…]

* LISTEN_PID must be the number of the program itself, which who forks does not know before; execve(2) keeps it.
* A session of its own, so that everything it starts can be ended with it.
* SIGTERM when the worker dies, PR_SET_PDEATHSIG of prctl(2). util-linux's setpriv does that too, and capset(2) on the
  way, which the sandbox of the shipped units forbids.
* What Python changes at its own start is undone: signals that it ignores, a variable of the locale that it sets.

It is run by path, in an interpreter of its own, and imports nothing of appd.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__: list[str] = []

_PR_SET_PDEATHSIG = 1
# What sd_listen_fds(3) leaves to the program.
_PID, _COUNT = b"LISTEN_PID", b"LISTEN_FDS"


def _main(parent: str, program: str, *arguments: str) -> str:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        return "the worker that starts it has gone"
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    # That of the process as it was begun; os.environ may have more by now.
    with open("/proc/self/environ", "rb") as file:
        pairs = [one.partition(b"=") for one in file.read().split(b"\0") if b"=" in one]
    environment = {name: value for name, _equals, value in pairs}
    if _COUNT in environment:
        environment[_PID] = str(os.getpid()).encode()
    try:
        os.execve(program, [program, *arguments], environment)
    except OSError as error:
        return f"{program}: {error.strerror}"


if __name__ == "__main__":
    print(f"<3>cannot start: {_main(*sys.argv[1:])}", file=sys.stderr)
    sys.exit(127)
