"""Whether the Maildir of Twisted works on Python 3: run as a program it ends with 0 if so.

That of 22.4 joins a path of bytes with names of text, and that of 24.11 still does.
"""

from __future__ import annotations

import sys
import tempfile

from twisted.mail.maildir import MaildirMailbox


def take_bytes() -> bool:
    """Whether one can be opened by a path of bytes."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            MaildirMailbox(f"{folder}/box".encode())
        except TypeError:
            return False
    return True


if __name__ == "__main__":
    sys.exit(0 if take_bytes() else 1)
