"""What a file says, as a message shows it: in one line, printable and cut.

A message goes to a terminal and into the journal, and what it quotes may be anything: control characters, a line of a
megabyte.
"""

from __future__ import annotations

from appd.address import ALLOWED_FORMS

__all__ = ["cleaned", "quoted", "shown"]

_WIDTH = 80
# An address that is refused is followed by all the forms that are allowed.
_LONGEST = 400 + len(ALLOWED_FORMS)


def quoted(text: str) -> str:
    """A text in quotes, as repr() has it, cut where it is long."""
    printed = repr(text)
    return printed if len(printed) <= _WIDTH else f"{printed[: _WIDTH - 2]}…{printed[-1]}"


def shown(text: str) -> str:
    """A name without quotes, cut where it is long."""
    printed = _printable(text)
    return printed if len(printed) <= _WIDTH else f"{printed[: _WIDTH - 1]}…"


def cleaned(message: str, value: str = "") -> str:
    """A message as it is kept, whoever wrote it.

    Args:
        message: What is wrong.
        value: The value that it is about; where the message quotes all of a long one, it is cut.
    """
    message = _printable(message.replace(repr(value), quoted(value)))
    if len(message) <= _LONGEST:
        return message
    # The end says what is allowed.
    return f"{message[: _LONGEST - len(ALLOWED_FORMS) - 100]} … {message[-len(ALLOWED_FORMS) - 90 :]}"


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
