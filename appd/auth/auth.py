"""One `<auth NAME>`: what is asked when somebody wants to log in, whatever the protocol.

The reckoning of a hash takes a tenth of a second and 64 MB. It runs in threads, some at a time, never in the reactor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from appd.auth.failures import Failures, peer_key
from appd.auth.keyfiles import KeyFiles
from appd.auth.ledger import Ledger
from appd.auth.passwords import PasswordFile, user_name
from appd.auth.remembered import Remembered

if TYPE_CHECKING:
    from appd.errors import Problem

__all__ = ["AT_ONCE", "Auth"]

# Hashes that are reckoned at one time in a process; each may take 64 MB.
AT_ONCE = 2
_SHOWN = 64


class Auth:
    """Who may log in.

    Args:
        name: What it is called.
        passwords: The file of passwords, None without one.
        keys: The files of SSH keys, None without.
        checkers: Twisted's credentials checkers, asked after the file.
        delay: What the first failure costs a peer, in seconds.
        warn: Called with a line for people and journal fields; any thread.
        ledger: Where failures are kept; None is in this process.

    Attributes:
        failures: Failures by peer.
        remembered: Credentials that were right a moment ago.
        reckoning: Held while a hash is reckoned in a thread.
        waiting: Logins that the reactor has given to threads.
        queue: What they stand in, a twisted.internet.defer.DeferredSemaphore; None before the first.
    """

    def __init__(
        self,
        name: str,
        passwords: PasswordFile | None = None,
        keys: KeyFiles | None = None,
        checkers: Sequence[Any] = (),
        delay: float = 1.0,
        warn: Callable[..., None] = lambda _line, **_fields: None,
        ledger: Ledger | None = None,
    ) -> None:
        self.name = name
        self.passwords = passwords
        self.keys = keys
        self.checkers = checkers
        self.failures = Failures(delay, ledger=ledger)
        self.remembered = Remembered()
        self.reckoning = threading.BoundedSemaphore(AT_ONCE)
        self.waiting = 0
        self.queue: Any = None
        self._warn = warn

    @property
    def version(self) -> object:
        """What credentials are verified against now; another after a change of the file."""
        if self.passwords is not None:
            self._tell(self.passwords.refresh())
            return self.passwords.stamp
        return None

    def check_password(
        self, user: str, password: bytes, patience: float = -1, late: Callable[[], bool] = lambda: False
    ) -> bool | None:
        """Whether the file has that password for that user. Takes a tenth of a second: for threads.

        Args:
            user: The name, as the client sent it.
            password: The password.
            patience: How long to wait for others whose hashes are reckoned, in seconds; -1 is for ever.
            late: Whether it is not to be looked at any more when its turn has come.

        Returns:
            None when that was too long, or it is late.
        """
        if self.passwords is None:
            return False
        self._tell(self.passwords.refresh())
        try:
            user = user_name(user)
        except ValueError:
            user = "\0"  # nobody's, and as much work
        if not self.reckoning.acquire(timeout=patience):
            return None
        try:
            return None if late() else self.passwords.check(user, password)
        finally:
            self.reckoning.release()

    def keys_of(self, user: str) -> Sequence[Any]:
        """The SSH keys of a user. Reads a file: for threads.

        Args:
            user: The name, as the client sent it.
        """
        if self.keys is None:
            return ()
        found = self.keys.keys_of(user)
        self._tell(found.problems)
        return found.keys

    def failed(self, user: str, peer: str, server: str, what: str = "password") -> float:
        """Notes and logs a failed login.

        Args:
            user: The name that was tried.
            peer: The address of who tried; "" without one.
            server: The name of the server.
            what: What was shown.

        Returns:
            How long the answer waits, in seconds.
        """
        key = peer_key(peer)
        count, wait = self.failures.failed(key)
        shown = user if len(user) <= _SHOWN else f"{user[:_SHOWN]}…"
        times = f"{count} times of late" if count > 1 else "for the first time"
        self._warn(
            f"{server}: login failed: {what} of {shown!r} from {peer or 'a UNIX socket'}, {times} (auth {self.name})",
            APPD_SERVER=server,
            APPD_PEER=peer or "unix",
        )
        return wait

    def _tell(self, problems: Sequence[Problem]) -> None:
        for one in problems:
            self._warn(f"auth {self.name}: {one}")
