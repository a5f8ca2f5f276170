"""Twisted factories of a user."""

import time

from twisted.internet.protocol import Factory, Protocol

__all__ = ["GreetingFactory", "SleepyFactory"]


class _Greeting(Protocol):
    def connectionMade(self) -> None:
        self.transport.write(f"{self.factory.words}\n".encode())
        self.transport.loseConnection()


class GreetingFactory(Factory):
    """Says one line and hangs up.

    Args:
        words: The line.
    """

    protocol = _Greeting

    def __init__(self, words: str = "hello") -> None:
        self.words = words


class _Sleepy(Protocol):
    def connectionMade(self) -> None:
        self.transport.write(b"awake\n")

    def dataReceived(self, data: bytes) -> None:
        time.sleep(3600)


class SleepyFactory(Factory):
    """Blocks the reactor as soon as somebody speaks to it."""

    protocol = _Sleepy
