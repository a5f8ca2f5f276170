"""What can go wrong, by cause.

An error is for the person who has to act on it: one line that says what, where and what is allowed. Each class knows
the exit code of sysexits(3) that tells systemd and scripts whose turn it is; only the command line exits.
"""

from __future__ import annotations

import errno

from appd.startup.records import NamedTuple

__all__ = ["AppdError", "ConfigurationError", "HostError", "Place", "Problem", "UsageError", "of_the_host"]

EX_OK = 0
EX_USAGE = 64
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_IOERR = 74
EX_SUPERSEDED = 75
"""EX_TEMPFAIL: a reload whose place a later one took."""
EX_CONFIG = 78


class Place(NamedTuple):
    """Where something was written: a file and a line in it (0: the file as a whole)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Problem(NamedTuple):
    """One thing that a person must mend."""

    message: str
    place: Place | None = None
    traceback: str = ""
    """The traceback of hosted code, shown below the line; never one of ours."""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class AppdError(Exception):
    """The root of the tree.

    Attributes:
        problems: What is wrong, one line each, in the order of the file.
        exit_code: What the process exits with.
        errno: What sd_notify(3) tells as ERRNO=.
    """

    exit_code = EX_SOFTWARE
    errno = errno.EIO

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(Problem(one) if isinstance(one, str) else one for one in problems)
        super().__init__("\n".join(str(one) for one in self.problems))


class UsageError(AppdError):
    """The command line is wrong."""

    exit_code = EX_USAGE


class HostError(AppdError):
    """The host refuses: address in use, permission."""

    exit_code = EX_UNAVAILABLE
    errno = errno.EADDRNOTAVAIL

    def __init__(self, *problems: Problem | str, number: int | None = None) -> None:
        super().__init__(*problems)
        if number:
            self.errno = number


class ConfigurationError(AppdError):
    """A person must edit something: the file, a unit, or an application that does not import."""

    exit_code = EX_CONFIG
    errno = errno.EINVAL


def of_the_host(error: BaseException) -> HostError | None:
    """What `threading` raises where the host allows no further thread, which has no class of its own; else None."""
    if not isinstance(error, RuntimeError) or str(error) != "can't start new thread":
        return None
    line = "the host allows no further thread: TasksMax=, LimitNPROC= and the memory of the unit bound them"
    return HostError(line, number=errno.EAGAIN)
