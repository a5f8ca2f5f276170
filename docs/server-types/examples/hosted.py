"""What the examples name."""

import time
from pathlib import Path
from typing import ClassVar

from twisted.internet.protocol import Factory, Protocol
from twisted.protocols import amp
from twisted.spread import pb


class Square(amp.Command):
    """The square of a number."""

    arguments = ((b"number", amp.Integer()),)
    response = ((b"square", amp.Integer()),)
    errors: ClassVar = {ValueError: b"TOO_MUCH"}


class Squares(amp.CommandLocator):
    """Answers `Square` up to a bound."""

    def __init__(self, most: int = 100) -> None:
        self.most = most

    @Square.responder
    def square(self, number):
        if number > self.most:
            raise ValueError(f"more than {self.most}")
        return {"square": number * number}


class Greeter(pb.Root):
    """The root object: `greet` may be called."""

    def __init__(self, greeting: str = "hello") -> None:
        self.greeting = greeting

    def remote_greet(self, name):
        return f"{self.greeting} {name}"


def tidy(folder: Path, days: int) -> None:
    """Removes the files of a folder that nobody has written to for so many days."""
    for path in folder.iterdir():
        if path.is_file() and path.stat().st_mtime < time.time() - days * 86400:
            path.unlink()


class Motto(Protocol):
    """Says one line: RFC 865."""

    def connectionMade(self):
        self.transport.write(self.factory.text.encode() + b"\r\n")
        self.transport.loseConnection()


class MottoFactory(Factory):
    """Has the line."""

    protocol = Motto

    def __init__(self, text: str) -> None:
        self.text = text


class FingerprintFactory(Factory):
    """Tells a host key's fingerprint to who connects."""

    protocol = Motto

    def __init__(self, hostkey: Path) -> None:
        from twisted.conch.ssh.keys import FingerprintFormats, Key

        self.text = Key.fromFile(str(hostkey)).fingerprint(FingerprintFormats.SHA256_BASE64)


def shop():
    """Makes the application object: here the page that says appd works."""
    from appd.page import application

    return application
