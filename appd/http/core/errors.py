"""What can go wrong on a connection: by the client's fault, by the application's, or by ours."""

from __future__ import annotations

__all__ = ["AlreadyTold", "Incomplete", "Misuse", "Refused", "WrongState"]


class Refused(Exception):
    """The client sent what it must not send. Its connection ends: who frames one message badly may do so again.

    Attributes:
        status: The status of the answer.
        reason: One line for the log; never for the client, which may be somebody who looks for a way through.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class Misuse(ValueError):
    """The application gave a response that cannot be sent as it is."""


class Incomplete(Misuse):
    """The application gave less of a body than it announced: only a cut connection tells the client."""


class AlreadyTold(Exception):
    """What answers a request cannot go on, and the log knows why: the connection is cut, without another word."""


class WrongState(RuntimeError):
    """A call that the state of the connection does not allow: a bug in the driver."""
