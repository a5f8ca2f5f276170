"""Messages on their way into a maildir.

A message is kept once, whatever the number of its recipients: up to a size in memory, beyond that in an unnamed file.
It is in the maildir, on the disk, before the client is told so.
"""

from __future__ import annotations

import mailbox
import os
import re
import tempfile
from collections.abc import Callable
from typing import Any

from twisted.internet import threads
from twisted.mail.smtp import IMessage
from zope.interface import implementer

__all__ = ["Letter", "Maildirs", "Spool"]

_IN_MEMORY = 256 * 1024
# What becomes a part of a path: nothing that begins with a dot, no slash.
_LOCAL = re.compile(r"[a-z0-9_][a-z0-9_.=-]{0,63}\Z", re.A)


class Spool:
    """A message while it comes."""

    def __init__(self) -> None:
        self._file: Any = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # closed with the message
        self._users = 0

    def use(self) -> None:
        """One more recipient has it."""
        self._users += 1

    def write(self, line: bytes) -> None:
        """One more line."""
        self._file.write(line + b"\n")

    def read(self) -> bytes:
        """All of it."""
        self._file.seek(0)
        return bytes(self._file.read())

    def release(self) -> None:
        """A recipient has done with it; the last one closes the file."""
        self._users -= 1
        if not self._users:
            self._file.close()


@implementer(IMessage)
class Letter:
    """A message for one recipient.

    Args:
        spool: The message.
        keeps: Whether its lines are written to the spool: of one of the recipients only.
        sender: The address it comes from, "" for none.
        recipient: The address it is for.
        path: The maildir.
        in_thread: Has something called in a thread.
    """

    def __init__(
        self, spool: Spool, keeps: bool, sender: str, recipient: str, path: str, in_thread: Callable[..., Any]
    ) -> None:
        self._spool = spool
        self._keeps = keeps
        self._head = f"Return-Path: <{sender}>\nDelivered-To: {recipient}\n".encode()
        self._path = path
        self._in_thread = in_thread
        spool.use()

    def lineReceived(self, line: bytes) -> None:
        """See IMessage."""
        if self._keeps:
            self._spool.write(line)

    def eomReceived(self) -> Any:
        """See IMessage: fires when the message is on the disk."""
        return self._in_thread(self._deliver).addBoth(self._done)

    def _deliver(self) -> None:
        for one in ("tmp", "new", "cur"):
            # Maildir makes them only with the folder around them.
            os.makedirs(os.path.join(self._path, one), mode=0o700, exist_ok=True)
        box = mailbox.Maildir(self._path)
        # Maildir writes to tmp, syncs and links; the folder it is linked into is ours to sync.
        box.add(self._head + self._spool.read())
        fd = os.open(os.path.join(self._path, "new"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _done(self, result: Any) -> Any:
        self._spool.release()
        return result

    def connectionLost(self) -> None:
        """See IMessage: it does not come any more."""
        self._spool.release()


class Maildirs:
    """The maildirs of a section.

    Args:
        pattern: As `appd.servers.smtp.datatypes.maildir` gives it.
        reactor: The reactor.
        pool: The threads.
    """

    def __init__(self, pattern: str, reactor: Any, pool: Any) -> None:
        self._pattern = pattern
        self._reactor = reactor
        self._pool = pool
        self._by_user = "%" in pattern.replace("%%", "")

    def in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """A Deferred of what a call gives that waits for disks."""
        return threads.deferToThreadPool(self._reactor, self._pool, call, *arguments)

    def path_of(self, local: str, domain: str) -> str | None:
        """The maildir of an address; None when there is no such user. Waits for the disk.

        Args:
            local: What is before the @; `+` and what is behind it tell nothing of the user (RFC 5233).
            domain: What is behind it, one of the domains of the section.
        """
        user = local.lower().partition("+")[0]
        if not self._by_user:
            return self._pattern.replace("%%", "%")
        if not _LOCAL.match(user) or ".." in user:
            return None
        tokens = {"%u": user, "%d": domain, "%%": "%"}
        path = re.sub("%[ud%]", lambda match: tokens[match[0]], self._pattern)
        return path if os.path.isdir(path) else None
