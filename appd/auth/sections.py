"""`<auth NAME>` sections → `Auth`, one for each in a worker; and what servers that name one get."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from appd import hosting
from appd.access import unreadable
from appd.auth import hashes
from appd.auth.auth import Auth
from appd.auth.keyfiles import KeyFiles
from appd.auth.ledger import Shared
from appd.auth.passwords import PasswordFile
from appd.config.settings import Settings
from appd.errors import ConfigurationError, Problem
from appd.tls.values import CREDENTIAL

if TYPE_CHECKING:
    from appd.interfaces import Host

__all__ = ["auth_of", "portals_of", "portals_or_problems", "prepare"]

_SHARED = "appd.auth"
_WARNING = 4


def prepare(host: Host) -> tuple[list[Problem], list[Problem]]:
    """Makes every `<auth>` of the file, and reads what each names.

    Args:
        host: What the process lends its servers; it keeps what is made.

    Returns:
        What is wrong, every problem at once; and what cannot be looked at here, which is no fault of the file.
    """
    problems: list[Problem] = []
    unseen: list[Problem] = []
    made: dict[str, Auth] = {}
    for one in host.settings.values.get("auths") or ():
        maker = _Maker(one, host)
        made[one.name.lower()] = maker.make()
        problems += maker.problems
        unseen += maker.unseen
    host.shared[_SHARED] = made
    # Where nothing is served, as in `appd check`, the user is often another one, and there are no credentials.
    return (problems, unseen) if host.log is None else ([*problems, *unseen], [])


def auth_of(settings: Settings, host: Host, attribute: str = "auth") -> Auth:
    """The `<auth>` that a key names.

    Args:
        settings: The section with the key, which has a value.
        host: What the process lends its servers.
        attribute: The key.

    Raises:
        ConfigurationError: There is none of that name.
    """
    wanted = settings.values[attribute]
    known: dict[str, Auth] = host.shared.get(_SHARED) or {}
    found = known.get(wanted.lower())
    if found is None:
        names = ", ".join(one.name for one in known.values())
        near = get_close_matches(wanted.lower(), known, n=1, cutoff=0.6)
        hint = f"did you mean {known[near[0]].name}?" if near else f"there is {names}" if names else "there is none"
        raise ConfigurationError(settings.problem(f"auth {wanted}: no <auth {wanted}> in the file; {hint}", attribute))
    return found


def portals_of(settings: Settings, host: Host, server: str, attribute: str = "auth") -> Callable[[Any, Any], Any]:
    """What makes the portals of twisted.cred for a server's connections.

    Args:
        settings: The section with the key.
        host: What the process lends its servers.
        server: The name of the server, for the log.
        attribute: The key.

    Returns:
        A callable: realm, and the transport or address of a connection → a twisted.cred.portal.Portal for that
        connection alone. It slows and logs failures, and reckons hashes in threads.

    Raises:
        ConfigurationError: As `auth_of`.
    """
    from appd.auth.portal import PeerPortal, host_of

    auth = auth_of(settings, host, attribute)
    return lambda realm, whose: PeerPortal(realm, auth, host_of(whose), server, host.reactor, host.threads)


def portals_or_problems(
    settings: Settings, host: Host, server: str
) -> tuple[Callable[[Any, Any], Any] | None, list[Problem]]:
    """As `portals_of`, for who has more problems to tell; None as well where the section has no `auth`."""
    if not settings.auth:
        return None, []
    try:
        return portals_of(settings, host, server), []
    except ConfigurationError as error:
        return None, list(error.problems)


class _Maker:
    """Makes one, and collects what is wrong with it."""

    def __init__(self, settings: Settings, host: Host) -> None:
        self.settings = settings
        self.problems: list[Problem] = []
        self.unseen: list[Problem] = []
        self._host = host

    def make(self) -> Auth:
        settings = self.settings
        given = [key for key in ("passwords", "authorized_keys", "checker") if settings.values[key]]
        if not given:
            message = f"<auth {settings.name}> lets nobody in: it needs passwords, authorized-keys or a checker"
            self.problems.append(settings.problem(message))
        log = self._host.log
        return Auth(
            settings.name or "",
            self._passwords() if settings.passwords else None,
            self._keys() if settings.authorized_keys else None,
            [one for number, text in enumerate(settings.checker) if (one := self._checker(number, text)) is not None],
            settings.failure_delay if settings.failure_delay is not None else 1.0,
            (lambda line, **fields: log.write(line, _WARNING, LOGGER="appd.auth", **fields))
            if log is not None
            else (lambda _line, **_fields: None),
            self._ledger(),
        )

    def _ledger(self) -> Shared | None:
        """Where failures are kept: in the folder that the workers of a supervisor share, for as long as it lives."""
        folder = self._host.shared.get("folder", "")
        if not folder:
            return None
        name = sha256((self.settings.name or "").lower().encode()).hexdigest()[:32]
        try:
            return Shared(os.path.join(folder, f"failures-{name}"))
        except OSError as error:
            if self._host.log is not None:
                what = f"auth {self.settings.name}: each worker counts failed logins for itself: {error.strerror}"
                self._host.log.write(what, _WARNING, LOGGER="appd.auth")
            return None

    def _wrong(self, key: str, message: str, unseen: bool = False) -> None:
        problem = self.settings.problem(f"auth {self.settings.name}: {message}", key)
        (self.unseen if unseen else self.problems).append(problem)

    def _passwords(self) -> PasswordFile | None:
        written: str = self.settings.passwords
        path = written
        if written.startswith(CREDENTIAL):
            folder = os.environ.get("CREDENTIALS_DIRECTORY")
            if not folder:
                reason = "this process has no credentials (CREDENTIALS_DIRECTORY is not set; see LoadCredential=)"
                self._wrong("passwords", f"passwords {written} is not checkable here: {reason}", unseen=True)
                return None
            path = os.path.join(folder, written.removeprefix(CREDENTIAL))
        file = PasswordFile(path, is_credential=path != written)
        try:
            self.problems += [one._replace(message=f"auth {self.settings.name}: {one.message}") for one in file.load()]
            for scheme in {hashed.split("$")[1][:3] for hashed in file.entries.values() if hashed}:
                hashes.require("argon2" if scheme == "arg" else "bcrypt")
        except PermissionError:
            self._wrong("passwords", f"passwords {path} is not checkable here: {unreadable()}", unseen=True)
        except ValueError as error:
            self._wrong("passwords", f"passwords {path}: {error}")
        except ConfigurationError as error:
            self._wrong("passwords", f"passwords {path}: {error.problems[0].message}")
        return file

    def _keys(self) -> KeyFiles:
        pattern = self.settings.authorized_keys
        keys = KeyFiles(pattern)
        try:
            import twisted.conch.ssh.keys  # noqa: F401  # what it needs is an extra, and said here
        except ImportError as error:
            self._wrong(
                "authorized_keys",
                f"SSH keys need a package that is not installed ({error.name}): python3-{error.name} of Debian, "
                "Twisted[conch] of PyPI (appd[ssh])",
            )
            return keys
        try:
            self.problems += keys.check()
        except PermissionError:
            reason = unreadable()
            self._wrong("authorized_keys", f"authorized-keys {pattern} is not checkable here: {reason}", unseen=True)
        except ValueError as error:
            self._wrong("authorized_keys", f"authorized-keys {pattern}: {error}")
        return keys

    def _checker(self, number: int, text: str | None) -> Any:
        if text is None:  # it did not convert, which has been said
            return None
        from twisted.cred import strcred

        kind = text.partition(":")[0]
        types = sorted({one.authType for one in strcred.findCheckerFactories()})
        if kind not in types:
            there = ", ".join(types)
            message = (
                f"auth {self.settings.name}: no checker of Twisted's or of a plugin is called {kind}; there are {there}"
            )
            self.problems.append(self.settings.problem(message, "checker", number))
            return None
        try:
            # Never the text: it may hold a password.
            return hosting.call(
                f"auth {self.settings.name}: checker {kind}",
                lambda: strcred.makeChecker(text),
                self.settings,
                "checker",
                number,
            )
        except ConfigurationError as error:
            self.problems += [one._replace(traceback="") for one in error.problems]
        return None
