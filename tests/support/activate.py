"""Passes descriptors to a program as systemd does: on 3 and up, with LISTEN_PID its own.

usage: activate.py FDS NAMES PROGRAM [ARGUMENT…]    FDS and NAMES are joined by `:`; NAMES may be `-` for no LISTEN_FDNAMES
"""

import os
import sys


def main() -> None:
    fds = [int(one) for one in sys.argv[1].split(":") if one]
    names, program = sys.argv[2], sys.argv[3:]
    spare = [os.dup(fd) for fd in fds]
    high = [os.dup2(fd, 200 + number) for number, fd in enumerate(spare)]
    for number, fd in enumerate(high):
        os.dup2(fd, 3 + number)
        os.set_inheritable(3 + number, True)
    if fds:
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(fds))
        if names != "-":
            os.environ["LISTEN_FDNAMES"] = names
    os.closerange(3 + len(fds), 1024)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
